"""Sham warps, as large and smooth as a planted change but without volume changes.

Without shams, a classifier could separate patients from controls by the blur of the interpolation.
"""

from __future__ import annotations

import numpy as np

from bids_interp.phantom.change.anatomy import spline_noise
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.boundary import PlantedChange


def draw_sham(
    atrophy: PlantedChange, rng: np.random.Generator, knot_mm: float = 18.0
) -> AtrophyField:
    """Draw a volume-preserving warp in the same places and of the same size as an atrophy.

    Parameters
    ----------
    atrophy : AtrophyField or BoundaryChange
        Change to imitate, on a template grid.
    rng : numpy.random.Generator
        Random generator.
    knot_mm : float
        Scale of the vortices.

    Returns
    -------
    AtrophyField
        Field without volume changes. Its velocity is the curl of a random potential times the local
        speed of the atrophy, scaled to the root mean square speed of the atrophy. The divergence
        is zero, so that the log-Jacobian is zero up to discretisation.
    """
    grid = atrophy.grid
    speed = np.linalg.norm(atrophy.velocity, axis=0)
    if not speed.any():
        return AtrophyField(grid, np.zeros_like(atrophy.velocity), {}, atrophy.absorb)
    potential = speed * spline_noise(grid, rng, knot_mm)
    velocity = _curl(potential, grid.linear)
    velocity *= np.sqrt((speed**2).mean() / (velocity**2).sum(axis=0).mean())
    return AtrophyField(grid, velocity.astype(np.float32), {}, atrophy.absorb)


def _curl(field: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Return the curl of (3, X, Y, Z) by central differences in mm along world axes."""
    steps = np.stack([np.stack(np.gradient(component)) for component in field])
    slopes = np.einsum('cjxyz,ji->cixyz', steps, np.linalg.inv(linear))
    return np.stack(
        [
            slopes[2, 1] - slopes[1, 2],
            slopes[0, 2] - slopes[2, 0],
            slopes[1, 0] - slopes[0, 1],
        ]
    )
