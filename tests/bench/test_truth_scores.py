from __future__ import annotations

import numpy as np
import pytest

from bids_interp.bench.truth_scores import (
    basis_ceiling,
    score_map,
    volume_change_error,
)
from bids_interp.models.networks.simulator import Simulator
from bids_interp.spatial import Grid

GRID = Grid((20, 24, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
EVERYWHERE = np.ones(GRID.shape, bool)


def bump(width: float, centre: tuple[float, float, float]) -> np.ndarray:
    points = GRID.world_coordinates()
    away = points - np.array(centre)[:, None, None, None]
    return np.exp(-(away**2).sum(axis=0) / (2 * width**2)).astype(np.float32)


TRUTH = -0.4 * bump(8, (28, 44, 40)) + 0.4 * bump(8, (52, 44, 40))


def test_a_perfect_map_has_perfect_scores():
    scores = score_map(TRUTH, TRUTH, EVERYWHERE)
    assert scores.ncc == pytest.approx(1.0)
    assert scores.sign_accuracy == scores.iou == scores.average_precision == 1.0
    assert scores.off_target_percent < 0.5


def test_a_map_of_the_wrong_sign():
    scores = score_map(-TRUTH, TRUTH, EVERYWHERE)
    assert scores.ncc == pytest.approx(-1.0)
    assert scores.sign_accuracy == 0.0
    # Where it changes something is right.
    assert scores.average_precision == 1.0


def test_half_of_the_voxels_found_by_hand():
    truth = np.zeros((1, 1, 8))
    truth[..., :4] = -0.1
    found = np.zeros((1, 1, 8))
    found[..., 2:6] = -0.2
    scores = score_map(found, truth, np.ones((1, 1, 8), bool))
    assert scores.iou == pytest.approx(2 / 6)
    assert scores.sign_accuracy == pytest.approx(0.5)
    assert scores.off_target_percent == pytest.approx(100 * (1 - np.exp(-0.2)) / 2)
    # 4 of the strongest, 2 of them right; the other two only among all 8.
    assert scores.average_precision == pytest.approx(0.5 * 0.5 + 0.5 * 4 / 8)


def test_unsigned_maps_have_neither_sign_nor_volume():
    scores = score_map(np.abs(TRUTH), TRUTH, EVERYWHERE, signed=False)
    assert scores.ncc == pytest.approx(1.0)
    assert np.isnan(scores.sign_accuracy)
    assert np.isnan(scores.off_target_percent)


def test_only_the_mask_counts():
    mask = np.zeros(GRID.shape, bool)
    mask[:10] = True
    spoilt = TRUTH.copy()
    spoilt[10:] = 5.0
    assert score_map(spoilt, TRUTH, mask).ncc == pytest.approx(1.0)


def test_volume_change_error():
    region = np.zeros(GRID.shape)
    region[4:8] = 1.0
    wanted = np.full(GRID.shape, np.log(0.85))
    assert volume_change_error(wanted, wanted, region) == pytest.approx(0.0)
    assert volume_change_error(0 * wanted, wanted, region) == pytest.approx(100.0)
    assert volume_change_error(np.full(GRID.shape, np.log(1.15)), wanted, region) == pytest.approx(
        200.0
    )


def test_what_the_basis_can_hold():
    wide = Simulator(GRID, EVERYWHERE, smoothing_mm=4.0)
    narrow_truth = TRUTH - TRUTH.mean()
    coarse = Simulator(GRID, EVERYWHERE, smoothing_mm=16.0)
    ceiling = basis_ceiling(narrow_truth, EVERYWHERE, wide)
    assert ceiling > 0.9
    assert basis_ceiling(narrow_truth, EVERYWHERE, coarse) < ceiling - 0.05
