"""Grid of an image: shape, affine and space name in one type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.nifti import SCANNER_CODE, TEMPLATE_CODE, make_image


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in world coordinates (RAS+ mm).

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along the array axes i, j, k.
    affine : numpy.ndarray
        4 x 4 matrix from voxel indices to world coordinates, RAS+ mm.
    space : str
        Name of the world space: ``'T1w'`` for a subject's own space, otherwise a template.

    Raises
    ------
    ValueError
        If the shape is not three positive numbers or the affine cannot be inverted.

    Examples
    --------
    >>> grid = Grid((4, 4, 2), np.diag([2.0, 2.0, 3.0, 1.0]), 'T1w')
    >>> grid.spacing.tolist()
    [2.0, 2.0, 3.0]
    >>> grid.voxel_volume
    12.0
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    space: str = ''

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f'A grid needs three positive sizes, not {self.shape}.')
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError('The affine of a grid must be a finite 4 x 4 matrix.')
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError('The affine of a grid cannot be inverted.')
        affine.setflags(write=False)
        object.__setattr__(self, 'shape', shape)
        object.__setattr__(self, 'affine', affine)

    @classmethod
    def from_image(cls, image: Any, space: str = '') -> Grid:
        """Return the grid of the first three axes of a nibabel image."""
        return cls(image.shape[:3], image.affine, space)

    @property
    def linear(self) -> np.ndarray:
        """Linear part (3 x 3) of the affine: mm along world axes per voxel step."""
        return self.affine[:3, :3]

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size in mm along i, j, k."""
        return np.sqrt((self.linear**2).sum(axis=0))

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm^3."""
        return float(abs(np.linalg.det(self.linear)))

    def world_coordinates(self) -> np.ndarray:
        """Return the world coordinates of all voxel centres, (3, X, Y, Z) float32, mm."""
        voxels = np.meshgrid(*(np.arange(size) for size in self.shape), indexing='ij')
        world = np.einsum('ij,jxyz->ixyz', self.linear, np.stack(voxels).astype(np.float64))
        return (world + self.affine[:3, 3, None, None, None]).astype(np.float32)

    def with_shape(self, shape: tuple[int, int, int]) -> Grid:
        """Return a grid between the same corner voxel centres with another number of voxels.

        Because the outermost voxel centres are kept (``align_corners=True`` in PyTorch), a field
        on the new grid covers the old grid exactly.
        """
        steps = [(old - 1) / max(new - 1, 1) for old, new in zip(self.shape, shape, strict=True)]
        return Grid(shape, self.affine @ np.diag([*steps, 1.0]), self.space)

    def half(self) -> Grid:
        """Return the grid of half the resolution with the same corner voxel centres."""
        sizes = [max(2, (size + 1) // 2) for size in self.shape]
        return self.with_shape((sizes[0], sizes[1], sizes[2]))

    def with_spacing(self, spacing: float) -> Grid:
        """Return a grid with the same field of view (voxel edges) and another voxel size in mm."""
        sizes = np.maximum(1, np.round(np.array(self.shape) * self.spacing / spacing)).astype(int)
        linear = self.linear / self.spacing * spacing
        centre = self.affine @ np.append((np.array(self.shape) - 1) / 2, 1.0)
        affine = np.eye(4)
        affine[:3, :3] = linear
        affine[:3, 3] = centre[:3] - linear @ ((sizes - 1) / 2)
        return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, self.space)

    def crop(self, start: np.ndarray, stop: np.ndarray) -> Grid:
        """Return the part of the grid from voxel ``start`` (included) to ``stop`` (excluded)."""
        affine = self.affine.copy()
        affine[:3, 3] = (self.affine @ np.append(start, 1.0))[:3]
        sizes = np.asarray(stop) - np.asarray(start)
        return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, self.space)

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Return True if both grids have the same voxels within ``tolerance`` mm."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=tolerance)

    def to_image(self, data: np.ndarray, dtype: Any = np.float32) -> nib.Nifti1Image:
        """Return a NIfTI image of ``data`` (first axes X, Y, Z) with sform equal to qform."""
        if tuple(data.shape[:3]) != self.shape:
            raise ValueError(f'Data of shape {data.shape} do not fit a grid of {self.shape}.')
        code = SCANNER_CODE if self.space in ('', 'T1w') else TEMPLATE_CODE
        return make_image(np.asarray(data, dtype=dtype), self.affine, code)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {'shape': list(self.shape), 'affine': self.affine.tolist(), 'space': self.space}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Grid:
        """Return the grid described by :meth:`to_dict`."""
        return cls(tuple(plain['shape']), np.array(plain['affine']), str(plain.get('space', '')))


def along_axes(shape: Sequence[int], value: int) -> tuple[int, int, int]:
    """Return a value for each axis of a grid; 1 for an axis of one voxel.

    Examples
    --------
    >>> along_axes((64, 64, 1), 3)
    (3, 3, 1)
    """
    first, second, third = (value if size > 1 else 1 for size in shape)
    return first, second, third
