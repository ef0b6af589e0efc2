"""Pieces of a pattern: the surroundings of each of its local peaks."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, label, maximum_filter

from bids_interp.spatial import Grid

#: Smallest distance between two peaks of one sign.
PEAK_MM = 10.0
#: Smallest peak, relative to the largest.
SMALLEST = 0.1


def divide_pattern(pattern: np.ndarray, grid: Grid) -> np.ndarray:
    """Divide a pattern into pieces around its local peaks.

    Every voxel belongs to the nearest peak of its sign.

    Parameters
    ----------
    pattern : numpy.ndarray
        (X, Y, Z) log-Jacobian.
    grid : Grid
        Grid of the pattern.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) number of the piece, from 1; 0 where the pattern is zero.

    Examples
    --------
    >>> line = np.zeros((9, 1, 1))
    >>> line[:, 0, 0] = [0, 2, 1, 0, 0, 0, 0, -3, -1]
    >>> divide_pattern(line, Grid((9, 1, 1), np.diag([5.0, 5, 5, 1])))[:, 0, 0].tolist()
    [0, 1, 1, 0, 0, 0, 0, 2, 2]
    """
    pieces = np.zeros(pattern.shape, int)
    largest = np.abs(pattern).max(initial=0)
    reach = 2 * np.ceil(PEAK_MM / 2 / grid.spacing).astype(int) + 1
    for sign in (1, -1):
        height = np.maximum(sign * pattern, 0)
        is_peak = (height == maximum_filter(height, tuple(reach))) & (height > SMALLEST * largest)
        if not is_peak.any():
            continue
        # Equal neighbours are one peak.
        numbers = label(is_peak, np.ones((3, 3, 3)))[0]
        numbers[is_peak] += pieces.max()
        nearest = distance_transform_edt(
            ~is_peak, sampling=grid.spacing, return_distances=False, return_indices=True
        )
        own = height > 0
        pieces[own] = numbers[tuple(nearest)][own]
    return pieces
