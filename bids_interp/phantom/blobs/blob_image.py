"""Blob images: small images with look-alike blobs, some of which are smaller in one group.

Liu et al. (IPMI 2021) introduced simulators of this type on a similar synthetic set. Images are
functions evaluated at warped coordinates, so that nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import erfc

from bids_interp.errors import UsageError
from bids_interp.phantom.change.anatomy import sample_anatomy
from bids_interp.phantom.change.atrophy import check_severity, fit_atrophy
from bids_interp.phantom.change.conjugate import conjugate_log_jacobian
from bids_interp.spatial import Grid, compose, exponential

VARIANTS = ('plain', 'xor', 'intensity', 'null')
#: Relative change of area or volume of an affected blob at severity 1.
CHANGE = -0.4
#: Numbers of the affected blobs.
AFFECTED = (1, 2)
#: Intensity of an affected blob at severity 1 in the variant `intensity`.
DIMMED = 0.75
#: Default number of voxels along each axis, and the field of view.
SIZE, EXTENT_MM = 64, 128.0
#: Radius of the body.
BODY_MM = 58.0
_RADIUS_MM, _EDGE_MM = 13.0, 2.0
_PLACES = ((-26.0, 26.0), (26.0, -26.0), (26.0, 26.0), (-26.0, -26.0))
_DEPTHS = (20.0, -20.0)
_BODY, _BLOB, _NOISE = 0.4, 1.0, 0.04
#: Difference between the groups in each variant.
MEANING = {
    'plain': 'blobs 1 and 2 are smaller in patients',
    'xor': 'blobs 1 and 2 are small or not; exactly one of them is small in patients',
    'intensity': 'blobs 1 and 2 are darker in patients, no shape differs',
    'null': 'nothing differs between the groups',
}


class BlobDesign(NamedTuple):
    """Geometry and changes shared by all images."""

    grid: Grid
    #: (N, 3) mm.
    centres: np.ndarray
    #: Number of a blob -> velocity (3, X, Y, Z) mm that makes it smaller.
    velocity: dict[int, np.ndarray]
    #: Velocity of all affected blobs together.
    both: np.ndarray
    variant: str


@dataclass(frozen=True, eq=False)
class Blobs:
    """Image with labels and truths; arrays (X, Y, Z), one slice if two-dimensional."""

    image: np.ndarray
    #: Number of the blob at each voxel, 0 elsewhere.
    labels: np.ndarray
    #: Stem of ``desc-truth<name>_logjacobian`` -> map.
    truths: dict[str, np.ndarray]
    severity: float
    #: Numbers of the blobs that are small (or dark).
    small: tuple[int, ...]


def blob_grid(dim: int, size: int = SIZE) -> Grid:
    """Return the grid of the blobs; two-dimensional blobs have three equal slices."""
    count = size if dim == 3 else 3
    spacing = EXTENT_MM / size
    affine = np.diag([spacing] * 3 + [1.0])
    shape = (size, size, count)
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return Grid(shape, affine, 'blobs')


def design_blobs(dim: int, variant: str, strongest: float = 1.0, size: int = SIZE) -> BlobDesign:
    """Compute the shrinkage of the affected blobs.

    Parameters
    ----------
    dim : int
        2 or 3.
    variant : str
        One of `VARIANTS`.
    strongest : float
        Severity up to which no voxel may fold.
    size : int
        Number of voxels along each axis.

    Raises
    ------
    UsageError
        If the dimension or variant is unknown, or if a change folds.
    """
    if dim not in (2, 3):
        raise UsageError(f'Blobs have 2 or 3 dimensions, not {dim}.', 'Give --dim 2 or 3.')
    if variant not in VARIANTS:
        raise UsageError(f'There is no variant {variant!r}.', f'Variants: {", ".join(VARIANTS)}.')
    grid = blob_grid(dim, size)
    depths = _DEPTHS if dim == 3 else (0.0,)
    centres = np.array([(x, y, z) for z in depths for x, y in _PLACES])
    if variant not in ('plain', 'xor'):
        return BlobDesign(grid, centres, {}, np.zeros((3, *grid.shape), np.float32), variant)
    points = grid.world_coordinates() * _in_plane(dim)
    balls = {
        f'blob{number}': _profile(points, centre, _RADIUS_MM, 0.0)
        for number, centre in enumerate(centres, start=1)
    }
    body = _profile(points, np.zeros(3), BODY_MM, 0.0) * (1 - sum(balls.values()))
    masks = {**balls, 'body': body}

    def fit(numbers: tuple[int, ...]) -> np.ndarray:
        changes = {f'blob{number}': CHANGE for number in numbers}
        found = fit_atrophy(grid, changes, 'body', sigma_mm=_EDGE_MM, masks=masks)
        check_severity(found, strongest, f'blobs {variant}')
        return found.velocity

    single = {number: fit((number,)) for number in AFFECTED} if variant == 'xor' else {}
    return BlobDesign(grid, centres, single, fit(AFFECTED), variant)


def _in_plane(dim: int) -> np.ndarray:
    """Return the factor (3, 1, 1, 1) that makes two-dimensional fields constant along z."""
    return np.array([1, 1, dim == 3], np.float32).reshape(3, 1, 1, 1)


def _profile(points: np.ndarray, centre: np.ndarray, radius: float, edge: float) -> np.ndarray:
    """Draw a soft ball (X, Y, Z) float32, or a binary one if `edge` is 0."""
    offset = points - np.asarray(centre, np.float32)[:, None, None, None]
    distance = np.linalg.norm(offset, axis=0) - radius
    if edge == 0:
        return (distance < 0).astype(np.float32)
    return (0.5 * erfc(distance / (np.sqrt(2) * edge))).astype(np.float32)


def draw_blobs(made: BlobDesign, rng: np.random.Generator, patient: bool, severity: float) -> Blobs:
    """Draw one image.

    Parameters
    ----------
    made : BlobDesign
        Design shared by all images.
    rng : numpy.random.Generator
        Random generator of this image.
    patient : bool
        Whether the image belongs to a patient.
    severity : float
        Factor on the change of this image.

    Returns
    -------
    Blobs
        Image, labels and truth.
    """
    grid, flat = made.grid, made.grid.shape[2] == 3
    keep = _in_plane(2 if flat else 3)
    velocity = sample_anatomy(grid, rng, amplitude_mm=2.0) * keep
    if flat:
        velocity = np.repeat(velocity[..., 1:2], 3, axis=-1)
    sizes = np.exp(np.clip(rng.normal(0, 0.05, len(made.centres)), -0.12, 0.12))
    first = bool(rng.integers(2))
    small = {
        'plain': AFFECTED if patient else (),
        'intensity': AFFECTED if patient else (),
        'xor': tuple(n for n, on in zip(AFFECTED, (first, first != patient), strict=True) if on),
        'null': (),
    }[made.variant]
    with torch.no_grad():
        own = torch.from_numpy(np.ascontiguousarray(velocity))[None]
        anatomy, back = exponential(-own, grid), exponential(own, grid)
        current = _shrinkage(made, small, severity)
        healthy = exponential(-current, grid)
        pull_back = compose(anatomy, healthy, grid)
        truths = {
            name: conjugate_log_jacobian(anatomy, back, compose(healthy, target, grid), grid)
            for name, target in _targets(made, small, patient, severity).items()
        }
    points = (grid.world_coordinates() + pull_back[0].numpy()) * keep
    dimmed = 1 - (1 - DIMMED) * severity if made.variant == 'intensity' else 1.0
    image = _BODY * _profile(points, np.zeros(3), BODY_MM, _EDGE_MM)
    labels = np.zeros(grid.shape, np.uint8)
    for number, centre in enumerate(made.centres, start=1):
        ball = _profile(points, centre, _RADIUS_MM * sizes[number - 1], _EDGE_MM)
        bright = _BLOB * (dimmed if number in small else 1.0)
        image += (bright - _BODY) * ball
        labels[ball > 0.5] = number
    image += _NOISE * rng.standard_normal(grid.shape, dtype=np.float32)
    middle = slice(1, 2) if flat else slice(None)
    return Blobs(
        np.ascontiguousarray(image[..., middle]),
        labels[..., middle],
        {name: truth[..., middle] for name, truth in truths.items()},
        severity,
        small,
    )


def _shrinkage(made: BlobDesign, small: tuple[int, ...], severity: float) -> torch.Tensor:
    """Return the velocity (1, 3, X, Y, Z) of the small blobs of an image."""
    total = np.zeros_like(made.both)
    if made.variant == 'plain' and small:
        total = made.both
    elif made.variant == 'xor':
        total = sum((made.velocity[number] for number in small), start=total)
    return torch.from_numpy(severity * total.astype(np.float32))[None]


def _targets(
    made: BlobDesign, small: tuple[int, ...], patient: bool, severity: float
) -> dict[str, torch.Tensor]:
    """Map the name of each truth to the forward displacement of the image in the other group."""
    direction = 'remove' if patient else 'inject'
    if made.variant == 'plain':
        other: tuple[int, ...] = () if patient else AFFECTED
        return {direction: exponential(_shrinkage(made, other, 1.0), made.grid)}
    if made.variant != 'xor':
        return {}
    # Either blob may change, so that two maps are correct.
    return {
        f'{direction}blob{number}': exponential(
            _shrinkage(made, tuple(sorted(set(small) ^ {number})), severity), made.grid
        )
        for number in AFFECTED
    }
