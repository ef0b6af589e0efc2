"""Forward and pull-back maps of velocities and of displacements, against fields known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.spatial import Grid, compose, exponential, flow, invert, jacobian_determinant
from bids_interp.spatial.flows import FIELD_KINDS, forward_map, pull_back
from helpers.grids import GRIDS

TESTED = [name for name in GRIDS if name != 'isotropic']


def world(grid: Grid) -> torch.Tensor:
    return torch.from_numpy(grid.world_coordinates())[None]


def inner(field: torch.Tensor) -> torch.Tensor:
    return field[..., 8:-8, 8:-8, 8:-8]


def bump(grid: Grid, size_mm: float = 3.0) -> torch.Tensor:
    """Smooth, without folding, and 0 at the border: every component of its own."""
    points = world(grid)
    fade = torch.exp(-0.5 * points.square().sum(dim=1, keepdim=True) / 8.0**2)
    weights = torch.tensor([1.0, -0.6, 0.4]).view(1, 3, 1, 1, 1)
    return size_mm * weights * fade


@pytest.mark.parametrize('name', TESTED)
def test_the_inverse_of_a_shift_is_the_shift_back(name: str) -> None:
    grid = GRIDS[name]
    shift = torch.tensor([3.0, -2.0, 1.5]).view(1, 3, 1, 1, 1).expand(1, 3, *grid.shape)
    torch.testing.assert_close(invert(shift, grid), -shift, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', TESTED)
def test_the_inverse_of_a_linear_map(name: str) -> None:
    """x + 0.1 x is 1.1 x; its inverse is y / 1.1, so the displacement is (1 / 1.1 - 1) y."""
    grid = GRIDS[name]
    points = world(grid)
    inverse = invert(0.1 * points, grid)
    torch.testing.assert_close(inner(inverse), inner((1 / 1.1 - 1) * points), atol=1e-3, rtol=0)


@pytest.mark.parametrize('name', TESTED)
def test_there_and_back_is_the_identity(name: str) -> None:
    grid = GRIDS[name]
    there = bump(grid)
    back = invert(there, grid)
    # What the fixed point is for is exact; the other way round pays for interpolating the inverse.
    assert compose(back, there, grid).abs().max() < 1e-4
    assert compose(there, back, grid).abs().max() < 0.2
    # It is not simply minus the field, which would be wrong by the change of the field on the way.
    assert compose(there, -there, grid).abs().max() > 0.3


def test_more_iterations_come_nearer() -> None:
    grid = GRIDS['oblique']
    there = bump(grid)
    errors = [float(compose(invert(there, grid, n), there, grid).abs().max()) for n in (1, 3, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < 1e-4


@pytest.mark.parametrize('name', TESTED)
@pytest.mark.parametrize('kind', FIELD_KINDS)
def test_forward_and_pull_back_undo_each_other(name: str, kind: str) -> None:
    grid = GRIDS[name]
    forward, backward = flow(bump(grid), grid, kind)
    # Interpolation on 2 to 3 mm, of a field of 3 mm.
    assert compose(forward, backward, grid).abs().max() < 0.1
    assert forward.abs().max() > 2.5


def test_a_velocity_moves_tissue_forward_and_a_displacement_pulls_it_back() -> None:
    grid = GRIDS['anisotropic']
    shift = torch.tensor([3.0, 0.0, 0.0]).view(1, 3, 1, 1, 1).expand(1, 3, *grid.shape)
    assert forward_map(shift, grid).mean() > 0.99
    assert pull_back(shift, grid).mean() < -0.99
    assert torch.equal(pull_back(shift, grid, 'displacement'), shift)
    assert forward_map(shift, grid, 'displacement').mean() < -0.99


def test_a_pull_back_that_reaches_out_shrinks_what_it_shows() -> None:
    """Positive log-Jacobian is expansion of tissue, of either kind of field."""
    grid = GRIDS['anisotropic']
    points = world(grid)
    for field, kind in ((-0.1 * points, 'velocity'), (0.1 * points, 'displacement')):
        forward, _ = flow(field, grid, kind)
        assert (inner(jacobian_determinant(forward, grid)) < 0.8).all()


def test_both_kinds_agree_on_the_same_motion() -> None:
    grid = GRIDS['anisotropic']
    velocity = bump(grid)
    forward, backward = flow(velocity, grid)
    again, same = flow(exponential(-velocity, grid), grid, 'displacement')
    assert torch.equal(same, backward)
    assert (again - forward).abs().max() < 0.1


def test_a_batch_is_inverted_one_by_one() -> None:
    grid = GRIDS['oblique']
    both = torch.cat([bump(grid, 3.0), bump(grid, -2.0)])
    alone = torch.cat([invert(part[None], grid) for part in both])
    torch.testing.assert_close(invert(both, grid), alone)


def test_kinds_are_named() -> None:
    grid = GRIDS['oblique']
    with pytest.raises(ValueError, match="'acceleration'.*velocity"):
        flow(torch.zeros(1, 3, *grid.shape), grid, 'acceleration')
    assert not np.any(invert(torch.zeros(1, 3, *grid.shape), grid).numpy())
