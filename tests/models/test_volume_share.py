"""Volume share against fields whose parts are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.models.explain.volume_share import volume_share
from bids_interp.spatial import Grid, exponential, gradient_velocity, warp

GRID = Grid((20, 20, 20), np.diag([3.0, 3.0, 3.0, 1.0]))
POINTS = torch.from_numpy(GRID.world_coordinates())[None] - 28.5
DISTANCE = POINTS.square().sum(dim=1, keepdim=True).sqrt()
BALL = torch.sigmoid((14 - DISTANCE) / 3)
#: A source in the middle: what is there grows.
GROWTH = torch.from_numpy(
    gradient_velocity(0.3 * torch.exp(-((DISTANCE / 12) ** 2))[0, 0].numpy(), GRID)
)[None]
#: A vortex about the z axis that carries tissue around, without a change of volume.
VORTEX = torch.exp(-((DISTANCE / 14) ** 2)) * torch.cat(
    [-POINTS[:, 1:2], POINTS[:, :1], torch.zeros_like(DISTANCE)], dim=1
)
#: An image that both fields change: a ball, brighter on one side.
IMAGE = BALL * (1 + 0.02 * POINTS[:, :1])


class Linear(nn.Module):
    """Two outputs: the brightness of the surroundings, and ten times the tilt along y."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        size = (image * DISTANCE).sum(dim=(1, 2, 3, 4)) / 100
        tilt = (image * POINTS[:, 1:2]).sum(dim=(1, 2, 3, 4)) / 100
        return torch.stack([size, 10 * tilt], dim=1)


def shift(velocity: torch.Tensor) -> torch.Tensor:
    moved = Linear()(warp(IMAGE, exponential(-velocity, GRID), GRID))
    return (moved - Linear()(IMAGE))[0]


def test_a_gradient_has_the_share_one() -> None:
    assert shift(GROWTH)[0] > 0
    share = volume_share(Linear(), IMAGE, GROWTH, GRID)
    assert share.shape == (1,)
    assert share[0] == pytest.approx(1, abs=0.02)


def test_the_share_of_a_mixture_is_that_of_the_shifts() -> None:
    mixed = GROWTH + 0.2 * VORTEX
    weights = torch.tensor([1.0, 1.0])
    wanted = float(shift(GROWTH).sum() / shift(mixed).sum())
    assert 0.05 < abs(wanted) < 0.8
    share = volume_share(Linear(), IMAGE, mixed, GRID, weights=weights)
    assert share[0] == pytest.approx(wanted, abs=0.03)
    both = volume_share(
        Linear(), IMAGE.expand(2, -1, -1, -1, -1), torch.cat([GROWTH, mixed]), GRID, weights=weights
    )
    np.testing.assert_allclose(both, [1, wanted], atol=0.03)


def test_a_field_that_moves_nothing_has_no_share() -> None:
    assert np.isnan(volume_share(Linear(), IMAGE, torch.zeros_like(GROWTH), GRID)).all()


def test_a_displacement_pulls_the_image_back() -> None:
    pull = -GROWTH
    share = volume_share(Linear(), IMAGE, pull, GRID, kind='displacement')
    assert share[0] == pytest.approx(1, abs=0.02)
