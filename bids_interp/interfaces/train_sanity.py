"""Sanity of the maps of a training: a node, and the maps that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nipype.interfaces.base import File, TraitedSpec

from bids_interp.bids.write.atomic import write_json
from bids_interp.bids.write.nifti import write_nifti
from bids_interp.constants import DIRECTIONS, SIGN
from bids_interp.interfaces.train import TrainFold, _FoldInputSpec, _tell

if TYPE_CHECKING:
    from bids_interp.training.cohort.cohort import Cohort
    from bids_interp.training.fold import FoldResult
    from bids_interp.training.sanity import Sanity

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


class _SanityInputSpec(_FoldInputSpec):
    result = File(exists=True, mandatory=True, desc='of TrainFold')


class _SanityOutputSpec(TraitedSpec):
    sanity = File(exists=True, desc='numbers and maps of the checks')


class SanityFold(TrainFold):
    """Hold the map of a fold against maps of classifiers that know nothing."""

    input_spec = _SanityInputSpec
    output_spec = _SanityOutputSpec

    def _run_interface(self, runtime):
        import torch

        from bids_interp.device import resolve_device
        from bids_interp.training.cohort.storage import (
            load_cohort,
            load_folds,
            load_result,
            save_sanity,
        )
        from bids_interp.training.fold import FoldWorkspace
        from bids_interp.training.recipe import make_recipe
        from bids_interp.training.sanity import check_fold

        inputs = self.inputs
        torch.set_num_threads(inputs.num_threads)
        found = check_fold(
            load_cohort(Path(inputs.cohort)),
            load_folds(Path(inputs.folds))[inputs.index],
            inputs.index,
            make_recipe(**inputs.recipe),
            load_result(Path(inputs.result)),
            FoldWorkspace(
                Path(inputs.directory) / f'fold-{inputs.index}',
                resolve_device(inputs.device),
                inputs.n_devices,
                _tell,
            ),
            seed=inputs.random_seed,
            external=self._external(),
        )
        path = Path(runtime.cwd) / 'sanity.safetensors'
        save_sanity(path, found)
        self._results['sanity'] = str(path)
        return runtime


def write_sanity_maps(
    folder: Path, cohort: Cohort, results: Sequence[FoldResult], sanity: Sanity
) -> list[Path]:
    """Write how far the folds agree, and the maps of the checks, on the model's grid.

    Parameters
    ----------
    folder : pathlib.Path
        Of the report of the training.
    cohort : Cohort
        Says where the grid is.
    results : sequence of FoldResult
        Of all folds.
    sanity : Sanity
        Of one fold.

    Returns
    -------
    list of pathlib.Path
        The images.
    """
    from bids_interp.evaluation.stability import stability_maps

    named: dict[str, tuple[np.ndarray, str]] = {}
    for direction in DIRECTIONS:
        found = stability_maps([result.maps[direction] for result in results])
        for kind, words in _AGREEMENT.items():
            named[f'desc-{direction}_stat-{kind}'] = found[kind], words
    fold = sanity.metrics.fold
    for name, data in sanity.maps.items():
        check = next(words for key, words in _CHECKS.items() if name.startswith(key))
        label = ''.join(part[:1].upper() + part[1:] for part in name.split('_'))
        words = f'Sanity check of fold {fold}: log-Jacobian of a simulator trained {check}.'
        named[f'desc-sanity{label}'] = data, words
    paths = []
    for name, (data, words) in named.items():
        stem = f'space-{cohort.grid.space}_res-model_{name}_logjacobian'
        content = {'Description': words, 'Sign': SIGN, 'SkullStripped': True}
        write_json(folder / f'{stem}.json', content)
        path = folder / f'{stem}.nii.gz'
        write_nifti(path, data.astype(np.float32), cohort.grid.affine, template=True)
        paths.append(path)
    return paths
