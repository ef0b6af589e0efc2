"""Maps of single subjects, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.group.scans import Scan
from bids_interp.spatial.grid import Grid
from bids_interp.spatial.mask import brain_voxels

#: Brains that the mask is made of; more change nothing.
MASK_BRAINS = 10


@dataclass(frozen=True, eq=False)
class Places:
    """The voxels that are summarised.

    Parameters
    ----------
    grid : Grid
        Of the maps; its space is the template's name.
    inside : numpy.ndarray
        (X, Y, Z) bool.
    """

    grid: Grid
    inside: np.ndarray

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Values (V,) as a map (X, Y, Z), 0 outside."""
        volume = np.zeros(self.grid.shape, np.float32)
        volume[self.inside] = values
        return volume


def read_array(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file as float32.

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
    """Velocity (3, X, Y, Z) in mm from a 5-D vector image."""
    data = read_array(path)
    if data.ndim != 5 or data.shape[3:] != (1, 3):
        raise ImageError(f'{path} is no vector image (X, Y, Z, 1, 3).')
    return np.moveaxis(data[..., 0, :], -1, 0)


def has_map(scan: Scan, name: str) -> bool:
    """Whether there is a map, or a velocity field where no map at all was written."""
    return name in scan.maps or (
        not scan.maps and scan.velocity is not None and name.startswith('inject')
    )


def read_map(scan: Scan, name: str, places: Places) -> np.ndarray:
    """Log-Jacobian of one image inside the mask, (V,) float32.

    Parameters
    ----------
    scan : Scan
        The image.
    name : str
        Direction and dose, such as ``'inject100'``.
    places : Places
        Where.

    Raises
    ------
    ImageError
        If the file is damaged or holds values that are not finite.
    """
    path = scan.maps.get(name) or scan.velocity
    if path is None or not has_map(scan, name):
        raise ImageError(f'There is no map {name} of {scan.prefix}.')
    if name in scan.maps:
        values = read_array(path)[places.inside]
    else:
        values = _from_velocity(read_field(path), name, places.grid)[places.inside]
    if not np.isfinite(values).all():
        raise ImageError(
            f'{path} holds values that are not finite.',
            'Delete it and run the participant level again.',
        )
    return values


def _from_velocity(velocity: np.ndarray, name: str, grid: Grid) -> np.ndarray:
    """Log-Jacobian (X, Y, Z) on the grid of the model, where no map was written."""
    import torch

    from bids_interp.spatial import exponential, log_jacobian

    dose = int(name.removeprefix('inject')) / 100
    with torch.inference_mode():
        field = torch.from_numpy(np.ascontiguousarray(velocity)) * dose
        return log_jacobian(exponential(field[None], grid), grid)[0, 0].numpy()


def names_of_maps(scans: Sequence[Scan]) -> list[str]:
    """Directions and doses that there are maps of: ``inject`` first, the largest dose first."""
    names = {name for scan in scans for name in scan.maps}
    return sorted(names, key=lambda name: (name[:-3], -int(name[-3:]))) or ['inject100']


def find_places(scans: Sequence[Scan]) -> Places:
    """Grid of the maps and voxels inside at least half of some brains.

    Which brains does not depend on their groups: they are the first ones.

    Parameters
    ----------
    scans : sequence of Scan
        Those that are in.
    """
    import nibabel as nib

    if scans[0].grid is None:
        raise ImageError(f'There is no map of {scans[0].prefix}.')
    space, shape, affine = scans[0].grid
    grid = Grid(shape, np.reshape(affine, (4, 4)), space)
    counts, n = np.zeros(shape, np.int32), 0
    for scan in scans:
        brain = _brain_on(scan, shape)
        if brain is None or n == MASK_BRAINS:
            continue
        if np.allclose(nib.load(brain).affine, grid.affine, atol=1e-2):
            counts += _inside_of(read_array(brain))
            n += 1
    inside = counts * 2 >= n if n else np.ones(shape, bool)
    if n and not inside.any():
        raise ImageError(f'The brains of the first {n} images do not overlap.')
    return Places(grid, inside)


def _inside_of(brain: np.ndarray) -> np.ndarray:
    """Voxels of a stripped brain; normalised intensities may be negative inside."""
    return np.abs(brain) > 1e-6 if brain.min() < 0 else brain_voxels(brain)


def _brain_on(scan: Scan, shape: Sequence[int]) -> Path | None:
    """Brain of a subject on the grid of the maps."""
    import nibabel as nib

    stem = f'{scan.prefix}_space-{scan.space}'
    found = [*sorted(scan.folder.glob(f'{stem}_res-*_desc-brain_T1w.nii.gz')), scan.model_input]
    for path in found:
        if path is not None and nib.load(path).shape[:3] == tuple(shape):
            return path
    return None
