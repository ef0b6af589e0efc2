"""Morphometry: fit of a classifier that is a sparse weighted sum of registered volumes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bids_interp.models.networks.morphometric import (
    MorphometricClassifier,
    VolumeMeasure,
    half_shape,
)
from bids_interp.spatial import Grid, smooth
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.sparse import fit_sparse


@dataclass(frozen=True)
class MorphometryRecipe:
    """Settings of the fit of a morphometric classifier.

    Parameters
    ----------
    architecture, arguments
        Arguments of :func:`bids_interp.models.networks.registry.build_classifier`.
    smoothing_mm : float
        Standard deviation of the Gaussian that smooths the volume maps and thereby the weights.
    absolute : float
        Share of the L1 term in the penalty, see :func:`bids_interp.training.sparse.fit_sparse`.
    """

    architecture: str = 'morphometric'
    arguments: dict[str, Any] = field(default_factory=dict)
    smoothing_mm: float = 4.0
    absolute: float = 0.01


@torch.no_grad()
def measure_volumes(volumes: VolumeMeasure, images: torch.Tensor, batch: int = 8) -> torch.Tensor:
    """Measure volume maps (N, 1, X/2, Y/2, Z/2), on the CPU, of images (N, 1, X, Y, Z)."""
    device = volumes.mean.device
    return torch.cat([volumes(part.to(device)).cpu() for part in images.split(batch)])


def fit_morphometry(
    cohort: Cohort, fold: Fold, recipe: MorphometryRecipe, seed: int, device: str = 'cpu'
) -> MorphometricClassifier:
    """Fit the weights of the volumes to the labels of the training split.

    Parameters
    ----------
    cohort : Cohort
        Cohort.
    fold : Fold
        Fold; mean image and weights are computed from ``train`` alone.
    recipe : MorphometryRecipe
        Settings.
    seed : int
        Random seed of the inner folds.
    device : str
        Device that measures the volumes.

    Returns
    -------
    MorphometricClassifier
        Frozen classifier on the CPU.
    """
    classifier = MorphometricClassifier(
        cohort.grid.shape, **recipe.arguments, outputs=cohort.target.n_outputs
    )
    images = cohort.images[fold.train]
    classifier.volumes.mean.copy_(images.mean(dim=0, keepdim=True))
    grid = pooled_grid(cohort.grid)
    inside = F.avg_pool3d(torch.from_numpy(cohort.mask.astype(np.float32))[None, None], 2) > 0.5
    maps = smooth(measure_volumes(classifier.volumes.to(device), images), recipe.smoothing_mm, grid)
    features = maps[inside.expand_as(maps)].view(len(maps), -1).numpy()
    is_regression = cohort.target.kind == 'regression'
    values = cohort.standardised() if is_regression else cohort.labels
    weights, offsets = fit_sparse(
        features,
        values[fold.train],
        cohort.families[fold.train],
        absolute=recipe.absolute,
        is_regression=is_regression,
        seed=derived_seed(seed, 'sparse') % 2**31,
    )
    spread = torch.zeros(len(weights), 1, *grid.shape)
    spread[inside.expand_as(spread)] = torch.from_numpy(weights.astype(np.float32)).ravel()
    # The Gaussian is symmetric, so smoothing the weights equals smoothing the volumes.
    spread = smooth(spread, recipe.smoothing_mm, grid)
    with torch.no_grad():
        classifier.head.weight.copy_(spread.flatten(1))
        classifier.head.bias.copy_(torch.from_numpy(offsets.astype(np.float32)))
    return classifier.cpu().eval().requires_grad_(False)


def pooled_grid(grid: Grid) -> Grid:
    """Return the grid after average pooling over two voxels along each axis."""
    affine = grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (grid.affine @ np.array([0.5, 0.5, 0.5, 1.0]))[:3]
    return Grid(half_shape(grid.shape), affine, grid.space)
