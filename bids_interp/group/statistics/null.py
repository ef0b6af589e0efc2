r"""Null test of a pattern against models trained with permuted labels.

For each model, the log-Jacobian map of every fold is computed in the model's mean image at dose 1.
Folds of a true pattern agree, folds of permuted labels do not. The statistic of a voxel is

.. math:: T = \frac{|\bar J|}{s / \sqrt K + s_0}

with mean and standard deviation over the *K* folds and :math:`s_0` the median of
:math:`s / \sqrt K` over the brain, which keeps voxels with a small *s* from dominating. The
largest T of each null model forms the null distribution. This controls the family-wise error over
voxels *weakly*: the probability that any voxel is significant is at most 5 % if the labels have
nothing to do with any voxel (complete null). If they are related to some voxels, the T of the
others do not have the distribution of the null models, because a classifier weighs all voxels
together and :math:`s_0` depends on all of them (no subset pivotality; Westfall and Young 1993). A
significant voxel thus shows that the folds agree on a pattern beyond chance, not that this voxel
belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.errors import ModelError
from bids_interp.models.bundle.reader import ModelBundle, load_bundle

#: Minimum number of null models to reach p = 0.05.
MIN_NULLS = 19
#: Control of the family-wise error over voxels.
CONTROL = 'weak (valid under the complete null only)'


def fold_maps(bundle: ModelBundle, dose: float = 1.0) -> np.ndarray:
    """Return the log-Jacobian maps (K, V) of the folds in the mean image, inside the mask."""
    import torch

    from bids_interp.spatial import exponential, log_jacobian

    if bundle.field_kind != 'velocity':
        raise ModelError(f'The simulators of {bundle.path} do not provide velocities.')
    maps = []
    with torch.no_grad():
        for index in range(bundle.n_folds):
            field = bundle.fold(index).field(bundle.mean_image, torch.tensor([dose]))
            values = log_jacobian(exponential(field, bundle.grid), bundle.grid)[0, 0].numpy()
            maps.append(values[bundle.brain_mask])
    return np.array(maps)


def consistency(maps: np.ndarray) -> np.ndarray:
    """Return the statistic T (V,) of the fold maps (K, V).

    Examples
    --------
    >>> maps = np.array([[1.0, 1.0, 0.1], [1.0, -1.0, -0.1]])
    >>> consistency(maps).round(3).tolist()
    [10.0, 0.0, 0.0]
    """
    error = maps.std(axis=0, ddof=1) / np.sqrt(len(maps))
    floor = float(np.median(error))
    return np.asarray(np.abs(maps.mean(axis=0)) / np.maximum(error + floor, 1e-12))


def compare_with_null_models(
    observed: Path, nulls: Sequence[str | Path], contrast: str | None = None
) -> tuple[dict[str, Any], np.ndarray, ModelBundle]:
    """Compare a model with models trained with permuted labels.

    Parameters
    ----------
    observed : pathlib.Path
        Bundle of the model.
    nulls : sequence of path
        Bundles trained in the same way, with permuted labels.
    contrast : str, optional
        Contrast of a multiclass model.

    Returns
    -------
    dict, numpy.ndarray, ModelBundle
        ``p`` of the largest T and number of models; map (X, Y, Z) of p-values corrected over
        voxels under the complete null, 1 outside the mask; and the model.

    Raises
    ------
    ModelError
        If a bundle is damaged, has another grid or mask, or is the model itself.
    """
    bundle = load_bundle(observed, contrast)
    statistic = consistency(fold_maps(bundle))
    largest = []
    for path in nulls:
        null = load_bundle(path, contrast)
        if null.version_hash == bundle.version_hash:
            raise ModelError(
                f'--null-models {path} is the model itself.',
                'Null models must be trained with permuted labels.',
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
        'ErrorControl': CONTROL,
    }
    return facts, volume, bundle
