"""Orientation of a brain: the start of its registration, found without trusting the header."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

GRID_MM = 10.0
GRID_SIZE = 22
#: Spacing of the points inside the template at which orientations are compared in the end.
FINE_MM = 4.0
TILT_DEGREES = 30.0
#: Starts that are refined, and evaluations of each refinement.
REFINED, EVALUATIONS = 4, 80
#: Poses within this angle are one orientation.
SAME_DEGREES = 50.0
#: Fewest voxels of 10 mm (0.1 litres) that are compared.
FEWEST = 100
#: Share of the brightness that is brain.
BRAIN_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Pose:
    """A pose of a brain, and how well it fits the template.

    Attributes
    ----------
    template_to_native : ndarray (4, 4)
        Matrix from template to native world points, RAS mm: rotation, scale and translation.
    degrees : float
        Angle between the axes of the template and the axes of the header.
    correlation : float
        Correlation of brain and template within the template, at 4 mm.
    """

    template_to_native: np.ndarray
    degrees: float
    correlation: float

    @property
    def contradicts_header(self) -> bool:
        """True if the orientation is not that of the header."""
        return self.degrees > SAME_DEGREES


@dataclass(frozen=True, eq=False)
class Orientation:
    """The best pose of a brain, and the best one of any other orientation.

    Attributes
    ----------
    best : Pose
        The pose that fits best.
    other : Pose or None
        The best pose that differs from it by more than `SAME_DEGREES`.
    """

    best: Pose
    other: Pose | None

    @property
    def margin(self) -> float:
        """Advantage of the best orientation in correlation."""
        return 1.0 if self.other is None else self.best.correlation - self.other.correlation


def find_orientation(brain: nib.Nifti1Image, template: nib.Nifti1Image) -> Orientation:
    """Compare all orientations of a brain.

    The starts are the 24 rotations that map axes to axes, each also tilted to both sides about each
    axis. They are compared on a grid of 10 mm, background included, and the best ones are refined
    there. The outline of a brain hardly depends on its orientation, so what lies inside at 4 mm
    decides between them.

    Parameters
    ----------
    brain, template : Nifti1Image
        Brains (X, Y, Z), 0 outside.
    """
    moving, fixed = _Smooth.of(brain), _Smooth.of(template)
    goal = fixed.sampled(np.eye(4))
    scale = (moving.litres / fixed.litres) ** (1 / 3)
    starts = [_pose(rotation, scale) for rotation in coarse_rotations()]

    def score(pose: np.ndarray) -> float:
        return _correlation(moving.sampled(pose), goal)

    scores = [score(start) for start in starts]
    refined: list[np.ndarray] = []
    for index in np.argsort(scores)[::-1]:
        # A start close to a refined pose would lead to it again.
        if all(_angle(starts[index], pose) >= TILT_DEGREES for pose in refined):
            refined.append(_refined(score, starts[index])[0])
        if len(refined) == REFINED:
            break
    inside = _Inside.of(brain, template, moving.centre, fixed.centre)
    refined.sort(key=inside.score, reverse=True)
    others = [pose for pose in refined if _angle(pose, refined[0]) > SAME_DEGREES]
    poses = sorted(map(inside.improved, (refined[0], *others[:1])), key=lambda p: -p.correlation)
    return Orientation(poses[0], poses[1] if others else None)


def coarse_rotations() -> list[np.ndarray]:
    """Return rotations (3, 3): the 24 of a cube, each alone and tilted six ways.

    >>> len(coarse_rotations())
    168
    """
    cube = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                cube.append(matrix)
    turns = np.vstack([np.zeros(3), np.eye(3), -np.eye(3)]) * np.radians(TILT_DEGREES)
    return [tilt @ matrix for matrix in cube for tilt in Rotation.from_rotvec(turns).as_matrix()]


@dataclass(frozen=True, eq=False)
class _Smooth:
    """A smoothed brain with its centre of mass.

    Attributes
    ----------
    data : ndarray (X, Y, Z)
        Smoothed voxels, 0 outside.
    affine : ndarray (4, 4)
        Affine to world points, RAS mm.
    centre : ndarray (3,)
        Centre of mass, RAS mm.
    litres : float
        Volume.
    bright : float
        Brightness: the 99th percentile of the brain.
    """

    data: np.ndarray
    affine: np.ndarray
    centre: np.ndarray
    litres: float
    bright: float

    @classmethod
    def of(cls, img: nib.Nifti1Image, mm: float = GRID_MM) -> _Smooth:
        data = np.asarray(img.dataobj, dtype=np.float32)
        spacing = nib.affines.voxel_sizes(img.affine)
        if not (data > 0).any():
            return cls(data, img.affine, img.affine[:3, 3], 0.0, 1.0)
        bright = float(np.percentile(data[data > 0], 99))
        step = tuple(max(1, int(0.5 * mm // size)) for size in spacing)
        smooth = ndimage.gaussian_filter(np.minimum(data, bright), 0.4 * mm / spacing)
        smooth = smooth[:: step[0], :: step[1], :: step[2]]
        affine = img.affine @ np.diag([*step, 1.0])
        inside = smooth > BRAIN_SHARE * bright
        centre = nib.affines.apply_affine(affine, ndimage.center_of_mass(inside))
        litres = inside.sum() * abs(np.linalg.det(affine[:3, :3])) / 1e6
        return cls(smooth, affine, np.asarray(centre), float(litres), bright)

    def sampled(self, pose: np.ndarray) -> np.ndarray:
        """Return the brain (N, N, N) in a pose (4, 4) that maps points about both centres."""
        grid = np.diag([GRID_MM] * 3 + [1.0])
        grid[:3, 3] = -GRID_MM * (GRID_SIZE - 1) / 2
        voxels = np.linalg.inv(self.affine) @ _from_centre(self.centre) @ pose @ grid
        shape = (GRID_SIZE,) * 3
        return ndimage.affine_transform(self.data, voxels, output_shape=shape, order=1)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the values (N,) at world points (N, 3), RAS mm."""
        voxels = nib.affines.apply_affine(np.linalg.inv(self.affine), points)
        return ndimage.map_coordinates(self.data, voxels.T, order=1)


@dataclass(frozen=True, eq=False)
class _Inside:
    """Points inside a template, and a brain that is compared there.

    Attributes
    ----------
    moving : _Smooth
        The brain.
    points : ndarray (N, 3)
        Points about the centre of the template, mm.
    values : ndarray (N,)
        Brightness of the template there.
    centres : tuple of ndarray (3,)
        Centres of brain and template, RAS mm, about which poses are given.
    """

    moving: _Smooth
    points: np.ndarray
    values: np.ndarray
    centres: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls,
        brain: nib.Nifti1Image,
        template: nib.Nifti1Image,
        centre: np.ndarray,
        template_centre: np.ndarray,
    ) -> _Inside:
        goal = _Smooth.of(template, FINE_MM)
        every = max(1, round(FINE_MM / nib.affines.voxel_sizes(goal.affine)[0]))
        low = goal.data[::every, ::every, ::every]
        voxels = np.argwhere(low > BRAIN_SHARE * goal.bright) * every
        points = nib.affines.apply_affine(goal.affine, voxels) - template_centre
        values = goal.data[tuple(voxels.T)]
        return cls(_Smooth.of(brain, FINE_MM), points, values, (centre, template_centre))

    def score(self, pose: np.ndarray) -> float:
        """Return the correlation of brain and template in a pose (4, 4)."""
        there = nib.affines.apply_affine(pose, self.points) + self.centres[0]
        return _correlation(self.moving.at(there), self.values)

    def improved(self, pose: np.ndarray) -> Pose:
        """Refine a pose (4, 4), and return it between world points."""
        best, correlation = _refined(self.score, pose)
        world = _from_centre(self.centres[0]) @ best @ _to_centre(self.centres[1])
        return Pose(world, _angle(world, np.eye(4)), correlation)


def _refined(score: Callable[[np.ndarray], float], start: np.ndarray) -> tuple[np.ndarray, float]:
    """Improve rotation, translation and scale of a pose (4, 4); return it with its score."""

    def pose(change: np.ndarray) -> np.ndarray:
        # One unit is about 57 degrees, 50 mm or a factor of e.
        matrix = start.copy()
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        matrix[:3, :3] = np.exp(change[6]) * turn @ start[:3, :3]
        matrix[:3, 3] += 50.0 * change[3:6]
        return matrix

    found = minimize(
        lambda change: -score(pose(change)),
        np.zeros(7),
        method='Powell',
        options={'xtol': 0.02, 'ftol': 1e-3, 'maxfev': EVALUATIONS, 'maxiter': 2},
    )
    return pose(found.x), -float(found.fun)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < FEWEST or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _pose(rotation: np.ndarray, scale: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    return matrix


def _from_centre(centre: Sequence[float] | np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = centre
    return matrix


def _to_centre(centre: np.ndarray) -> np.ndarray:
    return _from_centre(-centre)


def _angle(first: np.ndarray, second: np.ndarray) -> float:
    """Return the angle in degrees between the rotations of two poses (4, 4)."""
    turn = first[:3, :3] @ np.linalg.inv(second[:3, :3])
    return float(np.degrees(Rotation.from_matrix(turn / np.cbrt(np.linalg.det(turn))).magnitude()))
