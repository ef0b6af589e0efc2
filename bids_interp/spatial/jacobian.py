"""Jacobian determinants of warps: local expansion and contraction."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.spatial.fields import _warp_voxels, count_squarings, to_voxels
from bids_interp.spatial.grid import Grid

#: Lower limit of determinants before the logarithm; smaller ones count as folds.
SMALLEST_DETERMINANT = 1e-6


def _determinant(columns: list[torch.Tensor]) -> torch.Tensor:
    """Return the determinant of 3 x 3 matrices given as three columns (B, 3, ...)."""
    a, b, c = columns
    cross = torch.stack(
        [
            b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1],
            b[:, 2] * c[:, 0] - b[:, 0] * c[:, 2],
            b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0],
        ],
        dim=1,
    )
    return (a * cross).sum(dim=1, keepdim=True)


def _central(steps: torch.Tensor, axis: int) -> torch.Tensor:
    """Return central differences along a voxel axis, one-sided at the two faces.

    Along an axis of one voxel, as in a two-dimensional image, nothing changes.
    """
    if steps.shape[2 + axis] == 1:
        return torch.zeros_like(steps)
    return torch.gradient(steps, dim=2 + axis)[0]


def jacobian_determinant(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the Jacobian determinant of ``p -> p + u(p)`` by central differences.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z), mm along world axes.
    grid : Grid
        Grid of the displacement.

    Returns
    -------
    torch.Tensor
        (B, 1, X, Y, Z). Values above 1 mean local expansion under the map, values below 1
        contraction; for the forward map of a simulation, from the observed to the simulated image.
    """
    # The determinant does not depend on the basis, and voxel steps need no spacing.
    return voxel_determinant(to_voxels(displacement, grid))


def voxel_determinant(steps: torch.Tensor) -> torch.Tensor:
    """Return :func:`jacobian_determinant` for a displacement in voxel steps along i, j, k."""
    columns = []
    for axis in range(3):
        column = _central(steps, axis)
        unit = torch.zeros(1, 3, 1, 1, 1, dtype=steps.dtype, device=steps.device)
        unit[0, axis] = 1.0
        columns.append(column + unit)
    return _determinant(columns)


def log_jacobian(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the natural logarithm of :func:`jacobian_determinant`, (B, 1, X, Y, Z).

    Positive values mean local expansion, negative values contraction; the volume change in percent
    is ``100 * (exp(logJ) - 1)``. Folded voxels get the logarithm of a tiny number;
    :func:`count_folded` counts them.
    """
    return jacobian_determinant(displacement, grid).clamp_min(SMALLEST_DETERMINANT).log()


def flow_log_jacobian(
    velocity: torch.Tensor, grid: Grid, squarings: int | None = None
) -> torch.Tensor:
    """Return the log-Jacobian of exp(v), accumulated along the squarings.

    log det D(f o f)(p) = log det Df(f(p)) + log det Df(p), so each squaring adds the pulled-back
    log-Jacobian to itself. This does not use differences of the integrated map, and therefore
    serves as a cross-check.

    Parameters
    ----------
    velocity : torch.Tensor
        (B, 3, X, Y, Z) mm per unit time.
    grid : Grid
        Grid of the velocity.
    squarings : int, optional
        See :func:`bids_interp.spatial.fields.exponential`.

    Returns
    -------
    torch.Tensor
        (B, 1, X, Y, Z).
    """
    count = count_squarings(velocity, grid) if squarings is None else squarings
    small = velocity / 2**count
    steps = to_voxels(small, grid)
    total = log_jacobian(small, grid)
    for _ in range(count):
        total = total + _warp_voxels(total, steps)
        steps = steps + _warp_voxels(steps, steps)
    return total


def divergence(field: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the divergence (B, 1, X, Y, Z) of a field (B, 3, X, Y, Z) by central differences.

    The divergence of a velocity is the rate of local expansion.
    """
    steps = to_voxels(field, grid)
    parts = [_central(steps[:, axis : axis + 1], axis) for axis in range(3)]
    return parts[0] + parts[1] + parts[2]


def count_folded(displacement: torch.Tensor, grid: Grid, mask: torch.Tensor | None = None) -> int:
    """Return the number of voxels whose Jacobian determinant is not positive.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z) mm.
    grid : Grid
        Grid of the displacement.
    mask : torch.Tensor, optional
        (B, 1, X, Y, Z) boolean; all voxels by default.
    """
    folded = jacobian_determinant(displacement, grid) <= 0
    if mask is not None:
        folded = folded & mask
    return int(folded.sum())


def digital_folding_volume(displacement: torch.Tensor, grid: Grid) -> float:
    """Return the folded volume of the digital map in mm^3.

    The determinant is computed with each of the eight combinations of forward and backward
    differences; the negative parts are summed and averaged over the combinations. A map that has
    no folds by central differences at voxel centres can still fold between them.

    References
    ----------
    Liu Y, Chen J, Wei S, Carass A, Prince J. On finite difference Jacobian computation in
    deformable image registration. International Journal of Computer Vision 2024.
    """
    steps = to_voxels(displacement, grid)
    shape = steps.shape[2:]
    inner = [slice(1, size - 1) if size > 1 else slice(None) for size in shape]
    volume = 0.0
    for corner in range(8):
        columns = []
        for axis in range(3):
            forward = bool(corner >> axis & 1)
            there = list(inner)
            if shape[axis] > 1:
                there[axis] = slice(2, shape[axis]) if forward else slice(0, shape[axis] - 2)
            difference = steps[:, :, *there] - steps[:, :, *inner]
            column = difference if forward else -difference
            unit = torch.zeros(1, 3, 1, 1, 1, dtype=steps.dtype, device=steps.device)
            unit[0, axis] = 1.0
            columns.append(column + unit)
        volume += float((-_determinant(columns)).clamp_min(0).sum())
    return volume / 8 * grid.voxel_volume


def percent_change(log_j: np.ndarray) -> np.ndarray:
    """Convert a log-Jacobian to volume change in percent.

    Examples
    --------
    >>> round(float(percent_change(np.log(0.85))), 6)
    -15.0
    """
    return 100.0 * np.expm1(log_j)
