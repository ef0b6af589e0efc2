from __future__ import annotations

import numpy as np
import pytest

from bids_interp.bench.volume_judge import (
    VolumeJudge,
    region_volumes,
    regions_of_image,
)
from bids_interp.spatial import Grid

GRID = Grid((12, 10, 8), np.diag([2.0, 3.0, 4.0, 1.0]))


def test_volumes_by_hand():
    regions = np.zeros((2, *GRID.shape))
    regions[0, :3] = 1.0
    regions[1, :, :2] = 0.5
    np.testing.assert_allclose(
        region_volumes(regions, GRID), [3 * 10 * 8 * 24.0, 0.5 * 12 * 2 * 8 * 24.0]
    )
    change = np.zeros(GRID.shape)
    change[:3] = np.log(0.8)
    after = region_volumes(regions, GRID, change)
    assert after[0] == pytest.approx(0.8 * 3 * 10 * 8 * 24.0)


def test_regions_move_with_the_image():
    regions = np.zeros((1, *GRID.shape), np.float32)
    regions[0, 6] = 1.0
    pull_back = np.zeros((3, *GRID.shape), np.float32)
    pull_back[0] = 4.0  # what is seen at x comes from two voxels further
    moved = regions_of_image(regions, pull_back, GRID)
    assert moved[0, 4].min() == pytest.approx(1.0, abs=1e-5)
    assert moved[0, 6].max() == pytest.approx(0.0, abs=1e-5)


def test_the_judge_knows_what_shrinks():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    volumes = np.exp(rng.normal(8, 0.05, (60, 3)))
    volumes[labels == 1, 0] *= 0.7
    judge = VolumeJudge.fit(volumes, labels)
    controls = volumes[labels == 0]
    before = judge.decide(controls)
    shrunk = judge.decide(controls * [0.6, 1, 1])
    assert (shrunk > before).all()
    assert (shrunk > 0).all()
    assert (judge.decide(controls * [1, 0.95, 1]) > 0).mean() < 0.2
    grown = judge.decide(controls * [1.2, 1, 1])
    assert (grown < before).all()
    assert (grown < 0).all()
