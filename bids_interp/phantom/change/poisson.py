"""Velocity fields that grow and shrink tissue as prescribed: v = grad(psi), div v = a."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid


def gradient_velocity(divergence: np.ndarray, grid: Grid) -> np.ndarray:
    """Solve the Poisson equation with mirrored borders and take the gradient.

    The mean of `divergence` has no solution inside a closed box and is dropped; nothing crosses
    the border of the grid, so the volume of the box is kept.

    Parameters
    ----------
    divergence : numpy.ndarray
        Wanted divergence per unit time, shape of the grid.
    grid : Grid
        Its axes are orthogonal (rotated is fine, sheared is not).

    Returns
    -------
    numpy.ndarray
        Velocity (3, X, Y, Z), float32, mm along world axes per unit time.

    Raises
    ------
    UsageError
        The axes of the grid are not orthogonal.
    """
    directions = grid.linear / grid.spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise UsageError(
            'The voxel axes of this grid are sheared.',
            'Plan the change on the template grid.',
        )
    waves = [
        _second_difference(size) / step**2
        for size, step in zip(grid.shape, grid.spacing, strict=True)
    ]
    eigenvalues = waves[0][:, None, None] + waves[1][:, None] + waves[2]
    eigenvalues[0, 0, 0] = 1.0
    spectrum = dctn(np.asarray(divergence, np.float32)) / eigenvalues.astype(np.float32)
    spectrum[0, 0, 0] = 0.0
    potential = np.pad(idctn(spectrum), 1, mode='symmetric')
    steps = np.stack([_central(potential, axis) / grid.spacing[axis] for axis in range(3)])
    return np.einsum('ij,jxyz->ixyz', directions, steps).astype(np.float32)


def _second_difference(size: int) -> np.ndarray:
    """Response of each cosine to two central differences, as the log-Jacobian sees it.

    It vanishes for the finest wave, which central differences cannot see; the floor, a share of
    the compact second difference, keeps such waves out of the solution.
    """
    angle = np.pi * np.arange(size) / size
    return np.minimum(-(np.sin(angle) ** 2), 0.25 * (2 * np.cos(angle) - 2))


def _central(padded: np.ndarray, axis: int) -> np.ndarray:
    """Central difference per voxel of an array padded by one on each side."""
    ahead = [slice(1, -1)] * 3
    behind = list(ahead)
    ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
    return 0.5 * (padded[tuple(ahead)] - padded[tuple(behind)])
