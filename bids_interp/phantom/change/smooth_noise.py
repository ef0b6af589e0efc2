"""Smooth noise as a change of volume: a random pattern that belongs to no structure or label."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_interp.spatial import Grid, gradient_velocity


def draw_smooth_change(
    grid: Grid, mask: np.ndarray, grain_mm: float, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a curl-free velocity whose divergence is smooth Gaussian noise.

    Parameters
    ----------
    grid : Grid
        Grid of the velocity.
    mask : numpy.ndarray
        (X, Y, Z) bool, where volumes change.
    grain_mm : float
        Standard deviation of the Gaussian that smooths white noise, in mm.
    spread : float
        Standard deviation of the divergence in the mask, which is about that of the log-Jacobian.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    numpy.ndarray
        (3, X, Y, Z) float32, mm along world axes per unit time.
    """
    noise = gaussian_filter(rng.standard_normal(grid.shape), grain_mm / grid.spacing)
    # A hard edge of the mask would be a change of its own.
    noise *= gaussian_filter(mask.astype(float), 1.0)
    return gradient_velocity(noise * spread / noise[mask].std(), grid)
