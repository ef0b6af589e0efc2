"""Velocity fit: the stationary velocity whose flow has a wanted log-Jacobian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.spatial import (
    Grid,
    count_folded,
    exponential,
    gradient_velocity,
    log_jacobian,
)

#: Largest accepted root mean square difference from the wanted log-Jacobian.
ACCEPTED_RMSE = 1e-3
_GOAL_RMSE = 1e-4
_ITERATIONS = 12


class Targets(NamedTuple):
    """Changing and absorbing regions on one grid."""

    #: Name -> (X, Y, Z) bool, in which the volume is measured.
    hard: dict[str, np.ndarray]
    #: Name -> (X, Y, Z) float32 in [0, 1], profile of the change.
    soft: dict[str, np.ndarray]
    #: (X, Y, Z) float32 in [0, 1], profile of the absorber.
    taker: np.ndarray


def draw_targets(
    grid: Grid,
    names: list[str],
    takers: tuple[str, ...],
    sigma_mm: float,
    masks: Mapping[str, np.ndarray],
) -> Targets:
    """Draw the changing and the absorbing regions.

    Parameters
    ----------
    grid : Grid
        Grid to draw on.
    names, takers : list of str
        Names of changing and of absorbing regions, in `masks` or built in.
    sigma_mm : float
        Softness of the edges.
    masks : mapping
        Name -> (X, Y, Z) array in [0, 1] on `grid`.
    """

    def soft(name: str) -> np.ndarray:
        if name not in masks:
            return region_mask(name, grid, sigma_mm)
        share = np.asarray(masks[name], np.float32)
        return gaussian_filter(share, sigma_mm / grid.spacing, mode='nearest')

    hard = {
        name: (masks[name] > 0.5) if name in masks else region_mask(name, grid) > 0
        for name in names
    }
    edges = {name: soft(name) for name in names}
    taker = np.max([soft(name) for name in takers], axis=0)
    # Changing regions do not absorb, so that shared edges have one target.
    taker = taker * np.prod([1 - mask for mask in edges.values()], axis=0)
    return Targets(hard, edges, taker)


def wanted_log_jacobian(
    targets: Targets, changes: Mapping[str, float]
) -> tuple[np.ndarray | None, float]:
    """Compute a soft log-Jacobian with the wanted region volumes and constant total volume.

    Returns
    -------
    numpy.ndarray or None
        (X, Y, Z) float32, or None if there is no solution.
    float
        Log-Jacobian of the absorber.
    """
    hard, soft, taker = targets
    goal = {name: np.log1p(change) for name, change in changes.items()}
    amplitude, level = dict(goal), 0.0
    wanted = np.zeros(taker.shape, np.float32)
    for _ in range(30):
        planned = sum(amplitude[name] * soft[name] for name in changes)
        surplus = float(np.expm1(planned).sum(dtype=np.float64))
        level = _balance(planned, taker, surplus)
        if not np.isfinite(level):
            return None, level
        wanted = (planned + level * taker).astype(np.float32)
        worst = 0.0
        for name in changes:
            reached = np.log1p(np.expm1(wanted[hard[name]].astype(np.float64)).mean())
            amplitude[name] += goal[name] - reached
            worst = max(worst, abs(goal[name] - reached))
        if worst < 1e-5:
            return wanted, level
    return None, level


def _balance(planned: np.ndarray, taker: np.ndarray, surplus: float) -> float:
    """Return the amplitude of the absorber that keeps the total volume, or NaN."""
    inside = taker > 1e-4
    base, weight = np.exp(planned[inside].astype(np.float64)), taker[inside].astype(np.float64)
    outside = surplus - float((base - 1).sum())

    def excess(level: float) -> float:
        return outside + float((base * np.exp(level * weight) - 1).sum())

    if excess(-8.0) > 0 or excess(8.0) < 0:
        return float('nan')
    return float(brentq(excess, -8.0, 8.0, xtol=1e-7))


def fit_velocity(grid: Grid, wanted: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Fit the divergence by fixed-point iteration; None if the map folds or does not converge."""
    divergence, best = wanted.copy(), (np.zeros(0), np.inf)
    for _ in range(_ITERATIONS):
        velocity = gradient_velocity(divergence, grid)
        tensor = torch.from_numpy(velocity)[None]
        forward = exponential(tensor, grid)
        if not torch.isfinite(forward).all() or count_folded(forward, grid):
            return None
        residual = wanted - log_jacobian(forward, grid)[0, 0].numpy()
        rmse = float(np.sqrt(np.mean(residual.astype(np.float64) ** 2)))
        if rmse < best[1]:
            best = (velocity, rmse)
        if rmse < _GOAL_RMSE or rmse > 2 * best[1]:
            break
        divergence += residual
    backward = exponential(torch.from_numpy(-best[0])[None], grid)
    if best[1] > ACCEPTED_RMSE or count_folded(backward, grid):
        return None
    return best
