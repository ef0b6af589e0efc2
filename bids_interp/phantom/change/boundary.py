"""Boundary change: a region shrinks or grows because its boundary moves along its normal.

The second generator of planted changes. It shares nothing with
:mod:`bids_interp.phantom.change.atrophy` beyond the interpolation: the velocity is not the solution
of a Poisson equation but follows the distance to a boundary, varies in time, and is integrated by
the Runge-Kutta method; the surroundings of the region take up its volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import brentq

from bids_interp.errors import UsageError
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.spatial import (
    Grid,
    count_folded,
    log_jacobian,
    refine_velocity,
    resample,
    warp,
)

#: Distance in mm from the boundary within which tissue moves, at the start and at the end.
REACH_MM = (4.0, 8.0)
#: Steps of the integration, and width of the Gaussian that rounds the boundary.
STEPS = 4
_ROUNDING_MM = 2.0
#: Mean motion of the boundary in mm up to which a change is searched.
_FARTHEST_MM = 6.0


@dataclass(frozen=True, eq=False)
class BoundaryChange:
    """Change by a velocity that varies in time.

    Parameters
    ----------
    grid : Grid
        Grid of the velocities.
    velocities : numpy.ndarray
        (2, 3, X, Y, Z) float32, mm along world axes: velocity at the times 0 and 1, at severity 1.
        It is linear in between.
    changes : dict
        Relative volume change of the region at severity 1.
    """

    grid: Grid
    velocities: np.ndarray
    changes: Mapping[str, float]
    absorb: str = 'surroundings'

    @property
    def velocity(self) -> np.ndarray:
        """Mean velocity (3, X, Y, Z), whose size a sham imitates."""
        return np.asarray(self.velocities.mean(axis=0))

    def displacement(self, severity: float) -> torch.Tensor:
        """Return the forward displacement (1, 3, X, Y, Z) in mm; a negative severity inverts it.

        The inverse is the flow of the same velocity back in time.
        """
        size = abs(float(severity))
        first, last = torch.from_numpy(size * self.velocities)[:, None]
        if severity < 0:
            first, last = -last, -first
        return _integrate(first, last, self.grid)

    def faded(self, window: np.ndarray) -> BoundaryChange:
        """Return the change with its velocities multiplied by a window (X, Y, Z)."""
        return replace(self, velocities=(window * self.velocities).astype(np.float32))


#: Change of either generator.
PlantedChange: TypeAlias = AtrophyField | BoundaryChange


def _integrate(first: torch.Tensor, last: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Integrate a velocity from the time 0 to 1 by the classical Runge-Kutta method."""

    def velocity(time: float, moved: torch.Tensor) -> torch.Tensor:
        return warp((1 - time) * first + time * last, moved, grid, padding='border')

    moved, step = torch.zeros_like(first), 1 / STEPS
    for number in range(STEPS):
        time = number * step
        one = velocity(time, moved)
        two = velocity(time + step / 2, moved + step / 2 * one)
        three = velocity(time + step / 2, moved + step / 2 * two)
        four = velocity(time + step, moved + step * three)
        moved = moved + step / 6 * (one + 2 * two + 2 * three + four)
    return moved


def fit_boundary(
    grid: Grid, name: str, region: np.ndarray, change: float, source: Grid | None = None
) -> BoundaryChange:
    """Move the boundary of a region until its volume has changed by a given share.

    Parameters
    ----------
    grid : Grid
        Grid of the velocities, on which the volume is measured, with axes along the world axes.
    name : str
        Name of the region.
    region : numpy.ndarray
        (X, Y, Z) share of each voxel in [0, 1].
    change : float
        Relative volume change at severity 1.
    source : Grid, optional
        Grid of the region, finer than `grid` [default: the same].

    Raises
    ------
    UsageError
        If the change folds, or the boundary would have to move too far.
    """
    directions = _outward(region > 0.5, source or grid)
    if source is not None:
        directions = np.stack([refine_velocity(end, source, grid)[0].numpy() for end in directions])
        share = torch.from_numpy(region)[None, None]
        region = resample(share, source, grid, antialias=True)[0, 0].numpy()

    def moved(distance: float) -> BoundaryChange:
        velocities = (np.sign(change) * distance * directions).astype(np.float32)
        return BoundaryChange(grid, velocities, {name: change})

    def error(distance: float) -> float:
        found = log_jacobian(moved(distance).displacement(1.0), grid)[0, 0].numpy()
        return float((region * np.expm1(found)).sum() / region.sum()) - change

    if change * error(_FARTHEST_MM) < 0:
        raise UsageError(
            f'{name} cannot change by {change:+.0%} within {_FARTHEST_MM:g} mm.',
            'Choose a smaller change.',
        )
    made = moved(float(brentq(error, 0, _FARTHEST_MM, xtol=5e-3)))
    if any(count_folded(made.displacement(sign), grid) for sign in (1.0, -1.0)):
        raise UsageError(f'{name} folds when it changes by {change:+.0%}.', 'Use a finer grid.')
    return made


def _outward(inside: np.ndarray, grid: Grid) -> np.ndarray:
    """Outward normals (2, 3, X, Y, Z) that fade with the distance, for both ends of the time."""
    near = ndimage.distance_transform_edt(~inside, grid.spacing)
    deep = ndimage.distance_transform_edt(inside, grid.spacing)
    distance = ndimage.gaussian_filter(near - deep, _ROUNDING_MM / grid.spacing)
    slopes = np.stack(np.gradient(distance, *grid.spacing))
    # Rows along the axes of the grid become components along the axes of the world.
    normals = np.einsum('ij,jxyz->ixyz', grid.linear / grid.spacing, slopes)
    ends = [np.exp(-((distance / reach) ** 2)) * normals for reach in REACH_MM]
    return np.stack(ends).astype(np.float32)
