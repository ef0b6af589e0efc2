"""Poisson solver: velocities with a given divergence, and the curl-free part of a velocity."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import dctn, idctn

from bids_interp.errors import UsageError
from bids_interp.spatial.grid import Grid


def gradient_velocity(divergence: np.ndarray, grid: Grid) -> np.ndarray:
    """Solve the Poisson equation with mirrored borders and return the gradient.

    Nothing crosses the border of the grid, so that its total volume is kept and the mean of
    `divergence` is ignored.

    Parameters
    ----------
    divergence : numpy.ndarray
        Wanted divergence per unit time, shape of the grid.
    grid : Grid
        Grid with orthogonal axes, possibly rotated.

    Returns
    -------
    numpy.ndarray
        Velocity (3, X, Y, Z), float32, mm along world axes per unit time.

    Raises
    ------
    UsageError
        If the axes of the grid are not orthogonal.
    """
    directions = _directions(grid)
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


def curl_free_part(velocity: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Project a velocity on the gradients of potentials (Helmholtz decomposition).

    Only this part changes volumes to first order. The rest, ``velocity - curl_free_part``, has no
    divergence: it moves structures without changing their size.

    Parameters
    ----------
    velocity : torch.Tensor
        (B, 3, X, Y, Z) mm along world axes.
    grid : Grid
        Grid with orthogonal axes, possibly rotated.

    Returns
    -------
    torch.Tensor
        (B, 3, X, Y, Z) gradient that differs least from the velocity, on the device of the input.

    Raises
    ------
    UsageError
        If the axes of the grid are not orthogonal.
    """
    directions = _directions(grid)
    parts = []
    for field in velocity.detach().cpu().numpy():
        steps = np.einsum('ij,ixyz->jxyz', directions, field)
        divergence = sum(_divergence(steps[i], i) / grid.spacing[i] for i in range(3))
        parts.append(gradient_velocity(np.asarray(divergence), grid))
    return torch.from_numpy(np.stack(parts)).to(velocity)


def _directions(grid: Grid) -> np.ndarray:
    """Return the unit vectors of the voxel axes in the columns, after a check."""
    directions = grid.linear / grid.spacing
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise UsageError(
            'The voxel axes of this grid are sheared.',
            'Compute the change on the template grid.',
        )
    return directions


def _divergence(component: np.ndarray, axis: int) -> np.ndarray:
    """Return minus the adjoint of the central differences of a mirrored potential.

    The component along an axis changes its sign in the mirror, so that the fit of a gradient is
    least squares up to the border.
    """
    width = [(1, 1) if i == axis else (0, 0) for i in range(3)]
    padded = np.pad(component, width, mode='symmetric')
    faces = np.moveaxis(padded, axis, 0)
    faces[0] *= -1
    faces[-1] *= -1
    return np.moveaxis(0.5 * (faces[2:] - faces[:-2]), 0, axis)


def _second_difference(size: int) -> np.ndarray:
    """Response of each cosine to two central differences, as used by the log-Jacobian.

    It vanishes for the finest wave. The floor, a share of the compact second difference, keeps such
    waves out of the solution.
    """
    angle = np.pi * np.arange(size) / size
    return np.minimum(-(np.sin(angle) ** 2), 0.25 * (2 * np.cos(angle) - 2))


def _central(padded: np.ndarray, axis: int) -> np.ndarray:
    """Return central differences per voxel of an array padded by one voxel."""
    ahead = [slice(1, -1)] * 3
    behind = list(ahead)
    ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
    return 0.5 * (padded[tuple(ahead)] - padded[tuple(behind)])
