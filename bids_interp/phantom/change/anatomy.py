"""Anatomy of a phantom subject: a random smooth diffeomorphism of the template.

Knots are fixed in the MNI152 world, so that equal random numbers give equal anatomies on every
grid.
"""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid, SplineEvaluator

#: World box (mm) covered by knots, which holds a whole head around the MNI152 brain.
BOX = ((-120.0, -160.0, -160.0), (120.0, 140.0, 120.0))
#: Standard deviation of a cubic B-spline with unit random coefficients, averaged over a cell,
#: per axis: sqrt(151 / 315).
_AXIS_SD = np.sqrt(151.0 / 315.0)


def spline_noise(
    grid: Grid, rng: np.random.Generator, knot_mm: float, components: int = 3
) -> np.ndarray:
    """Draw smooth noise of unit standard deviation: a cubic B-spline with random coefficients.

    Parameters
    ----------
    grid : Grid
        Template grid with axes along the world axes.
    rng : numpy.random.Generator
        Random generator; the number of coefficients does not depend on the grid.
    knot_mm : float
        Distance between knots.
    components : int
        Number of independent fields.

    Returns
    -------
    numpy.ndarray
        (components, X, Y, Z) float32.
    """
    low, high = (np.array(corner) for corner in BOX)
    world = np.stack([grid.affine[:3, 3], (grid.affine @ [*np.array(grid.shape) - 1, 1])[:3]])
    reach = np.array([*np.minimum(low, world.min(0)), *np.maximum(high, world.max(0))])
    if not np.allclose(reach, [*low, *high]):
        raise UsageError(
            'The grid extends beyond the box of the phantom anatomy.',
            f'Use a template grid within {low.tolist()} to {high.tolist()} mm.',
        )
    counts = np.ceil((high - low) / knot_mm).astype(int) + 1
    affine = np.diag([knot_mm, knot_mm, knot_mm, 1.0])
    affine[:3, 3] = low
    knots = Grid((int(counts[0]), int(counts[1]), int(counts[2])), affine, grid.space)
    values = rng.standard_normal((1, components, *knots.shape)).astype(np.float32) / _AXIS_SD**3
    return SplineEvaluator(knots, grid)(torch.from_numpy(values))[0].numpy()


def sample_anatomy(
    grid: Grid, rng: np.random.Generator, amplitude_mm: float = 2.5, knot_mm: float = 30.0
) -> np.ndarray:
    """Draw a random smooth anatomy.

    Parameters
    ----------
    grid : Grid
        Template grid with axes along the world axes, inside `BOX`.
    rng : numpy.random.Generator
        Random generator.
    amplitude_mm : float
        Standard deviation of each component of the velocity.
    knot_mm : float
        Distance between knots, the scale on which anatomies differ.

    Returns
    -------
    numpy.ndarray
        Velocity w (3, X, Y, Z) float32, mm along world axes. exp(w) moves tissue from the template
        to the subject; the image of the subject is the template pulled back by exp(-w).

    Raises
    ------
    UsageError
        If the grid extends beyond the box, or the amplitude is so large that the anatomy may fold.
    """
    if not 0 <= amplitude_mm <= knot_mm / 5:
        raise UsageError(
            f'An anatomy of {amplitude_mm} mm with knots {knot_mm} mm apart may fold.',
            f'Choose 0 to {knot_mm / 5:g} mm.',
        )
    return (amplitude_mm * spline_noise(grid, rng, knot_mm)).astype(np.float32)
