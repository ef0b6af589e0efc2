"""The velocity whose flow has a wanted log-Jacobian: exact, without rotation, smooth outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.spatial import (
    Grid,
    VolumeFlow,
    count_folded,
    divergence,
    exponential,
    log_jacobian,
)
from bids_interp.spatial.volume_flow import CLOSE, padded_grid
from tests.helpers.grids import GRIDS

LINEAR = np.diag([4.0, 4.0, 4.0])


def brain_and_change(grid: Grid, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """A round brain of 30 mm, and a change of 10 mm beside its centre."""
    points = grid.world_coordinates()
    mask = np.linalg.norm(points, axis=0) < 30
    away = np.linalg.norm(points - np.array([8.0, 0, 0])[:, None, None, None], axis=0)
    return mask, (depth * np.exp(-0.5 * np.square(away / 6))).astype(np.float32)


def flow_of(source: np.ndarray, grid: Grid, mask: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    velocity = torch.from_numpy(VolumeFlow(grid, mask).velocity(source))[None]
    forward = exponential(velocity, grid)
    return forward, log_jacobian(forward, grid)[0, 0].numpy()


def change_halfway(source: np.ndarray, grid: Grid, mask: np.ndarray) -> np.ndarray:
    """Change of volume from the start of the flow to its end, at the points of its middle."""
    return flow_of(source / 2, grid, mask)[1] - flow_of(-source / 2, grid, mask)[1]


@pytest.mark.parametrize('name', sorted(GRIDS))
def test_flow_has_the_wanted_log_jacobian(name):
    """The sign, the axes and the units are right on any grid."""
    grid = GRIDS[name]
    mask, wanted = brain_and_change(grid, -0.9)
    source = VolumeFlow(grid, mask).fit_source(wanted)
    forward, _ = flow_of(source, grid, mask)
    found = change_halfway(source, grid, mask)
    error = np.sqrt(np.square((found - wanted)[mask]).mean())
    assert error < CLOSE * np.sqrt(np.square(wanted[mask]).mean())
    assert found[mask].min() < -0.75
    assert count_folded(forward, grid) == 0


def test_opposite_change_has_the_opposite_flow():
    """So exchanged classes exchange the maps of injecting and removing."""
    grid = GRIDS['isotropic']
    mask, wanted = brain_and_change(grid, -0.6)
    flow = VolumeFlow(grid, mask)
    assert np.allclose(flow.fit_source(-wanted), -flow.fit_source(wanted), atol=1e-6)


def test_velocity_has_no_rotation():
    grid = GRIDS['isotropic']
    mask, wanted = brain_and_change(grid, -0.3)
    velocity = VolumeFlow(grid, mask).velocity(wanted)
    slopes = [np.gradient(part, 2.0) for part in velocity]
    curl = np.stack([slopes[2][1] - slopes[1][2], slopes[0][2] - slopes[2][0]])
    inner = (slice(None), *[slice(2, -2)] * 3)
    assert np.abs(curl[inner]).max() < 0.02 * np.abs(wanted).max()


def test_velocity_decays_outside_and_ignores_what_is_there():
    grid = GRIDS['isotropic']
    mask, wanted = brain_and_change(grid, -0.3)
    velocity = VolumeFlow(grid, mask).velocity(wanted)
    beyond = np.where(mask, wanted, 7.0).astype(np.float32)
    assert np.array_equal(VolumeFlow(grid, mask).velocity(beyond), velocity)
    assert np.abs(velocity[:, 0]).max() < 0.25 * np.abs(velocity).max()
    flux = divergence(torch.from_numpy(velocity)[None], grid)[0, 0].numpy()
    # What leaves the brain is taken up around it.
    assert flux[mask].sum() < 0 < flux[~mask].sum()


def test_margin_is_as_wide_on_every_side():
    grid = Grid((3, 4, 5), np.diag([2.0, 4.0, 8.0, 1.0]))
    wide, inner = padded_grid(grid)
    assert wide.shape == (3 + 32, 4 + 16, 5 + 8)
    assert inner == (slice(16, 19), slice(8, 12), slice(4, 9))
    assert np.allclose(wide.affine[:3, 3], -32)


def test_change_that_would_fold_is_weakened():
    grid = GRIDS['isotropic']
    mask, wanted = brain_and_change(grid, -30.0)
    source = VolumeFlow(grid, mask).fit_source(wanted)
    forward, found = flow_of(source, grid, mask)
    assert count_folded(forward, grid, torch.from_numpy(mask)[None, None]) == 0
    assert found[mask].min() < -0.2


def test_no_change_has_no_source():
    grid = GRIDS['isotropic']
    mask, wanted = brain_and_change(grid, 0.0)
    assert not VolumeFlow(grid, mask).fit_source(wanted).any()


def test_divergence_of_an_expansion():
    grid = GRIDS['oblique']
    field = 0.1 * torch.from_numpy(grid.world_coordinates())[None]
    assert torch.allclose(divergence(field, grid), torch.tensor(0.3), atol=1e-4)


def test_a_plane_flows_in_the_plane():
    """Images of one slice have two-dimensional flows: the log-Jacobian is that of areas."""
    grid = Grid((48, 48, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    x, y, _ = grid.world_coordinates() - 47.0
    mask = x**2 + y**2 < 44**2
    wanted = -0.3 * np.exp(-((x - 10) ** 2 + y**2) / (2 * 8**2)) * mask
    field = VolumeFlow(grid, mask)
    assert padded_grid(grid)[0].shape[2] == 1
    velocity = field.velocity(field.fit_source(wanted.astype(np.float32)))
    assert np.abs(velocity[2]).max() == 0
    halves = [exponential(torch.from_numpy(sign * velocity / 2)[None], grid) for sign in (1, -1)]
    ahead, back = (log_jacobian(half, grid)[0, 0].numpy() for half in halves)
    error = (ahead - back - wanted)[mask]
    assert np.sqrt(np.square(error).mean() / np.square(wanted[mask]).mean()) < 0.05
