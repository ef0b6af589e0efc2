"""Coarse regions of the MNI152 brain as unions of ellipsoids, without an atlas file.

The ellipsoids were fitted by eye and by overlap to the symmetric MNI152 template (T1w contrast) and
to the mean of both hemispheres of the AAL labels, then rounded to 0.5 mm. They define where the
structures of a phantom shrink or grow. They are not a segmentation of an individual brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import erfc

from bids_interp.errors import UsageError
from bids_interp.spatial.grid import Grid

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid in world mm (RAS+), with rotation angles in degrees about fixed x, y, z."""

    centre: Triple
    radii: Triple
    angles: Triple = (0.0, 0.0, 0.0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distance in mm (negative inside) of points (3, ...)."""
        flat = points.reshape(3, -1) - np.asarray(self.centre, points.dtype)[:, None]
        turn = Rotation.from_euler('xyz', self.angles, degrees=True).as_matrix()
        local = turn.T.astype(points.dtype) @ flat
        radii = np.asarray(self.radii, points.dtype)[:, None]
        # First-order distance f / |grad f|, exact on the surface and near it along the axes.
        scaled = np.linalg.norm(local / radii, axis=0)
        slope = np.linalg.norm(local / radii**2, axis=0)
        near = slope < 1e-9
        value = scaled * (scaled - 1) / np.where(near, 1, slope)
        return np.where(near, -radii.min(), value).reshape(points.shape[1:])

    def mirrored(self) -> Ellipsoid:
        """Return the ellipsoid mirrored to the other side (x -> -x)."""
        x, y, z = self.centre
        alpha, beta, gamma = self.angles
        return Ellipsoid((-x, y, z), self.radii, (alpha, -beta, -gamma))


@dataclass(frozen=True)
class Region:
    """Union of right-hemisphere or midline ellipsoids, optionally hollow and cut by planes.

    Parameters
    ----------
    parts : tuple of Ellipsoid
        Right side of a bilateral region, or whole midline region.
    bilateral : bool
        Whether a mirrored left side exists.
    hollow : tuple of Ellipsoid
        Ellipsoids to subtract, which turn an ellipsoid into a shell.
    beyond : tuple of (axis, mm)
        Planes: only points with a larger world coordinate on that axis are kept.
    """

    parts: tuple[Ellipsoid, ...]
    bilateral: bool = True
    hollow: tuple[Ellipsoid, ...] = ()
    beyond: tuple[tuple[int, float], ...] = ()

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Approximate signed distance in mm (negative inside) of points (3, ...)."""
        value = np.min([part.distance(points) for part in self.parts], axis=0)
        for cavity in self.hollow:
            value = np.maximum(value, -cavity.distance(points))
        for axis, limit in self.beyond:
            value = np.maximum(value, limit - points[axis])
        return value


# Outline of the cerebrum, whose outermost layer is the frontal ribbon.
CEREBRUM = Ellipsoid((0, -17, 9), (70, 90, 69))
_INNER = Ellipsoid((0, -17, 9), (58, 78, 57))

#: Anatomical structures among the regions, without auxiliary shells.
SHOWN_REGIONS = (
    'hippocampus',
    'amygdala',
    'parahippocampal',
    'thalamus',
    'caudate',
    'putamen',
    'pallidum',
    'insula',
    'ventricles',
    'third_ventricle',
    'fourth_ventricle',
    'brainstem',
    'cerebellum',
)

REGIONS: dict[str, Region] = {
    'hippocampus': Region(
        (
            Ellipsoid((28, -12, -16.5), (10.5, 14.5, 6.5), (-16, 35, 46)),
            Ellipsoid((28.5, -28, -6), (10.5, 4.5, 18.5), (47, -6, -22)),
        )
    ),
    'amygdala': Region((Ellipsoid((25.5, 0, -17.5), (7, 6, 11), (26, -28, -24)),)),
    'parahippocampal': Region(
        (
            Ellipsoid((24.5, -25, -17), (10.5, 26, 5), (-40, 4, -5)),
            Ellipsoid((21, -1, -26.5), (6.5, 13, 12), (6, -42, -2)),
        )
    ),
    'thalamus': Region((Ellipsoid((12, -18, 8), (11, 15.5, 12), (12, -2, 25)),)),
    'caudate': Region(
        (
            Ellipsoid((12, 17.5, 3), (6.5, 11.5, 15), (-26, 9, -36)),
            Ellipsoid((14.5, 7.5, 17), (5.5, 18.5, 9), (-33, 40, -16)),
        )
    ),
    'putamen': Region((Ellipsoid((26, 4, 3), (8, 21, 13), (-14, -6, 18)),)),
    'pallidum': Region((Ellipsoid((19.5, 0, 0.5), (6, 13, 7), (2, 4, 37)),)),
    'insula': Region((Ellipsoid((38, 6.5, 3.5), (8.5, 27.5, 16.5), (-16, -17, 9)),)),
    'ventricles': Region(
        (
            Ellipsoid((8.5, 19, 10), (3.5, 12, 7.5), (14, 10, -22)),
            Ellipsoid((9, -6.5, 22), (4, 17, 8), (-25, 62, -12)),
            Ellipsoid((14, -26, 21), (8, 15.5, 4), (14, -36, 16)),
            Ellipsoid((24, -41.5, 12.5), (5.5, 7, 19), (-52, -6, 34)),
        )
    ),
    'third_ventricle': Region(
        (Ellipsoid((0, -12, 2), (2.5, 14, 9), (-15, 0, 0)),), bilateral=False
    ),
    'fourth_ventricle': Region((Ellipsoid((0, -46, -32), (7, 5, 9)),), bilateral=False),
    'brainstem': Region(
        (
            Ellipsoid((0, -25, -33), (16, 14, 17)),
            Ellipsoid((0, -23, -10), (14, 12, 12)),
            Ellipsoid((0, -41, -58), (9, 8, 18), (25, 0, 0)),
        ),
        bilateral=False,
    ),
    'cerebellum': Region((Ellipsoid((25, -64, -37), (30, 28, 22), (0, 10, 25)),)),
    'frontal_ribbon': Region(
        (CEREBRUM,), hollow=(_INNER,), beyond=((1, 5.0), (2, -20.0), (0, 0.0))
    ),
    # Subarachnoid space around the cerebrum, which absorbs effects.
    'shell': Region(
        (Ellipsoid((0, -17, 9), (77, 97, 76)),),
        bilateral=False,
        hollow=(CEREBRUM,),
        beyond=((2, -35.0),),
    ),
}


def region_names() -> list[str]:
    """List all region names: both sides, then ``_left`` and ``_right`` of bilateral regions.

    Returns
    -------
    list of str
        Names for `region_mask`.

    Examples
    --------
    >>> [name for name in region_names() if name.startswith('thal')]
    ['thalamus', 'thalamus_left', 'thalamus_right']
    """
    names = []
    for name, region in REGIONS.items():
        names.append(name)
        if region.bilateral:
            names += [f'{name}_left', f'{name}_right']
    return names


def laterality(name: str) -> str:
    """Return the laterality of a region.

    Returns
    -------
    str
        'both', 'left', 'right' or 'midline'.

    Examples
    --------
    >>> laterality('amygdala_left'), laterality('amygdala'), laterality('third_ventricle')
    ('left', 'both', 'midline')
    """
    check_region(name)
    if name not in REGIONS:
        return name.rsplit('_', 1)[1]
    return 'both' if REGIONS[name].bilateral else 'midline'


def check_region(name: str) -> None:
    """Raise `UsageError` with the list of names if a region is unknown."""
    if name not in region_names():
        raise UsageError(
            f'There is no region called {name!r}.', f'Choose from: {", ".join(region_names())}.'
        )


def region_distance(name: str, points: np.ndarray) -> np.ndarray:
    """Compute the approximate signed distance to the surface of a region.

    Parameters
    ----------
    name : str
        One of `region_names`.
    points : numpy.ndarray
        World coordinates, shape (3, ...), MNI152 RAS+ mm.

    Returns
    -------
    numpy.ndarray
        Distance in mm, negative inside, in the shape of one component of `points`.
    """
    side = laterality(name)
    region = REGIONS[name if name in REGIONS else name.rsplit('_', 1)[0]]
    if side in ('midline', 'right'):
        return region.distance(points)
    # The left side mirrors the right side.
    mirror = np.array([-1, 1, 1], points.dtype).reshape(3, *[1] * (points.ndim - 1))
    left = region.distance(points * mirror)
    return left if side == 'left' else np.minimum(region.distance(points), left)


def region_mask(name: str, grid: Grid, sigma_mm: float = 0.0) -> np.ndarray:
    """Draw a region on a grid in MNI152 space.

    Parameters
    ----------
    name : str
        One of `region_names`, such as ``'hippocampus'`` or ``'thalamus_left'``.
    grid : Grid
        Grid in MNI152 RAS+ mm.
    sigma_mm : float
        Softness of the edge: standard deviation of a Gaussian that blurs the surface like that of a
        half-space. 0 gives a binary mask.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1] on the grid.

    Raises
    ------
    UsageError
        If the region is unknown, or `sigma_mm` is negative.
    """
    if sigma_mm < 0:
        raise UsageError(f'The softness of a region edge is {sigma_mm} mm.', 'Choose 0 mm or more.')
    check_region(name)
    distance = region_distance(name, grid.world_coordinates())
    if sigma_mm == 0:
        return (distance < 0).astype(np.float32)
    return (0.5 * erfc(distance / (np.sqrt(2) * sigma_mm))).astype(np.float32)


def shown_masks(grid: Grid) -> dict[str, np.ndarray]:
    """Draw the regions that reports show, each side on its own.

    Parameters
    ----------
    grid : Grid
        Grid in MNI152 RAS+ mm.

    Returns
    -------
    dict of str to numpy.ndarray
        Boolean masks (X, Y, Z) by ``region:side``, where the side is ``left``, ``right`` or
        ``midline``.
    """
    points = grid.world_coordinates()
    masks = {}
    for region in SHOWN_REGIONS:
        if laterality(region) == 'midline':
            masks[f'{region}:midline'] = region_distance(region, points) < 0
            continue
        for side in ('left', 'right'):
            masks[f'{region}:{side}'] = region_distance(f'{region}_{side}', points) < 0
    return masks
