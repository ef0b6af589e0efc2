"""Map reader: log-Jacobian maps of single subjects inside a common mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.group.scans import GroupScan
from bids_interp.spatial.grid import Grid
from bids_interp.spatial.mask import brain_voxels

#: Number of brains used for the mask; more make no difference.
MASK_BRAINS = 10


@dataclass(frozen=True, eq=False)
class MaskedGrid:
    """Grid and brain mask of the summarised maps.

    Parameters
    ----------
    grid : Grid
        Grid of the maps; its space is the name of the template.
    inside : numpy.ndarray
        (X, Y, Z) brain mask.
    """

    grid: Grid
    inside: np.ndarray

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Return the values (V,) as a map (X, Y, Z), 0 outside the mask."""
        volume = np.zeros(self.grid.shape, np.float32)
        volume[self.inside] = values
        return volume


def read_array(path: Path) -> np.ndarray:
    """Read the voxels of a NIfTI file as float32.

    Raises
    ------
    ImageError
        If the file is damaged.
    """
    import nibabel as nib

    try:
        return np.asarray(nib.load(path).dataobj, dtype=np.float32)
    except Exception as error:
        raise ImageError(
            f'{path} cannot be read: {error}.',
            'Delete it and run the participant level again.',
        ) from error


def read_field(path: Path) -> np.ndarray:
    """Read a vector field (3, X, Y, Z) in mm from a 5-D vector image."""
    data = read_array(path)
    if data.ndim != 5 or data.shape[3:] != (1, 3):
        raise ImageError(f'{path} is not a vector image (X, Y, Z, 1, 3).')
    return np.moveaxis(data[..., 0, :], -1, 0)


def has_map(scan: GroupScan, name: str) -> bool:
    """Return whether an image has a map, or a velocity field if no map was written."""
    return name in scan.maps or (
        not scan.maps and scan.velocity is not None and name.startswith('inject')
    )


def read_map(scan: GroupScan, name: str, masked: MaskedGrid) -> np.ndarray:
    """Read the log-Jacobian of one image inside the mask, (V,) float32.

    Parameters
    ----------
    scan : GroupScan
        Image.
    name : str
        Direction and dose, such as ``'inject100'``.
    masked : MaskedGrid
        Grid and mask of the maps.

    Raises
    ------
    ImageError
        If the file is missing, damaged or contains values that are not finite.
    """
    path = scan.maps.get(name) or scan.velocity
    if path is None or not has_map(scan, name):
        raise ImageError(f'{scan.prefix} has no map {name}.')
    if name in scan.maps:
        values = read_array(path)[masked.inside]
    else:
        values = _from_velocity(read_field(path), name, masked.grid)[masked.inside]
    if not np.isfinite(values).all():
        raise ImageError(
            f'{path} contains values that are not finite.',
            'Delete it and run the participant level again.',
        )
    return values


def _from_velocity(velocity: np.ndarray, name: str, grid: Grid) -> np.ndarray:
    """Return the log-Jacobian (X, Y, Z) of a velocity field, on the grid of the model."""
    import torch

    from bids_interp.spatial import exponential, log_jacobian

    dose = int(name.removeprefix('inject')) / 100
    with torch.inference_mode():
        field = torch.from_numpy(np.ascontiguousarray(velocity)) * dose
        return log_jacobian(exponential(field[None], grid), grid)[0, 0].numpy()


def map_names(scans: Sequence[GroupScan]) -> list[str]:
    """Return the directions and doses of the maps: ``inject`` first, largest dose first."""
    names = {name for scan in scans for name in scan.maps}
    return sorted(names, key=lambda name: (name[:-3], -int(name[-3:]))) or ['inject100']


def find_masked_grid(scans: Sequence[GroupScan]) -> MaskedGrid:
    """Return the grid of the maps with the voxels inside at least half of the first brains.

    The choice of brains does not depend on their groups.

    Parameters
    ----------
    scans : sequence of GroupScan
        Included images.
    """
    if scans[0].grid is None:
        raise ImageError(f'{scans[0].prefix} has no map.')
    space, shape, affine = scans[0].grid
    grid = Grid(shape, np.reshape(affine, (4, 4)), space)
    counts, n = np.zeros(shape, np.int32), 0
    for scan in scans:
        if n == MASK_BRAINS:
            break
        inside = own_mask(scan, grid)
        if inside is not None:
            counts += inside
            n += 1
    inside = counts * 2 >= n if n else np.ones(shape, bool)
    if n and not inside.any():
        raise ImageError(f'The brains of the first {n} images do not overlap.')
    return MaskedGrid(grid, inside)


def own_mask(scan: GroupScan, grid: Grid) -> np.ndarray | None:
    """Return the brain mask (X, Y, Z) of an image on a grid; None if no file is on this grid.

    Without a mask, as in derivatives of version 0.1.0 and on the grid of the model, the voxels of
    the brain are used.
    """
    stem = f'{scan.prefix}_space-{scan.space}_res-*_desc-brain'
    masks, brains = (sorted(scan.folder.glob(f'{stem}_{end}.nii.gz')) for end in ('mask', 'T1w'))
    for path in (*masks, *brains, scan.model_input):
        if path is not None and _is_on(path, grid):
            data = read_array(path)
            return data > 0.5 if path in masks else _inside_of(data)
    return None


def _is_on(path: Path, grid: Grid) -> bool:
    import nibabel as nib

    image = nib.load(path)
    return image.shape[:3] == grid.shape and np.allclose(image.affine, grid.affine, atol=1e-2)


def _inside_of(brain: np.ndarray) -> np.ndarray:
    """Return the voxels of a stripped brain; normalised intensities may be negative."""
    return np.abs(brain) > 1e-6 if brain.min() < 0 else brain_voxels(brain)
