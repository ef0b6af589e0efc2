"""Jacobian determinants: how much a warp makes each place grow or shrink."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.spatial.fields import _warp_voxels, count_squarings, to_voxels
from bids_interp.spatial.grid import Grid

#: Determinants below this are set to it before the logarithm; they are counted as folds.
SMALLEST_DETERMINANT = 1e-6


def _determinant(columns: list[torch.Tensor]) -> torch.Tensor:
    """Determinant of 3 x 3 matrices given as three columns (B, 3, ...), without LAPACK."""
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
    """Central difference along a voxel axis, one-sided at the two faces."""
    return torch.gradient(steps, dim=2 + axis)[0]


def jacobian_determinant(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Determinant of the Jacobian of ``p -> p + u(p)`` by central differences.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z), mm along world axes.
    grid : Grid
        Where it lives.

    Returns
    -------
    torch.Tensor
        (B, 1, X, Y, Z). Above 1 the place grows under the map, below 1 it shrinks. For the
        forward map of a simulation that is growth from the observed to the simulated image.
    """
    # The determinant does not depend on the basis: in voxel steps no spacing enters.
    return voxel_determinant(to_voxels(displacement, grid))


def voxel_determinant(steps: torch.Tensor) -> torch.Tensor:
    """:func:`jacobian_determinant` of a displacement in voxel steps along i, j, k."""
    columns = []
    for axis in range(3):
        column = _central(steps, axis)
        unit = torch.zeros(1, 3, 1, 1, 1, dtype=steps.dtype, device=steps.device)
        unit[0, axis] = 1.0
        columns.append(column + unit)
    return _determinant(columns)


def log_jacobian(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Natural logarithm of :func:`jacobian_determinant`, (B, 1, X, Y, Z).

    Positive = local expansion, negative = local contraction; the volume change in percent is
    ``100 * (exp(logJ) - 1)``. Folded voxels get the logarithm of a tiny number: count them with
    :func:`count_folded`.
    """
    return jacobian_determinant(displacement, grid).clamp_min(SMALLEST_DETERMINANT).log()


def flow_log_jacobian(
    velocity: torch.Tensor, grid: Grid, squarings: int | None = None
) -> torch.Tensor:
    """Log-Jacobian of exp(v), accumulated along the squarings.

    log det D(f o f)(p) = log det Df(f(p)) + log det Df(p), so each squaring doubles the map by
    adding the log-Jacobian to itself, pulled back. Independent of the differences of the
    integrated map, and therefore its cross-check.

    Parameters
    ----------
    velocity : torch.Tensor
        (B, 3, X, Y, Z) mm per unit time.
    grid : Grid
        Where it lives.
    squarings : int, optional
        As in :func:`bids_interp.spatial.fields.exponential`.

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


def count_folded(displacement: torch.Tensor, grid: Grid, mask: torch.Tensor | None = None) -> int:
    """Number of voxels whose Jacobian determinant is not positive.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z) mm.
    grid : Grid
        Where it lives.
    mask : torch.Tensor, optional
        (B, 1, X, Y, Z) boolean; everything where not given.
    """
    folded = jacobian_determinant(displacement, grid) <= 0
    if mask is not None:
        folded = folded & mask
    return int(folded.sum())


def digital_folding_volume(displacement: torch.Tensor, grid: Grid) -> float:
    """Volume in mm^3 that the digital map turns inside out.

    The determinant is taken with each of the eight combinations of forward and backward
    differences; the negative parts are added and averaged over the combinations. A map without
    folds at voxel centres by central differences can still fold between them.

    References
    ----------
    Liu Y, Chen J, Wei S, Carass A, Prince J. On finite difference Jacobian computation in
    deformable image registration. International Journal of Computer Vision 2024.
    """
    steps = to_voxels(displacement, grid)
    shape = steps.shape[2:]
    inner = tuple(slice(1, size - 1) for size in shape)
    volume = 0.0
    for corner in range(8):
        columns = []
        for axis in range(3):
            forward = bool(corner >> axis & 1)
            here = [slice(1, size - 1) for size in shape]
            there = list(here)
            there[axis] = slice(2, shape[axis]) if forward else slice(0, shape[axis] - 2)
            difference = steps[:, :, *there] - steps[:, :, *inner]
            column = difference if forward else -difference
            unit = torch.zeros(1, 3, 1, 1, 1, dtype=steps.dtype, device=steps.device)
            unit[0, axis] = 1.0
            columns.append(column + unit)
        volume += float((-_determinant(columns)).clamp_min(0).sum())
    return volume / 8 * grid.voxel_volume


def percent_change(log_j: np.ndarray) -> np.ndarray:
    """Volume change in percent of a log-Jacobian.

    Examples
    --------
    >>> round(float(percent_change(np.log(0.85))), 6)
    -15.0
    """
    return 100.0 * np.expm1(log_j)
