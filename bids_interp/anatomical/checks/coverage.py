"""Coverage of a template by a brain: flat faces where it is cut, missing regions, and gaps."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

#: Smallest share of a region that a whole brain covers.
MIN_COVERAGE = 0.65

#: Radius in mm of the largest gap of a whole brain; wide ventricles may have a larger one.
MAX_GAP_MM = 12.0
#: Smoothing in mm, and share of the template's brightness below which tissue is missing.
GAP_SMOOTH_MM, GAP_SHARE = 4.0, 0.6

#: Area in cm2 of the outermost 2 mm of a brain beyond which it is cut there, and area of dust.
FACE_CM2, DUST_CM2, FACE_MM = 25.0, 1.0, 2.0
#: Names of the sides of a brain, towards lower and higher world coordinates.
SIDES = (('left', 'right'), ('back', 'front'), ('bottom', 'top'))

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


@dataclass(frozen=True)
class CutFaces:
    """Flat faces at which a brain ends.

    Attributes
    ----------
    sides : tuple of str
        Sides of the brain by the orientation in the header.
    box : tuple of slice
        Voxels (X, Y, Z) within these faces.
    """

    sides: tuple[str, ...]
    box: tuple[slice, ...]


def cut_faces(mask: np.ndarray, affine: np.ndarray) -> CutFaces:
    """Find the faces at which a brain was cut; a whole brain is round.

    Parameters
    ----------
    mask : ndarray of bool (X, Y, Z)
        Brain.
    affine : ndarray (4, 4)
        Affine to world points, RAS mm.

    Examples
    --------
    >>> places = np.indices((60, 60, 60)) - 30
    >>> brain = (places**2).sum(axis=0) < 25**2
    >>> cut_faces(brain, np.diag([2.0, 2.0, 2.0, 1.0])).sides
    ()
    >>> brain[:, :, :20] = False
    >>> faces = cut_faces(brain, np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> faces.sides, faces.box[2]
    (('bottom',), slice(20, 60, None))
    """
    spacing, sides = nib.affines.voxel_sizes(affine), []
    box = [[0, n] for n in mask.shape]
    for axis, (world, sign) in enumerate(nib.io_orientation(affine).astype(int)):
        others = tuple(k for k in range(3) if k != axis)
        areas = mask.sum(axis=others) * np.prod(spacing[list(others)]) / 100
        filled = np.flatnonzero(areas > DUST_CM2)
        thick = max(1, round(FACE_MM / spacing[axis]))
        for end in (0, 1):
            outer = filled[:thick] if end == 0 else filled[-thick:]
            if outer.size and areas[outer].max() > FACE_CM2:
                box[axis][end] = int(outer[-1] + 1 if end else outer[0])
                sides.append(SIDES[world][end if sign > 0 else 1 - end])
    return CutFaces(tuple(sides), tuple(slice(*ends) for ends in box))


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


@dataclass(frozen=True)
class Gap:
    """Largest ball in which a brain is much darker than its template.

    Attributes
    ----------
    radius_mm : float
        Radius of the ball.
    place : tuple of float
        Centre of the ball in the template, RAS mm.
    """

    radius_mm: float
    place: tuple[float, float, float]

    @property
    def is_large(self) -> bool:
        """True if tissue is missing: a cavity, a lesion, very wide ventricles, or a cut part."""
        return self.radius_mm > MAX_GAP_MM


def largest_gap(brain: np.ndarray, template: np.ndarray, affine: np.ndarray) -> Gap:
    """Find the largest gap in a brain that is aligned with a template.

    Parameters
    ----------
    brain, template : ndarray (X, Y, Z)
        Brains on one grid, 0 outside, in any units.
    affine : ndarray (4, 4)
        Affine of the grid to world points, RAS mm.

    Examples
    --------
    >>> template = np.ones((40, 40, 40))
    >>> brain = template.copy()
    >>> brain[10:30, 10:30, 10:30] = 0
    >>> gap = largest_gap(brain, template, np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> 16 < gap.radius_mm < 24, gap.is_large
    (True, True)
    """
    spacing = nib.affines.voxel_sizes(affine)
    smooth = [
        ndimage.gaussian_filter(image, GAP_SMOOTH_MM / spacing) for image in (brain, template)
    ]
    inside = template > 0
    bright = [float(np.median(image[inside & (brain > 0)])) for image in smooth]
    dark = inside & (smooth[0] * bright[1] < GAP_SHARE * smooth[1] * bright[0])
    depth = ndimage.distance_transform_edt(np.pad(dark, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    deepest = np.unravel_index(depth.argmax(), depth.shape)
    place = nib.affines.apply_affine(affine, deepest)
    return Gap(float(depth.max()), (float(place[0]), float(place[1]), float(place[2])))
