"""Atrophy with an exactly known log-Jacobian: named regions shrink or grow.

The forward map exp(s v) moves tissue from the original to the changed image. On the grid of the
original, its log-Jacobian is negative where a structure shrinks. Images are pulled back by
exp(-s v).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from bids_interp.errors import UsageError
from bids_interp.phantom.change.velocity_fit import (
    Targets,
    draw_targets,
    fit_velocity,
    wanted_log_jacobian,
)
from bids_interp.phantom.regions.coarse import check_region, region_mask
from bids_interp.spatial import (
    Grid,
    count_folded,
    exponential,
    log_jacobian,
)

#: Regions that can absorb a change, in proportion to their volume.
ABSORBERS: dict[str, tuple[str, ...]] = {
    'ventricles': ('ventricles',),
    'shell': ('shell',),
    'csf': ('ventricles', 'third_ventricle', 'shell'),
}


class Change(NamedTuple):
    """Change at one severity; arrays are float32 on the grid of the field."""

    #: Forward displacement (3, X, Y, Z) in mm.
    forward: np.ndarray
    #: Displacement (3, X, Y, Z) in mm that pulls the image back.
    pull_back: np.ndarray
    #: Log-Jacobian (X, Y, Z) of the forward map: the truth, negative = contraction.
    log_jacobian: np.ndarray


@dataclass(frozen=True, eq=False)
class AtrophyField:
    """Stationary velocity with known volume changes of regions.

    Parameters
    ----------
    grid : Grid
        Grid of the velocity.
    velocity : numpy.ndarray
        (3, X, Y, Z) float32, mm along world axes, at severity 1.
    changes : dict
        Relative volume change of each named region at severity 1; empty for a sham.
    absorb : str
        Name of the absorber, which keeps the total volume.
    absorbed : float
        Relative volume change of the absorbing regions (peak of the soft mask) at severity 1.
    rmse : float
        Root mean square difference between the wanted and the actual log-Jacobian.
    """

    grid: Grid
    velocity: np.ndarray
    changes: Mapping[str, float]
    absorb: str
    absorbed: float = 0.0
    rmse: float = 0.0

    def displacement(self, severity: float) -> torch.Tensor:
        """Return the forward displacement (1, 3, X, Y, Z) in mm; a negative severity inverts it."""
        return exponential(torch.from_numpy(self.velocity)[None] * float(severity), self.grid)

    def faded(self, window: np.ndarray) -> AtrophyField:
        """Return the change with its velocity multiplied by a window (X, Y, Z)."""
        return replace(self, velocity=(window * self.velocity).astype(np.float32))

    def at(self, severity: float) -> Change:
        """Integrate the velocity at a severity (negative values reverse the change).

        The truth is the log-Jacobian of exp(severity x velocity), which is close to, but not
        exactly, severity times the log-Jacobian at severity 1.
        """
        forward, backward = (self.displacement(sign * severity) for sign in (1, -1))
        truth = log_jacobian(forward, self.grid)
        return Change(forward[0].numpy(), backward[0].numpy(), truth[0, 0].numpy())

    def log_jacobian(self, severity: float = 1.0) -> np.ndarray:
        """Return the log-Jacobian (X, Y, Z) of the forward map at a severity."""
        return log_jacobian(self.displacement(severity), self.grid)[0, 0].numpy()

    def volume_change(self, name: str, severity: float = 1.0) -> float:
        """Return the relative volume change of a region (hard mask), on template grids only."""
        mask = region_mask(name, self.grid) > 0
        return float(np.expm1(self.log_jacobian(severity)[mask].astype(np.float64)).mean())


def fit_atrophy(
    grid: Grid,
    changes: Mapping[str, float],
    absorb: str = 'ventricles',
    sigma_mm: float = 3.0,
    masks: Mapping[str, np.ndarray] | None = None,
) -> AtrophyField:
    """Fit the velocity that changes regions by a given share of their volume.

    Parameters
    ----------
    grid : Grid
        Template grid (MNI152 world), about 1 to 4 mm.
    changes : dict
        Region name (see :func:`bids_interp.phantom.regions.coarse.region_names`) -> relative volume
        change: -0.35 removes 35 %, +0.3 adds 30 %.
    absorb : str
        Region that keeps the total volume: ``'ventricles'``, ``'shell'`` (space around the
        cerebrum), ``'csf'`` (both) or the name of one of `masks`.
    sigma_mm : float
        Softness of the region edges.
    masks : dict, optional
        Regions of an atlas: name -> (X, Y, Z) share in [0, 1] on `grid`. Other names are built-in
        regions.

    Returns
    -------
    AtrophyField
        Velocity whose log-Jacobian at severity 1 differs from the wanted one by at most 1e-3 (rms),
        and the volume of each region by at most 0.1 percentage points.

    Raises
    ------
    UsageError
        If a region or absorber is unknown, a change is -100 % or less, a region absorbs itself, or
        the effect folds; the message then gives the largest effect that does not fold.

    Notes
    -----
    Stationary velocity v = grad(psi) by a DCT Poisson solver, corrected by the fixed point
    a <- a + wanted - log det D exp(v).
    """
    given = masks or {}
    _check_changes(grid, changes, absorb, given)
    takers = (absorb,) if absorb in given else ABSORBERS[absorb]
    targets = draw_targets(grid, list(changes), takers, sigma_mm, given)
    field = _try_fit(grid, targets, changes, absorb)
    if field is not None:
        return field
    share = _largest_share(grid, targets, changes, absorb)
    wanted = ', '.join(f'{name} {change:+.0%}' for name, change in changes.items())
    largest = ', '.join(f'{name} {change * share:+.1%}' for name, change in changes.items())
    raise UsageError(
        f'The effect ({wanted}, absorbed by {absorb}) cannot be planted without folding.',
        f'The largest possible effect on this grid is {largest}. Or choose another absorber.',
    )


def check_severity(atrophy: AtrophyField, strongest: float, name: str) -> None:
    """Raise `UsageError` if a change folds at its strongest severity, in either direction."""
    if any(count_folded(atrophy.displacement(sign * strongest), atrophy.grid) for sign in (1, -1)):
        raise UsageError(f'The effect {name} folds at severity {strongest}.', 'Lower the severity.')


def _check_changes(
    grid: Grid, changes: Mapping[str, float], absorb: str, masks: Mapping[str, np.ndarray]
) -> None:
    if absorb not in ABSORBERS and absorb not in masks:
        raise UsageError(f'There is no absorber {absorb!r}.', f'Absorbers: {", ".join(ABSORBERS)}.')
    if not changes:
        raise UsageError(
            'The effect changes no region.', 'Name at least one region and its change.'
        )
    for name, change in changes.items():
        if name not in masks:
            check_region(name)
        if not np.isfinite(change) or change <= -1:
            raise UsageError(
                f'{name} cannot change by {change:+.0%}.',
                'Choose a value above -1 (the whole volume), such as -0.15 or -15%.',
            )
        if _absorbs(name, absorb, masks):
            raise UsageError(
                f'{name} cannot both change and absorb.', f'Choose an absorber other than {absorb}.'
            )
        inside = masks[name] > 0.5 if name in masks else region_mask(name, grid)
        if inside.shape != grid.shape or not inside.any():
            raise UsageError(
                f'{name} has no voxels on this grid.', 'Use a finer grid in MNI152 space.'
            )


def _absorbs(name: str, absorb: str, masks: Mapping[str, np.ndarray]) -> bool:
    if absorb in masks or name in masks:
        return name == absorb
    return any(name == part or name.startswith(f'{part}_') for part in ABSORBERS[absorb])


def _try_fit(
    grid: Grid, targets: Targets, changes: Mapping[str, float], absorb: str
) -> AtrophyField | None:
    """Fit the velocity, or return None if the effect folds."""
    wanted, amplitude = wanted_log_jacobian(targets, changes)
    if wanted is None:
        return None
    found = fit_velocity(grid, wanted)
    if found is None:
        return None
    velocity, rmse = found
    return AtrophyField(grid, velocity, dict(changes), absorb, float(np.expm1(amplitude)), rmse)


def _largest_share(
    grid: Grid, targets: Targets, changes: Mapping[str, float], absorb: str
) -> float:
    """Find the largest share of the changes that does not fold, to about 3 %, by bisection."""
    possible, impossible = 0.0, 1.0
    for _ in range(5):
        share = 0.5 * (possible + impossible)
        scaled = {name: share * change for name, change in changes.items()}
        if _try_fit(grid, targets, scaled, absorb) is None:
            impossible = share
        else:
            possible = share
    return possible
