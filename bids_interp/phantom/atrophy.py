"""Plant a known change: named regions shrink or grow, and the exact log-Jacobian is known.

The forward map exp(s v) moves tissue from the original to the changed image; on the original's
grid its log-Jacobian is negative where a structure shrinks. Images are pulled back by exp(-s v).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq

from bids_interp.errors import UsageError
from bids_interp.phantom.poisson import gradient_velocity
from bids_interp.phantom.regions import check_region, region_mask
from bids_interp.spatial import (
    Grid,
    count_folded,
    exponential,
    log_jacobian,
    refine_velocity,
)

#: What a change may be absorbed by; several share it in proportion to their volume.
ABSORBERS: dict[str, tuple[str, ...]] = {
    'ventricles': ('ventricles',),
    'shell': ('shell',),
    'csf': ('ventricles', 'third_ventricle', 'shell'),
}
#: Root mean square difference between the wanted and the planted log-Jacobian that is accepted.
ACCEPTED_RMSE = 1e-3
_GOAL_RMSE = 1e-4
_ITERATIONS = 12


class Change(NamedTuple):
    """A planted change at one severity; arrays are float32 on the grid of the field."""

    #: Forward displacement (3, X, Y, Z) mm: where tissue goes.
    forward: np.ndarray
    #: Displacement (3, X, Y, Z) mm that pulls the image back.
    pull_back: np.ndarray
    #: log det of the forward map's Jacobian (X, Y, Z): the truth, negative = shrinks.
    log_jacobian: np.ndarray


@dataclass(frozen=True, eq=False)
class AtrophyField:
    """A stationary velocity that plants a change of known size.

    Parameters
    ----------
    grid : Grid
        Where it lives.
    velocity : numpy.ndarray
        (3, X, Y, Z) float32, mm along world axes, for severity 1.
    changes : dict
        Relative volume change of each named region at severity 1; empty for a sham.
    absorb : str
        What takes up the volume.
    absorbed : float
        Relative volume change of the absorbing regions (soft mask's peak), at severity 1.
    rmse : float
        Root mean square difference between the wanted and the planted log-Jacobian.
    """

    grid: Grid
    velocity: np.ndarray
    changes: Mapping[str, float]
    absorb: str
    absorbed: float = 0.0
    rmse: float = 0.0

    def at(self, severity: float) -> Change:
        """Integrate at a severity (negative reverses the change).

        The truth at any severity is the log-Jacobian of exp(severity x velocity) itself; it is
        close to, but not exactly, severity times that of severity 1.
        """
        scaled = torch.from_numpy(self.velocity)[None] * float(severity)
        forward = exponential(scaled, self.grid)
        backward = exponential(-scaled, self.grid)
        truth = log_jacobian(forward, self.grid)
        return Change(forward[0].numpy(), backward[0].numpy(), truth[0, 0].numpy())

    def log_jacobian(self, severity: float = 1.0) -> np.ndarray:
        """Truth (X, Y, Z) of the forward map at a severity."""
        scaled = torch.from_numpy(self.velocity)[None] * float(severity)
        return log_jacobian(exponential(scaled, self.grid), self.grid)[0, 0].numpy()

    def volume_change(self, name: str, severity: float = 1.0) -> float:
        """Relative volume change of a named region (hard mask), on template grids only."""
        mask = region_mask(name, self.grid) > 0
        return float(np.expm1(self.log_jacobian(severity)[mask].astype(np.float64)).mean())


def plan_atrophy(
    grid: Grid,
    changes: Mapping[str, float],
    absorb: str = 'ventricles',
    sigma_mm: float = 3.0,
) -> AtrophyField:
    """Find the velocity that changes regions by a given share of their volume.

    Parameters
    ----------
    grid : Grid
        Template grid (MNI152 world), about 1 to 4 mm.
    changes : dict
        Region name (see :func:`bids_interp.phantom.regions.region_names`) -> relative volume
        change: -0.35 takes 35 % away, +0.3 adds 30 %.
    absorb : str
        ``'ventricles'``, ``'shell'`` (space around the cerebrum) or ``'csf'`` (both): what grows
        or shrinks so that the total volume is kept.
    sigma_mm : float
        Softness of the region edges.

    Returns
    -------
    AtrophyField
        Its log-Jacobian at severity 1 differs from the wanted one by at most 1e-3 (rms), and the
        volume of each region by at most 0.1 percentage points.

    Raises
    ------
    UsageError
        Unknown region or absorber, a change of -100 % or less, a region that absorbs itself, or
        an effect that would fold; the message names the largest share that would not.

    Notes
    -----
    Stationary velocity v = grad(psi) by a DCT Poisson solver, corrected by the fixed point
    a <- a + wanted - log det D exp(v).
    """
    _check_changes(grid, changes, absorb)
    field = _try_plan(grid, changes, absorb, sigma_mm)
    if field is not None:
        return field
    share = _largest_share(grid, changes, absorb, sigma_mm)
    wanted = ', '.join(f'{name} {change:+.0%}' for name, change in changes.items())
    largest = ', '.join(f'{name} {change * share:+.1%}' for name, change in changes.items())
    raise UsageError(
        f'The effect ({wanted}, absorbed by {absorb}) cannot be planted without folding.',
        f'The largest one that can on this grid is {largest}; or choose another absorber.',
    )


def carry(field: AtrophyField, grid: Grid, native_to_template: np.ndarray) -> AtrophyField:
    """Carry a planned change into the space of one brain: v'(p) = L^-1 v(A p).

    Parameters
    ----------
    field : AtrophyField
        Planned on a template grid.
    grid : Grid
        The brain's own grid.
    native_to_template : numpy.ndarray
        4 x 4 from the brain's world to the template's, RAS+ mm.

    Returns
    -------
    AtrophyField
        On the brain's grid; one warp by its pull-back is the only resampling that is needed. Its
        log-Jacobian is the template's, transported by plain resampling.
    """
    velocity = refine_velocity(field.velocity, field.grid, grid, native_to_template)[0]
    return AtrophyField(
        grid,
        np.ascontiguousarray(velocity.numpy(), np.float32),
        field.changes,
        field.absorb,
        field.absorbed,
        field.rmse,
    )


def _check_changes(grid: Grid, changes: Mapping[str, float], absorb: str) -> None:
    if absorb not in ABSORBERS:
        raise UsageError(f'Nothing is called {absorb!r}.', f'Absorbers: {", ".join(ABSORBERS)}.')
    if not changes:
        raise UsageError('No region is to change.', 'Name at least one region and its change.')
    for name, change in changes.items():
        check_region(name)
        if not np.isfinite(change) or change <= -1:
            raise UsageError(
                f'{name} cannot change by {change:+.0%}.', 'Give more than -1 (the whole volume).'
            )
        if any(name == part or name.startswith(f'{part}_') for part in ABSORBERS[absorb]):
            raise UsageError(
                f'{name} cannot both change and absorb.', f'Use another absorber than {absorb}.'
            )
        if not region_mask(name, grid).any():
            raise UsageError(
                f'{name} has no voxel on this grid.', 'Use a finer grid, in MNI152 space.'
            )


def _try_plan(
    grid: Grid, changes: Mapping[str, float], absorb: str, sigma_mm: float
) -> AtrophyField | None:
    """Plan, or None where the effect cannot be had without folding."""
    wanted, amplitude = _wanted_log_jacobian(grid, changes, absorb, sigma_mm)
    if wanted is None:
        return None
    found = _fit_velocity(grid, wanted)
    if found is None:
        return None
    velocity, rmse = found
    return AtrophyField(grid, velocity, dict(changes), absorb, float(np.expm1(amplitude)), rmse)


def _wanted_log_jacobian(
    grid: Grid, changes: Mapping[str, float], absorb: str, sigma_mm: float
) -> tuple[np.ndarray | None, float]:
    """Soft log-Jacobian with the wanted region volumes and an unchanged total volume."""
    hard = {name: region_mask(name, grid) > 0 for name in changes}
    soft = {name: region_mask(name, grid, sigma_mm) for name in changes}
    taker = np.max([region_mask(name, grid, sigma_mm) for name in ABSORBERS[absorb]], axis=0)
    # What changes by plan does not absorb; the two would otherwise fight over shared edges.
    taker = taker * np.prod([1 - mask for mask in soft.values()], axis=0)
    goal = {name: np.log1p(change) for name, change in changes.items()}
    amplitude, level = dict(goal), 0.0
    wanted = np.zeros(grid.shape, np.float32)
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
    """Amplitude of the absorber at which the total volume is kept; NaN where there is none."""
    inside = taker > 1e-4
    base, weight = np.exp(planned[inside].astype(np.float64)), taker[inside].astype(np.float64)
    outside = surplus - float((base - 1).sum())

    def excess(level: float) -> float:
        return outside + float((base * np.exp(level * weight) - 1).sum())

    if excess(-8.0) > 0 or excess(8.0) < 0:
        return float('nan')
    return float(brentq(excess, -8.0, 8.0, xtol=1e-7))


def _fit_velocity(grid: Grid, wanted: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Fixed point of the divergence; None where the map folds or does not converge."""
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


def _largest_share(grid: Grid, changes: Mapping[str, float], absorb: str, sigma_mm: float) -> float:
    """Largest share of the changes that can be planted, to about 3 %, by bisection."""
    possible, impossible = 0.0, 1.0
    for _ in range(5):
        share = 0.5 * (possible + impossible)
        scaled = {name: share * change for name, change in changes.items()}
        if _try_plan(grid, scaled, absorb, sigma_mm) is None:
            impossible = share
        else:
            possible = share
    return possible
