"""Fit of a pattern simulator: the planted structure, on the training and validation splits only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import image_scores, simulated_scores
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid, VolumeFlow, exponential, log_jacobian, warp
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.pattern.fit import (
    PatternRecipe,
    fit_pattern_simulator,
    measure_cohort,
    weights_map,
)
from bids_interp.training.simulator import Opponent

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -46
GRID = Grid((24, 24, 24), AFFINE)
POINTS = GRID.world_coordinates()
MASK = np.linalg.norm(POINTS, axis=0) < 42
TARGET = Target('binary', 'group', ('control', 'patient'))
COUNT = 48
FLOW = VolumeFlow(GRID, MASK)


def blob(centre: tuple[float, ...], width: float = 6.0) -> np.ndarray:
    away = POINTS - np.array(centre)[:, None, None, None]
    return np.exp(-0.5 * np.square(away).sum(axis=0) / width**2).astype(np.float32)


CHANGE = np.log(0.5) * blob((-18, 2, 2)) * MASK


def texture() -> np.ndarray:
    """A brain with structure everywhere, so that volumes can be measured."""
    drawn = np.random.default_rng(5).normal(size=(60, 3)) * 18
    return sum(blob(tuple(place), 4.0) for place in drawn) * MASK  # type: ignore[return-value]


@pytest.fixture(scope='module')
def cohort() -> Cohort:
    """One image of each person; a structure of patients is half as large."""
    rng = np.random.default_rng(0)
    brain = torch.from_numpy(texture())[None, None]
    planted = FLOW.velocity(FLOW.fit_source(CHANGE))
    labels = np.arange(COUNT) % 2
    images = []
    for label in labels:
        own = np.stack([blob(tuple(rng.normal(0, 20, 3)), 12.0) for _ in range(3)])
        anatomy = torch.from_numpy((rng.normal(0, 1, (3, 1, 1, 1)) * own).astype(np.float32))[None]
        change = torch.from_numpy(np.float32(label) * planted)[None]
        moved = warp(brain, exponential(-change, GRID), GRID)
        noise = (0.02 * rng.normal(size=GRID.shape) * MASK).astype(np.float32)
        images.append(warp(moved, exponential(anatomy, GRID), GRID)[0] + torch.from_numpy(noise))
    keys = tuple((f'image:{index}',) for index in range(COUNT))
    return Cohort(
        torch.stack(images), labels, np.arange(COUNT), keys, GRID, MASK, Preprocessing(), TARGET
    )


FOLD = Fold(np.arange(24), np.arange(24, 36), np.arange(36, COUNT))


class Weighing(nn.Module):
    """Weighted sum of intensities."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * self.weights).sum(dim=(2, 3, 4))


@pytest.fixture(scope='module')
def classifier(cohort: Cohort) -> nn.Module:
    """Weighs intensities by the difference of the class means."""
    images = cohort.images[FOLD.train, 0].numpy()
    labels = cohort.labels[FOLD.train]
    difference = images[labels == 1].mean(axis=0) - images[labels == 0].mean(axis=0)
    return Weighing(difference * (blob((-18, 2, 2), 12.0) > 0.2))


@pytest.fixture(scope='module')
def fitted(cohort: Cohort, classifier: nn.Module):
    opponent = Opponent((classifier,), ((1.0,),))
    return fit_pattern_simulator(cohort, FOLD, opponent, PatternRecipe(), seed=0)


def test_planted_structure_is_found(fitted):
    assert fitted.metrics[0].found
    velocity = fitted.simulator(torch.zeros(1, 1, *GRID.shape), torch.tensor([1.0]))
    found = log_jacobian(exponential(velocity, GRID), GRID)[0, 0].numpy()
    assert ncc(found, CHANGE, MASK) > 0.8
    # Injecting shrinks the structure.
    assert found[np.unravel_index(np.abs(CHANGE).argmax(), GRID.shape)] < -0.05
    assert fitted.metrics[0].subtypes == 1


def test_measured_dose_has_the_planted_amplitude(fitted):
    """The registration shows only a part of the change, which is corrected for."""
    own = fitted.metrics[0]
    dose = torch.tensor([own.measured_dose])
    velocity = fitted.simulator(torch.zeros(1, 1, *GRID.shape), dose)
    found = log_jacobian(exponential(velocity, GRID), GRID)[0, 0].numpy()
    slope = (found * CHANGE)[MASK].sum() / np.square(CHANGE[MASK]).sum()
    assert 0.6 < slope < 1.4
    assert 0.2 < own.response < 0.9


def test_dose_one_is_the_class_gap(fitted, cohort, classifier):
    images, contrast = cohort.images[FOLD.validation], TARGET.contrasts[0]
    before = image_scores(classifier, images, contrast)
    shifts = [
        sign
        * (simulated_scores(classifier, fitted.simulator, images, sign, contrast, 0, GRID) - before)
        for sign in (1.0, -1.0)
    ]
    assert np.median(np.concatenate(shifts)) == pytest.approx(1.0, abs=0.06)


def test_random_classifier_has_no_pattern(cohort):
    noise = np.random.default_rng(3).normal(size=GRID.shape)
    opponent = Opponent((Weighing(noise),), ((1.0,),))
    found = fit_pattern_simulator(cohort, FOLD, opponent, PatternRecipe(), seed=0)
    assert not found.metrics[0].found
    assert not found.simulator.source.any()


def test_test_split_is_not_used(cohort):
    images = cohort.images.clone()
    images[FOLD.test] = 7.0
    other = replace(cohort, images=images)
    first, second = (measure_cohort(one, FOLD, PatternRecipe(), 0) for one in (cohort, other))
    assert np.array_equal(first.maps, second.maps)
    assert first.response.gain == second.response.gain
    assert np.array_equal(first.images, np.arange(36))


def test_weights_map_moves_the_score_by_the_gap():
    """To first order, and positive where expansion raises the score."""
    shape = blob((0, 0, 0), 10.0)
    gradient = -np.stack(np.gradient(shape)).astype(np.float32)
    found = weights_map(gradient, GRID, 2.0)
    assert found[12, 12, 12] > 0
    assert np.allclose(weights_map(gradient, GRID, 4.0), 2 * found, atol=1e-5)
    # A steeper classifier needs less change.
    assert np.allclose(weights_map(3 * gradient, GRID, 2.0), found / 3, atol=1e-5)
    assert not weights_map(0 * gradient, GRID, 2.0).any()
