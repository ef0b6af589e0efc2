"""Consent: pieces of a pattern that a classifier uses are kept, and others are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.models.target import Target
from bids_interp.spatial import Grid, VolumeFlow, warp
from bids_interp.training.pattern.consent import ask_consent, velocity_gradient
from bids_interp.training.pattern.pieces import divide_pattern

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -46
GRID = Grid((24, 24, 24), AFFINE)
POINTS = GRID.world_coordinates()
MASK = np.linalg.norm(POINTS, axis=0) < 42
CONTRAST = Target('binary', 'group', ('control', 'patient')).contrasts[0]


def blob(centre: tuple[float, ...], width: float = 5.0) -> np.ndarray:
    away = POINTS - np.array(centre)[:, None, None, None]
    return np.exp(-0.5 * np.square(away).sum(axis=0) / width**2).astype(np.float32)


LEFT, RIGHT = blob((-18, 0, 0)), blob((18, 0, 0))
PATTERN = np.where(MASK, -0.2 * (LEFT + RIGHT), 0) * (LEFT + RIGHT > 0.05)


class Weighing(nn.Module):
    """Sum of intensities with fixed weights, which a warp changes."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * self.weights).sum(dim=(2, 3, 4))


def images(seed: int = 0) -> torch.Tensor:
    """Two bright structures whose sizes the classifier may use."""
    rng = np.random.default_rng(seed)
    parts = [
        blob(tuple(np.array([-18, 0, 0]) + rng.normal(0, 1, 3)))
        + blob(tuple(np.array([18, 0, 0]) + rng.normal(0, 1, 3)))
        for _ in range(4)
    ]
    return torch.from_numpy(np.stack(parts))[:, None]


def test_gradient_is_the_change_of_the_score():
    """Against a finite difference, so that the sign of the pull-back is right."""
    network, data = Weighing(LEFT), images()
    gradient = velocity_gradient(network, data, CONTRAST, GRID)
    velocity = VolumeFlow(GRID, MASK).velocity(PATTERN)
    step = torch.from_numpy(0.05 * velocity)[None]
    with torch.no_grad():
        change = (network(warp(data, -step, GRID)) - network(warp(data, step, GRID))).mean() / 0.1
    assert float((gradient * velocity).sum()) == pytest.approx(float(change), rel=0.06)


def test_only_the_used_piece_is_kept():
    """The classifier says patient if the left structure is small."""
    gradient = velocity_gradient(Weighing(-LEFT), images(), CONTRAST, GRID)
    pieces = divide_pattern(PATTERN, GRID)
    assert pieces.max() == 2
    consent = ask_consent(gradient, PATTERN, pieces, GRID, MASK)
    assert consent.given
    left = pieces[np.unravel_index((LEFT * MASK).argmax(), GRID.shape)]
    assert consent.kept.tolist() == [number == left for number in (1, 2)]


def test_opposite_use_is_not_consent():
    """The classifier says patient if both structures are large, but they shrink in patients."""
    gradient = velocity_gradient(Weighing(LEFT + RIGHT), images(), CONTRAST, GRID)
    consent = ask_consent(gradient, PATTERN, divide_pattern(PATTERN, GRID), GRID, MASK)
    assert consent.score < -3
    assert not consent.given
    assert not consent.kept.any()


def test_random_classifiers_do_not_consent():
    pieces = divide_pattern(PATTERN, GRID)
    scores = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        gradient = rng.standard_normal((3, *GRID.shape)).astype(np.float32)
        scores.append(ask_consent(gradient, PATTERN, pieces, GRID, MASK).score)
    assert np.abs(scores).max() < 3.09
    assert 0.5 < np.std(scores) < 1.6


def test_classifier_without_any_response():
    consent = ask_consent(
        np.zeros((3, *GRID.shape), np.float32), PATTERN, divide_pattern(PATTERN, GRID), GRID, MASK
    )
    assert consent.score == 0
    assert not consent.kept.any()


def test_empty_pattern_has_no_pieces():
    nothing = np.zeros(GRID.shape, np.float32)
    pieces = divide_pattern(nothing, GRID)
    assert not pieces.any()
    consent = ask_consent(np.ones((3, *GRID.shape), np.float32), nothing, pieces, GRID, MASK)
    assert not consent.given
    assert len(consent.kept) == 0
