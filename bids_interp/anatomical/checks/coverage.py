"""Coverage of a template by a brain: the regions that are missing from an image."""

from __future__ import annotations

import nibabel as nib
import numpy as np

#: Smallest share of a region that a whole brain covers.
MIN_COVERAGE = 0.65

#: Regions as ranges from left to right, back to front and bottom to top, as shares of the box
#: around the brain of a template. None of them depends on the template's coordinates.
REGIONS = {
    'vertex': ((0.2, 0.8), (0.0, 1.0), (0.85, 1.0)),
    'frontal pole': ((0.0, 1.0), (0.88, 1.0), (0.0, 1.0)),
    'occipital pole': ((0.0, 1.0), (0.0, 0.10), (0.0, 1.0)),
    'left temporal pole': ((0.1, 0.35), (0.55, 0.76), (0.15, 0.38)),
    'right temporal pole': ((0.65, 0.9), (0.55, 0.76), (0.15, 0.38)),
    'cerebellum': ((0.1, 0.9), (0.05, 0.38), (0.0, 0.30)),
    'brain stem': ((0.4, 0.6), (0.38, 0.55), (0.0, 0.30)),
    'left hemisphere': ((0.0, 0.48), (0.0, 1.0), (0.30, 1.0)),
    'right hemisphere': ((0.52, 1.0), (0.0, 1.0), (0.30, 1.0)),
}


def region_coverage(
    brain: np.ndarray, template: np.ndarray, affine: np.ndarray
) -> dict[str, float]:
    """Return the share of each region of a template that a brain covers.

    Parameters
    ----------
    brain, template : ndarray of bool (X, Y, Z)
        Masks on one grid.
    affine : ndarray (4, 4)
        Affine of the grid to world points, RAS mm.

    Examples
    --------
    >>> template = np.ones((20, 20, 20), bool)
    >>> half = template.copy()
    >>> half[:, :, :10] = False
    >>> shares = region_coverage(half, template, np.eye(4))
    >>> shares['cerebellum'], shares['vertex']
    (0.0, 1.0)
    """
    voxels = np.argwhere(template)
    points = nib.affines.apply_affine(affine, voxels)
    low, high = points.min(axis=0), points.max(axis=0)
    place = (points - low) / np.maximum(high - low, 1e-6)
    covered = brain[tuple(voxels.T)]
    shares = {}
    for name, ranges in REGIONS.items():
        first, last = np.transpose(ranges)
        inside = ((place >= first) & (place <= last)).all(axis=1)
        shares[name] = float(covered[inside].mean()) if inside.any() else 1.0
    return shares


def missing_regions(coverage: dict[str, float]) -> list[str]:
    """Return the names of the regions that a brain does not cover.

    >>> missing_regions({'vertex': 0.2, 'cerebellum': 0.99})
    ['vertex']
    """
    return [name for name, share in coverage.items() if share < MIN_COVERAGE]
