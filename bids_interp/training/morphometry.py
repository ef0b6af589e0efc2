"""Morphometry: fit of a classifier that is a sparse weighted sum of registered volumes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bids_interp.models.networks.morphometric import (
    REGISTRATION,
    MorphometricClassifier,
    VolumeMeasure,
    half_shape,
    halved,
)
from bids_interp.spatial import Grid, along_axes, smooth
from bids_interp.training.classifier import TrainedClassifier
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.sparse import SHARES, SparseFit, fit_sparse


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
    arguments: dict[str, Any] = field(default_factory=lambda: {'registration': REGISTRATION})
    smoothing_mm: float = 4.0
    absolute: float = 0.01


@torch.no_grad()
def measure_volumes(volumes: VolumeMeasure, images: torch.Tensor, batch: int = 8) -> torch.Tensor:
    """Measure volume maps (N, 1, X/2, Y/2, Z/2), on the CPU, of images (N, 1, X, Y, Z)."""
    device = volumes.mean.device
    return torch.cat([volumes(part.to(device)).cpu() for part in images.split(batch)])


def fit_morphometry(
    cohort: Cohort, fold: Fold, recipe: MorphometryRecipe, seed: int, device: str = 'cpu'
) -> TrainedClassifier:
    """Fit the weights of the volumes to the labels, without and with the validation split.

    The classifier that is explained uses all images outside the test split. Its penalty is that of
    the fit to the training split. As inner folds scale the outputs of both fits, the calibration
    of one on the validation split holds for the other.

    Parameters
    ----------
    cohort : Cohort
        Cohort.
    fold : Fold
        Fold; the mean image is that of ``train``.
    recipe : MorphometryRecipe
        Settings.
    seed : int
        Random seed of the inner folds.
    device : str
        Device that measures the volumes.

    Returns
    -------
    TrainedClassifier
        Frozen classifiers on the CPU.
    """
    classifier = MorphometricClassifier(
        cohort.grid.shape, **recipe.arguments, outputs=cohort.target.n_outputs
    )
    mean = cohort.images[fold.train].mean(dim=0, keepdim=True)
    classifier.volumes.mean.copy_(mean)
    known = np.concatenate([fold.train, fold.validation])
    maps = measure_volumes(classifier.volumes.to(device), cohort.images[known])
    classifier.cpu().eval().requires_grad_(False)
    fits = _Fits(cohort, recipe, smooth(maps, recipe.smoothing_mm, pooled_grid(cohort.grid)), seed)
    first = fits.fit(classifier, known[: len(fold.train)])
    final = copy.deepcopy(classifier)
    fits.fit(final, known, (first.share,))
    return TrainedClassifier(final, classifier)


class _Fits:
    """Fits of heads to the smoothed volumes (N, 1, X/2, Y/2, Z/2) of the first images."""

    def __init__(
        self, cohort: Cohort, recipe: MorphometryRecipe, volumes: torch.Tensor, seed: int
    ) -> None:
        self.cohort, self.recipe, self.seed = cohort, recipe, seed
        self.grid = pooled_grid(cohort.grid)
        self.inside = pooled_mask(cohort.mask)
        self.features = volumes[self.inside.expand_as(volumes)].view(len(volumes), -1).numpy()

    def fit(
        self,
        classifier: MorphometricClassifier,
        images: np.ndarray,
        shares: Sequence[float] = SHARES,
    ) -> SparseFit:
        """Fit the head of a classifier to the labels of images, the first of those measured."""
        is_regression = self.cohort.target.kind == 'regression'
        values = self.cohort.standardised() if is_regression else self.cohort.labels
        found = fit_sparse(
            self.features[: len(images)],
            values[images],
            self.cohort.families[images],
            absolute=self.recipe.absolute,
            is_regression=is_regression,
            seed=derived_seed(self.seed, 'sparse') % 2**31,
            shares=shares,
        )
        spread = torch.zeros(len(found.weights), 1, *self.grid.shape)
        flat = torch.from_numpy(found.weights.astype(np.float32)).ravel()
        spread[self.inside.expand_as(spread)] = flat
        # The Gaussian is symmetric, so smoothing the weights equals smoothing the volumes.
        spread = smooth(spread, self.recipe.smoothing_mm, self.grid)
        with torch.no_grad():
            classifier.head.weight.copy_(spread.flatten(1))
            classifier.head.bias.copy_(torch.from_numpy(found.offsets.astype(np.float32)))
        return found


def pooled_mask(mask: np.ndarray) -> torch.Tensor:
    """Return the half-resolution voxels (1, 1, X/2, Y/2, Z/2) of which most lie in a mask."""
    return halved(torch.from_numpy(mask.astype(np.float32))[None, None]) > 0.5


def pooled_grid(grid: Grid) -> Grid:
    """Return the grid of what :func:`bids_interp.models.networks.morphometric.halved` returns."""
    size = np.array(along_axes(grid.shape, 2))
    affine = grid.affine @ np.diag([*size, 1.0])
    affine[:3, 3] = (grid.affine @ np.array([*(size - 1) / 2, 1.0]))[:3]
    return Grid(half_shape(grid.shape), affine, grid.space)
