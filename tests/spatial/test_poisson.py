"""Velocities with a given divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid
from bids_interp.spatial.poisson import curl_free_part, gradient_velocity

GRID = Grid((24, 26, 28), np.diag([2.0, 2.5, 3.0, 1.0]), 'MNI152NLin2009aSym')


def _wave(grid: Grid) -> np.ndarray:
    """A smooth divergence with mean 0 that differs along each axis."""
    axes = [
        np.cos(np.pi * (axis + 1) * (np.arange(size) + 0.5) / size)
        for axis, size in enumerate(grid.shape)
    ]
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)


def test_divergence_of_the_velocity_is_the_wanted_one() -> None:
    wanted = 0.1 * _wave(GRID)
    velocity = gradient_velocity(wanted, GRID)
    divergence = sum(np.gradient(velocity[i], GRID.spacing[i], axis=i) for i in range(3))
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(divergence[inside], wanted[inside], atol=2e-3)


def test_a_constant_divergence_moves_nothing_and_shear_is_refused() -> None:
    assert np.abs(gradient_velocity(np.ones(GRID.shape), GRID)).max() < 1e-5
    sheared = np.diag([2.0, 2.0, 2.0, 1.0])
    sheared[0, 1] = 0.5
    with pytest.raises(UsageError):
        gradient_velocity(np.ones((4, 4, 4)), Grid((4, 4, 4), sheared, 'T1w'))


def _swirl() -> np.ndarray:
    """A vortex that ends inside the grid: (-dw/dy, dw/dx, 0), which has no divergence."""
    axes = [np.sin(np.pi * np.arange(size) / (size - 1)) ** 2 for size in GRID.shape]
    stream = 40 * axes[0][:, None, None] * axes[1][:, None] * axes[2]
    along = np.gradient(stream, *GRID.spacing)
    return np.stack([-along[1], along[0], np.zeros(GRID.shape)]).astype(np.float32)


def test_the_curl_free_part_is_the_gradient_alone() -> None:
    gradient, swirl = gradient_velocity(0.1 * _wave(GRID), GRID), _swirl()
    assert np.sqrt((swirl**2).mean()) > 0.3
    both = torch.from_numpy(np.stack([gradient + swirl, swirl]))
    found = curl_free_part(both, GRID).numpy()
    np.testing.assert_allclose(found[0], gradient, atol=0.02)
    assert np.abs(found[1]).max() < 0.02


def test_the_curl_free_part_of_a_translation_is_the_translation() -> None:
    moved = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *GRID.shape)
    found = curl_free_part(moved, GRID).numpy()
    inside = (..., *(slice(4, -4),) * 3)
    np.testing.assert_allclose(found[inside], moved.numpy()[inside], atol=0.1)


def test_the_split_turns_with_the_grid() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(GRID.spacing)
    turned = Grid(GRID.shape, affine, GRID.space)
    field = torch.from_numpy(gradient_velocity(0.1 * _wave(GRID), GRID) + _swirl())[None]
    rotated = torch.einsum('ij,bjxyz->bixyz', torch.from_numpy(turn).float(), field)
    wanted = torch.einsum(
        'ij,bjxyz->bixyz', torch.from_numpy(turn).float(), curl_free_part(field, GRID)
    )
    np.testing.assert_allclose(curl_free_part(rotated, turned).numpy(), wanted.numpy(), atol=1e-4)


def test_gradient_and_rest_are_orthogonal() -> None:
    field = torch.randn(1, 3, *GRID.shape, generator=torch.Generator().manual_seed(0))
    # Smooth noise: the finest waves are damped on purpose.
    field = torch.nn.functional.avg_pool3d(field, 5, stride=1, padding=2)
    part = curl_free_part(field, GRID)
    product = float((part * (field - part)).sum())
    assert abs(product) < 0.02 * float(field.square().sum())
    assert 0.1 < float(part.square().sum() / field.square().sum()) < 0.7
