"""Sham warps: as large and as smooth as a planted change, but no volume changes.

Without them a classifier tells patients from controls by the blur of the interpolation or by the
mere presence of a warp.
"""

from __future__ import annotations

import numpy as np

from bids_interp.phantom.change.anatomy import spline_noise
from bids_interp.phantom.change.atrophy import AtrophyField


def sham(plan: AtrophyField, rng: np.random.Generator, knot_mm: float = 18.0) -> AtrophyField:
    """Draw a volume-preserving warp that moves tissue where, and as far as, a plan does.

    Parameters
    ----------
    plan : AtrophyField
        The change that it stands for, on a template grid.
    rng : numpy.random.Generator
        Source of randomness; every call gives another sham.
    knot_mm : float
        Scale of the vortices.

    Returns
    -------
    AtrophyField
        No changes; velocity = curl of (random potential x local speed of the plan), scaled to the
        plan's root mean square speed. Its divergence is zero, so the log-Jacobian is zero up to
        discretisation, in each region and everywhere else.
    """
    grid = plan.grid
    speed = np.linalg.norm(plan.velocity, axis=0)
    potential = speed * spline_noise(grid, rng, knot_mm)
    velocity = _curl(potential, grid.linear)
    velocity *= np.sqrt((speed**2).mean() / (velocity**2).sum(axis=0).mean())
    return AtrophyField(grid, velocity.astype(np.float32), {}, plan.absorb)


def _curl(field: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Curl of (3, X, Y, Z) by central differences in mm along world axes."""
    steps = np.stack([np.stack(np.gradient(component)) for component in field])
    slopes = np.einsum('cjxyz,ji->cixyz', steps, np.linalg.inv(linear))
    return np.stack(
        [
            slopes[2, 1] - slopes[1, 2],
            slopes[0, 2] - slopes[2, 0],
            slopes[1, 0] - slopes[0, 1],
        ]
    )
