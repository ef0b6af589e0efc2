"""Map files of a training: mean log-Jacobians, agreement of the folds, and sanity checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.constants import DIRECTIONS, SIGN
from bids_interp.evaluation.stability import stability_maps
from bids_interp.spatial.grid import Grid
from bids_interp.training.fold import FoldResult
from bids_interp.training.sanity import Sanity

_MEAN = (
    'Mean log-Jacobian of simulations of validation images at dose 1. weights: volume change by '
    'which a smooth velocity moves the score most; it describes the classifier, not the disease. '
    'audit: of simulators trained without transformations, which show what moves this very '
    'classifier.'
)
_CHECKS = {
    'original': 'against the classifier of the fold',
    'randomised': 'against that classifier with its last layers (their number is in the name) '
    'replaced by noise',
    'permuted_labels': 'against a classifier that was trained with exchanged labels',
    'second_seed': 'against a classifier that was trained from another seed',
}
_AGREEMENT = {
    'sd': 'Standard deviation between the folds of their mean log-Jacobian (divided by n - 1).',
    'samesign': 'Share of the folds whose mean log-Jacobian has the sign of the mean over folds.',
}


def mean_map_file(folder: Path, space: str, name: str) -> Path:
    """Return the file of a mean map (``inject``, ``remove``, ``weights`` or ``audit``)."""
    return folder / f'space-{space}_res-model_desc-{name}_logjacobian.nii.gz'


def write_mean_maps(
    folder: Path,
    grid: Grid,
    mask: np.ndarray,
    results: Sequence[FoldResult],
    means: Mapping[str, np.ndarray],
) -> list[Path]:
    """Write mean log-Jacobian maps on the grid of the model, over all folds and of each fold.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the training report.
    grid : Grid
        Grid of the model.
    mask : numpy.ndarray
        Brain mask (X, Y, Z) of the model; the maps are 0 outside.
    results : sequence of FoldResult
        Results of all folds.
    means : mapping of str to numpy.ndarray
        Mean maps (X, Y, Z) over the folds.

    Returns
    -------
    list of pathlib.Path
        The images.
    """
    maps = dict(means)
    for index, result in enumerate(results):
        maps |= {f'{name}fold{index}': data for name, data in result.maps.items()}
    return [
        _write_map(mean_map_file(folder, grid.space, name), np.where(mask, data, 0), grid, _MEAN)
        for name, data in maps.items()
    ]


def write_sanity_maps(
    folder: Path, grid: Grid, mask: np.ndarray, results: Sequence[FoldResult], sanity: Sanity
) -> list[Path]:
    """Write the agreement of the folds and the maps of the sanity checks.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the training report.
    grid : Grid
        Grid of the model.
    mask : numpy.ndarray
        Brain mask (X, Y, Z) of the model; the maps are 0 outside.
    results : sequence of FoldResult
        Results of all folds.
    sanity : Sanity
        Checks of one fold.

    Returns
    -------
    list of pathlib.Path
        The images.
    """
    named: dict[str, tuple[np.ndarray, str]] = {}
    for direction in DIRECTIONS:
        found = stability_maps([result.maps[direction] for result in results])
        for kind, description in _AGREEMENT.items():
            named[f'{direction}_stat-{kind}'] = found[kind], description
    for name, data in sanity.maps.items():
        check = next(text for key, text in _CHECKS.items() if name.startswith(key))
        label = ''.join(part[:1].upper() + part[1:] for part in name.split('_'))
        named[f'sanity{label}'] = (
            data,
            f'Sanity check of fold {sanity.metrics.fold}: log-Jacobian of a simulator trained '
            f'{check}.',
        )
    return [
        _write_map(
            mean_map_file(folder, grid.space, name), np.where(mask, data, 0), grid, description
        )
        for name, (data, description) in named.items()
    ]


def _write_map(path: Path, data: np.ndarray, grid: Grid, description: str) -> Path:
    sidecar = {'Description': description, 'Sign': SIGN, 'SkullStripped': True}
    write_json(path.with_name(path.name.replace('.nii.gz', '.json')), sidecar)
    write_nifti(path, data.astype(np.float32), grid.affine, template=True)
    return path
