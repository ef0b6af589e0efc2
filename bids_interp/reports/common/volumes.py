"""Volumes for drawing: upright, cropped to the brain, of moderate size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.errors import ImageError
from bids_interp.spatial.grid import Grid
from bids_interp.spatial.mask import brain_voxels

#: Array axes of the planes.
PLANES = {'sagittal': 0, 'coronal': 1, 'axial': 2}
#: Voxel size of native images in figures, in mm; finer voxels only take longer.
DISPLAY_SPACING = 1.25


@dataclass(frozen=True, eq=False)
class Volume:
    """An image whose array axes run to the right, front and top.

    Parameters
    ----------
    data : numpy.ndarray
        (X, Y, Z), float32.
    grid : Grid
        Its voxels; the linear part is diagonal and positive.
    """

    data: np.ndarray
    grid: Grid

    def position(self, plane: str, index: int) -> float:
        """World coordinate of a slice in mm."""
        axis = PLANES[plane]
        return float(self.grid.affine[axis, 3] + self.grid.linear[axis, axis] * index)

    def slice_label(self, plane: str, index: int) -> str:
        """Return the text of a slice: its axis and position, as in ``z = -18``."""
        return f'{"xyz"[PLANES[plane]]} = {self.position(plane, index):.0f}'

    def cut(self, plane: str, index: int) -> np.ndarray:
        """Return one slice as a picture, first row on top and first column on the left."""
        cut: list[slice | int] = [slice(None)] * 3
        cut[PLANES[plane]] = index
        return np.flipud(self.data[tuple(cut)].T)

    def crop(self, box: tuple[slice, slice, slice]) -> Volume:
        """Return the volume inside a box of voxels."""
        start = np.array([part.start for part in box])
        stop = np.array([part.stop for part in box])
        return Volume(self.data[box], self.grid.crop(start, stop))


def _read(path: Path) -> nib.Nifti1Image:
    try:
        image = nib.load(path)
        image.get_fdata(dtype=np.float32)
    except Exception as error:
        raise ImageError(
            f'{path} cannot be read for the report: {error}.',
            'Delete this derivative and run the same command again.',
        ) from error
    return image


def _is_upright(affine: np.ndarray) -> bool:
    linear = affine[:3, :3]
    return bool(np.allclose(linear, np.diag(np.diag(linear)), atol=1e-3))


def _resampled(
    image: nib.Nifti1Image,
    affine: np.ndarray,
    shape: tuple[int, ...] | None,
    order: str = 'linear',
) -> nib.Nifti1Image:
    """Resample an image of a file for drawing, by nilearn, which also finds a field of view."""
    from nilearn.image import resample_img

    return resample_img(
        image, target_affine=affine, target_shape=shape, interpolation=order, copy_header=False
    )


def load_volume(path: Path, spacing: float | None = None, order: str = 'linear') -> Volume:
    """Read an image for drawing.

    Parameters
    ----------
    path : pathlib.Path
        NIfTI image of three dimensions.
    spacing : float, optional
        Voxel size in mm to resample to; by default an upright image keeps its own.
    order : str
        ``'linear'`` or ``'nearest'``.

    Returns
    -------
    Volume
        Upright volume; values that are not finite become zero.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    image = nib.as_closest_canonical(_read(path))
    if spacing is not None or not _is_upright(image.affine):
        size = spacing or float(Grid.from_image(image).spacing.min())
        image = _resampled(image, np.diag([size] * 3), None, order)
    data = np.nan_to_num(np.asarray(image.get_fdata(dtype=np.float32)))
    return Volume(data.reshape(data.shape[:3]), Grid.from_image(image))


def load_like(path: Path, like: Volume, order: str = 'linear') -> Volume:
    """Read an image and resample it to the grid of another."""
    image = _read(path)
    if not Grid.from_image(image).matches(like.grid):
        image = _resampled(image, like.grid.affine, like.grid.shape, order)
    data = np.nan_to_num(np.asarray(image.get_fdata(dtype=np.float32)))
    return Volume(data.reshape(like.grid.shape), like.grid)


def load_mask(path: Path | None, brain: Volume) -> np.ndarray:
    """Read a brain mask (X, Y, Z) on the grid of a brain; without a file, use the brain's voxels.

    Derivatives of version 0.1.0 have no mask in template space.
    """
    if path is None:
        return brain_voxels(brain.data)
    return load_like(path, brain, 'nearest').data > 0.5


def put_onto(data: np.ndarray, grid: Grid, like: Volume) -> np.ndarray:
    """Resample a map linearly to the grid of an image in the same world space."""
    image = _resampled(grid.to_image(data), like.grid.affine, like.grid.shape)
    return np.nan_to_num(np.asarray(image.get_fdata(dtype=np.float32)))


def bounding_box(mask: np.ndarray, margin: int = 6) -> tuple[slice, slice, slice]:
    """Return the box around the true voxels, widened by a margin.

    >>> mask = np.zeros((10, 10, 10), bool)
    >>> mask[4:6, 4:6, 4:6] = True
    >>> bounding_box(mask, 1)[0]
    slice(3, 7, None)
    """
    parts = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(mask.any(axis=others))
        low, high = (int(there[0]), int(there[-1])) if there.size else (0, mask.shape[axis] - 1)
        parts.append(slice(max(0, low - margin), min(mask.shape[axis], high + 1 + margin)))
    return parts[0], parts[1], parts[2]


def grey(data: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Scale intensities to 0..1 by percentiles of the brain."""
    values = data[inside] if inside is not None and inside.any() else data[data > 0]
    if values.size == 0:
        return np.zeros_like(data)
    low, high = np.percentile(values, [0.5, 99.5])
    low = min(float(low), 0.0) if inside is None else 0.6 * float(low)
    return np.clip((data - low) / max(float(high) - low, 1e-6), 0, 1)


def spread_slices(
    mask: np.ndarray, plane: str, count: int, through: int | None = None, trim: float = 0.14
) -> list[int]:
    """Return indices of evenly spaced slices of the brain, including a given one."""
    axis = PLANES[plane]
    others = tuple(other for other in range(3) if other != axis)
    there = np.flatnonzero(mask.any(axis=others))
    if there.size == 0:
        there = np.arange(mask.shape[axis])
    first, last = float(there[0]), float(there[-1])
    reach = (last - first) * trim
    chosen = np.round(np.linspace(first + reach, last - reach, count)).astype(int).tolist()
    if through is not None:
        chosen[int(np.argmin(np.abs(np.array(chosen) - through)))] = int(through)
    return sorted(set(chosen))


def peak(values: np.ndarray) -> tuple[int, int, int]:
    """Return the voxel of the strongest change in a lightly smoothed map."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.abs(values), 2.0)
    index = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    return int(index[0]), int(index[1]), int(index[2])
