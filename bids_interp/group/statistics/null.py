r"""Is the pattern beyond chance? Models trained with permuted labels as the null.

For each model the log-Jacobian map of every fold is made in the model's own mean image at dose 1.
What the folds of a true pattern share, folds of permuted labels do not. The statistic of a voxel is

.. math:: T = \frac{|\bar J|}{s / \sqrt K + s_0}

with mean and standard deviation over the *K* folds and :math:`s_0` the median of
:math:`s / \sqrt K` over the brain (so that voxels without spread do not win). The largest T of each
null model makes the distribution that the observed voxels are compared with: this controls the
chance of any false voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import ModelBundle, load_bundle

#: Fewer null models than this cannot reach p = 0.05.
MIN_NULLS = 19


def fold_maps(bundle: ModelBundle, dose: float = 1.0) -> np.ndarray:
    """Log-Jacobian maps (K, V) of the folds of a bundle in its mean image, inside its mask."""
    import torch

    from bids_interp.spatial import exponential, log_jacobian

    if bundle.field_kind != 'velocity':
        raise ModelError(f'The simulators of {bundle.path} put out no velocities.')
    maps = []
    with torch.no_grad():
        for index in range(bundle.n_folds):
            field = bundle.fold(index).field(bundle.mean_image, torch.tensor([dose]))
            values = log_jacobian(exponential(field, bundle.grid), bundle.grid)[0, 0].numpy()
            maps.append(values[bundle.brain_mask])
    return np.array(maps)


def consistency(maps: np.ndarray) -> np.ndarray:
    """Statistic T (V,) of maps (K, V) of the folds.

    Examples
    --------
    >>> maps = np.array([[1.0, 1.0, 0.1], [1.0, -1.0, -0.1]])
    >>> consistency(maps).round(3).tolist()
    [10.0, 0.0, 0.0]
    """
    error = maps.std(axis=0, ddof=1) / np.sqrt(len(maps))
    floor = float(np.median(error))
    return np.asarray(np.abs(maps.mean(axis=0)) / np.maximum(error + floor, 1e-12))


def beyond_chance(
    observed: Path, nulls: Sequence[str | Path], contrast: str | None = None
) -> tuple[dict[str, Any], np.ndarray, ModelBundle]:
    """Compare a model with models of permuted labels.

    Parameters
    ----------
    observed : pathlib.Path
        Bundle of the model.
    nulls : sequence of path
        Bundles trained in the same way with permuted labels.
    contrast : str, optional
        Contrast of a model of several classes.

    Returns
    -------
    dict, numpy.ndarray, ModelBundle
        ``p`` of the largest T and numbers of models; map (X, Y, Z) of p corrected over voxels, 1
        outside of the mask; the model.

    Raises
    ------
    ModelError
        If a bundle is damaged, lies on another grid, or is the model itself.
    """
    bundle = load_bundle(observed, contrast)
    statistic = consistency(fold_maps(bundle))
    largest = []
    for path in nulls:
        null = load_bundle(path, contrast)
        if null.version_hash == bundle.version_hash:
            raise ModelError(
                f'--null-models {path} is the model itself.',
                'Null models are trained with permuted labels.',
            )
        if not null.grid.matches(bundle.grid) or not (null.brain_mask == bundle.brain_mask).all():
            raise ModelError(
                f'--null-models {path} has another grid or mask than {bundle.path}.',
                'Train the null models from the same images and with the same options.',
            )
        largest.append(float(consistency(fold_maps(null)).max()))
    reached = np.array(largest)[:, None] >= statistic
    p = (1 + reached.sum(axis=0)) / (1 + len(largest))
    volume = np.ones(bundle.grid.shape, np.float32)
    volume[bundle.brain_mask] = p
    facts = {
        'p': float(p.min()),
        'largest': float(statistic.max()),
        'null_largest': sorted(largest),
        'n_null_models': len(largest),
        'voxels_below_005': int((p < 0.05).sum()),
        'enough': len(largest) >= MIN_NULLS,
    }
    return facts, volume, bundle
