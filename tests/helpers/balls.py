"""Cohorts of balls whose size says the label: quick to train, and it is known what should move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid
from bids_interp.training.classifier import ClassifierRecipe
from bids_interp.training.cohort.augment import Augmentation
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.cohort.gather import split_cohort
from bids_interp.training.recipe import TrainingRecipe
from bids_interp.training.simulator import SimulatorRecipe

GRID = Grid(
    (16, 16, 16),
    np.array([[4.0, 0, 0, -30], [0, 4, 0, -30], [0, 0, 4, -30], [0, 0, 0, 1]]),
    'made-up',
)
BINARY = Target('binary', 'group', ('control', 'patient'))
SEVERAL = Target('multiclass', 'size', ('large', 'middle', 'small'))
STILL = Augmentation(affine=0, shift_mm=0, warp_mm=0, gain=0, bias=0, noise=0)

CLASSIFIER = ClassifierRecipe(
    arguments={'channels': (4, 8), 'dropout': 0.0},
    steps=40,
    validate_every=20,
    learning_rate=1e-2,
    augmentation=STILL,
)
SIMULATOR = SimulatorRecipe(template_steps=40, template_rate=0.1, minimality=0.3)
RECIPE = TrainingRecipe(n_folds=2, classifier=CLASSIFIER, simulator=SIMULATOR)
#: Few steps of everything, for tests of what happens around them.
SHORT = replace(
    RECIPE,
    classifier=replace(CLASSIFIER, steps=32, validate_every=8),
    simulator=replace(
        SIMULATOR, capacity='condconv', width=4, template_steps=30, residual_steps=30
    ),
)


def ball(radius: float, centre: np.ndarray | tuple[float, ...] = (0, 0, 0)) -> torch.Tensor:
    """A soft ball (1, X, Y, Z) of a radius in mm."""
    points = torch.from_numpy(GRID.world_coordinates())
    away = (points - torch.tensor(centre, dtype=torch.float32).view(3, 1, 1, 1)).norm(dim=0)
    return torch.sigmoid((radius - away) / 2.0)[None]


def cohort_of(target: Target, labels: np.ndarray, radii: np.ndarray, seed: int = 0) -> Cohort:
    """Two balls of each family, with radii and places that vary a little."""
    rng = np.random.default_rng(seed)
    count = len(labels)
    images = torch.stack([ball(r + rng.normal(0, 0.5), rng.normal(0, 1, 3)) for r in radii])
    keys = tuple((f'image:{index}',) for index in range(count))
    names = tuple(f'sub-{index:02d}' for index in range(count))
    mask = np.ones(GRID.shape, bool)
    return Cohort(
        images, labels, np.arange(count) // 2, keys, GRID, mask, Preprocessing(), target, names
    )


def binary_cohort(count: int = 32) -> Cohort:
    """Smaller in patients."""
    labels = np.arange(count) % 2
    return cohort_of(BINARY, labels, np.where(labels == 1, 11.0, 16.0))


def several_cohort(count: int = 36) -> Cohort:
    """Three sizes."""
    labels = np.arange(count) % 3
    return cohort_of(SEVERAL, labels, np.array([19.0, 14.0, 9.0])[labels])


def regression_cohort(count: int = 40) -> Cohort:
    """The radius itself is predicted."""
    radii = np.random.default_rng(1).uniform(9, 19, count)
    target = Target('regression', 'radius', (), float(radii.mean()), float(radii.std()))
    return cohort_of(target, radii, radii)


def folds_of(cohort: Cohort, n_folds: int = 2) -> list[Fold]:
    """Folds as the workflow makes them."""
    return split_cohort(cohort, {'strata': []}, n_folds, seed=0)
