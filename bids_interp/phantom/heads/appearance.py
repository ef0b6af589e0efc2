"""Appearance of a scan: contrast, bias field and noise."""

from __future__ import annotations

import numpy as np

from bids_interp.phantom.change.anatomy import spline_noise
from bids_interp.spatial import Grid


def vary_contrast(image: np.ndarray, rng: np.random.Generator, spread: float = 0.08) -> np.ndarray:
    """Raise an image (white matter 1, air 0) to a random power around 1.

    Parameters
    ----------
    image : numpy.ndarray
        Intensities, white matter about 1.
    rng : numpy.random.Generator
        Random generator.
    spread : float
        Standard deviation of the logarithm of the power.

    Returns
    -------
    numpy.ndarray
        Image of the same shape. White matter stays 1, grey matter and fluid become darker or
        brighter.
    """
    power = float(np.exp(spread * rng.standard_normal()))
    return np.maximum(image, 0) ** power


def bias_field(
    grid: Grid, rng: np.random.Generator, strength: float = 0.1, knot_mm: float = 80.0
) -> np.ndarray:
    """Draw a smooth multiplicative field around 1.

    Parameters
    ----------
    grid : Grid
        Template grid within the box of :mod:`bids_interp.phantom.change.anatomy`.
    rng : numpy.random.Generator
        Random generator.
    strength : float
        Standard deviation of the field's logarithm.
    knot_mm : float
        Distance between knots, the scale of the field.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32, positive.
    """
    return np.exp(strength * spline_noise(grid, rng, knot_mm, components=1)[0])


def rician_noise(image: np.ndarray, rng: np.random.Generator, sigma: float = 0.02) -> np.ndarray:
    """Add the noise of a magnitude image.

    Parameters
    ----------
    image : numpy.ndarray
        Intensities, white matter about 1.
    rng : numpy.random.Generator
        Random generator.
    sigma : float
        Standard deviation in each of the two channels.

    Returns
    -------
    numpy.ndarray
        sqrt((image + n1)^2 + n2^2), float32.
    """
    first, second = sigma * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + first, second).astype(np.float32)
