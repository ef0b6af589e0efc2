"""Velocities with a given divergence."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid
from bids_interp.spatial.poisson import gradient_velocity

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
