from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.bench.simulations import (
    JUDGED_REGIONS,
    CohortAnatomy,
    JudgedRegions,
    ScaledClassifier,
    explain_image,
)
from bids_interp.bench.volume_judge import region_volumes
from bids_interp.spatial import Grid, exponential, log_jacobian

GRID = Grid(
    (16, 16, 16), np.array([[6.0, 0, 0, -45], [0, 6, 0, -45], [0, 0, 6, -45], [0, 0, 0, 1]])
)
POINTS = torch.from_numpy(GRID.world_coordinates())[None]
DISTANCE = POINTS.square().sum(dim=1, keepdim=True).sqrt()
MASK = DISTANCE[0, 0].numpy() < 36
BALL = torch.sigmoid((20 - DISTANCE) / 4)
REGIONS = JudgedRegions(
    ('ball', 'rest'), np.stack([BALL[0, 0].numpy(), MASK - BALL[0, 0].numpy() * MASK]), (0,)
)
# Moves towards the middle: what is there shrinks.
INWARDS = -0.15 * POINTS * torch.exp(-((DISTANCE / 30) ** 2))


class Shrinking(nn.Module):
    """Injecting shrinks the ball, removing lets it grow."""

    field = 'velocity'

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int) -> torch.Tensor:
        return self.strength * dose.view(-1, 1, 1, 1, 1) * INWARDS


class Smaller(nn.Module):
    """The logit is how much brightness is missing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (BALL.sum() - image.flatten(1).sum(dim=1, keepdim=True)) / 10


def anatomy() -> CohortAnatomy:
    """Patients' balls are smaller: pulled back by a map that spreads, they shrink."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 2
    sizes = np.where(labels == 1, 0.8, -0.2) + rng.normal(0, 0.1, 12)
    pull_backs = np.stack([exponential(-size * INWARDS, GRID)[0].numpy() for size in sizes])
    return CohortAnatomy.fit(REGIONS, pull_backs, labels, np.arange(12), GRID)


ANATOMY = anatomy()
OWN = ScaledClassifier(Smaller(), BALL.repeat(12, 1, 1, 1, 1), 2.0, 10.0)
TRUTH = log_jacobian(exponential(INWARDS, GRID), GRID)[0, 0].numpy()
INNER_TRUTH = TRUTH * (DISTANCE[0, 0].numpy() < 24)


def explain(strength: float = 1.0, label: int = 0, truth: np.ndarray = TRUTH, other=None):
    index = label  # image 0 is of a control, image 1 of a patient
    motion = exponential((1 if label == 0 else -1) * INWARDS, GRID)[0].numpy()
    return explain_image(
        Shrinking(strength), OWN, other, ANATOMY, index, label, truth, GRID, MASK,
        motion if truth.any() else np.zeros_like(motion),
    )  # fmt: skip


def test_a_right_simulation_convinces_everybody():
    log_j, row = explain(other=OWN)
    np.testing.assert_allclose(log_j, TRUTH, atol=1e-6)
    assert row.direction == 'inject'
    for name in ('crosses', 'monotone', 'transfer_right_way', 'transfer_crosses'):
        assert getattr(row, name) == 1.0, name
    assert row.volume_right_way == row.volume_crosses == 1.0
    assert row.roi_error_percent == pytest.approx(0, abs=1e-4)
    assert row.n_folded == 0
    assert row.displacement_ncc == pytest.approx(1, abs=1e-5)
    assert row.volume_share == pytest.approx(1, abs=0.05)
    assert 0 < row.reversibility_rmse < 0.03


def test_effectiveness_is_the_shift_over_the_class_gap():
    _, row = explain()
    before, after = OWN.change(0, exponential(-INWARDS, GRID), GRID)
    assert row.effectiveness == pytest.approx((after - before) / 10.0)
    length = exponential(INWARDS, GRID)[0].square().sum(dim=0).sqrt().numpy()
    assert row.minimality_mm == pytest.approx(length[MASK].mean(), rel=1e-5)


def test_a_wrong_direction_convinces_nobody():
    _, row = explain(-1.0, other=OWN)
    for name in ('crosses', 'monotone', 'transfer_right_way', 'volume_right_way', 'volume_crosses'):
        assert getattr(row, name) == 0.0, name
    assert row.effectiveness < 0
    assert row.roi_error_percent > 150


def test_patients_have_the_pattern_removed():
    log_j, row = explain(label=1, truth=-TRUTH)
    assert row.direction == 'remove'
    assert log_j[8, 8, 8] > 0
    assert row.volume_right_way == 1.0


def test_half_of_the_change_is_an_error_of_about_a_half():
    _, row = explain(0.5)
    assert row.roi_error_percent == pytest.approx(50, abs=6)


def test_nothing_is_asked_where_nothing_is_planted():
    _, row = explain(truth=np.zeros_like(TRUTH))
    assert np.isnan(row.roi_error_percent)
    assert np.isnan(row.transfer_crosses)
    assert np.isnan(row.displacement_ncc)


def test_volumes_that_nobody_has_are_not_realistic():
    _, fair = explain()
    _, extreme = explain(4.0)
    assert extreme.realism < fair.realism <= 1.0


def test_folds_are_counted():
    class Folding(nn.Module):
        field = 'displacement'

        def forward(self, image, dose, contrast):
            return dose.view(-1, 1, 1, 1, 1) * 40 * torch.sin(POINTS)

    _, row = explain_image(Folding(), OWN, None, ANATOMY, 0, 0, TRUTH, GRID, MASK)
    assert row.n_folded > 10


def test_regions_that_change_come_first_and_once():
    fine = GRID.with_spacing(4.0)
    regions = JudgedRegions.draw(['putamen', 'thalamus_left'], fine)
    assert regions.names[:2] == ('putamen', 'thalamus_left')
    assert sorted(regions.names) == sorted(JUDGED_REGIONS)
    assert regions.changed == (0, 1)
    # The left thalamus has about nine cm^3, as it was drawn.
    assert region_volumes(regions.weights, fine)[1] == pytest.approx(8600, rel=0.25)


class Turning(Shrinking):
    """The same shrinking, with a turn about the z axis that the log-Jacobian does not show."""

    def forward(self, image, dose, contrast):
        turn = torch.cat([-POINTS[:, 1:2], POINTS[:, :1], 0 * DISTANCE], dim=1)
        turn = 0.3 * turn * torch.exp(-((DISTANCE / 30) ** 2))
        return super().forward(image, dose, contrast) + dose.view(-1, 1, 1, 1, 1) * turn


def test_motion_that_the_map_hides_is_told_by_displacement_and_volume_share():
    hidden = ScaledClassifier(Tilted(), BALL.repeat(12, 1, 1, 1, 1) * (1 + POINTS[:, :1] / 50), 0.0)
    motion = exponential(INWARDS, GRID)[0].numpy()
    rows = [
        explain_image(network, hidden, None, ANATOMY, 0, 0, INNER_TRUTH, GRID, MASK, motion)
        for network in (Shrinking(), Turning())
    ]
    plain, turned = (row for _, row in rows)
    assert np.corrcoef(rows[0][0][MASK], rows[1][0][MASK])[0, 1] > 0.95
    assert plain.displacement_ncc == pytest.approx(1, abs=1e-5)
    assert 0.2 < turned.displacement_ncc < 0.7
    assert turned.motion_outside_mm > plain.motion_outside_mm
    assert plain.volume_share == pytest.approx(1, abs=0.05)
    assert abs(turned.volume_share) < 0.7


class Tilted(nn.Module):
    """The logit is brightness towards +y, which a turn changes more than shrinking."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return ((POINTS[:, 1:2] - 0.1 * DISTANCE) * image).flatten(1).sum(dim=1, keepdim=True) / 100


def test_motion_outside_is_the_mean_length_where_no_volume_changes():
    _, row = explain(truth=INNER_TRUTH)
    length = exponential(INWARDS, GRID)[0].square().sum(dim=0).sqrt().numpy()
    outside = MASK & (np.abs(INNER_TRUTH) < 0.005)
    assert row.motion_outside_mm == pytest.approx(length[outside].mean(), rel=1e-5)


def test_a_region_that_does_not_change_has_no_error():
    far = TRUTH * (DISTANCE[0, 0].numpy() > 40)
    _, row = explain(truth=far)
    assert np.isnan(row.roi_error_percent)
