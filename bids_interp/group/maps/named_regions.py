"""Named regions on the grid of the maps: built-in, from a file, or from TemplateFlow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from bids_interp.errors import UsageError
from bids_interp.group.maps.map_reader import MaskedGrid
from bids_interp.spatial.grid import Grid


@dataclass(frozen=True, eq=False)
class NamedRegions:
    """Regions as voxels inside the mask.

    Parameters
    ----------
    names : list of (str, str)
        Regions and sides: ``('hippocampus', 'left')``, ``('brainstem', 'midline')``.
    members : scipy.sparse.csr_array
        (R, V) membership of the voxels; regions may overlap.
    voxel_mm3 : float
        Volume of a voxel.
    source : str
        Origin of the regions.
    """

    names: list[tuple[str, str]]
    members: csr_array
    voxel_mm3: float
    source: str

    @cached_property
    def sizes(self) -> np.ndarray:
        """Return the number of voxels of each region, (R,)."""
        return np.asarray(self.members.sum(axis=1)).ravel()

    @cached_property
    def _used(self) -> tuple[np.ndarray, csr_array]:
        """Return the voxels in any region, and their memberships."""
        used = np.unique(self.members.indices)
        return used, csr_array(self.members[:, used])

    def measure(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean log-Jacobian and mean volume change of each region.

        Parameters
        ----------
        values : numpy.ndarray
            (V,) log-Jacobian inside the mask.

        Returns
        -------
        numpy.ndarray, numpy.ndarray
            (R,) mean log-Jacobian; (R,) mean of ``exp(logJ) - 1``, the relative volume change.
        """
        used, members = self._used
        own = values[used].astype(np.float64)
        return members @ own / self.sizes, members @ np.expm1(own) / self.sizes


def find_regions(
    masked: MaskedGrid,
    atlas: str | None,
    labels: Path | None,
    *,
    offline: bool = True,
    threads: int = 1,
) -> NamedRegions:
    """Return the regions for the tables.

    Parameters
    ----------
    masked : MaskedGrid
        Grid and mask of the maps.
    atlas : str, optional
        Atlas in any MNI space, see :func:`bids_interp.anatomical.spaces.atlas.read_atlas`.
    labels : pathlib.Path, optional
        Table of region names.
    offline : bool
        Do not download an atlas or template from TemplateFlow.
    threads : int
        Threads of a registration between templates.

    Raises
    ------
    UsageError
        If atlas or table is missing or invalid, or they do not match.
    TemplateError
        If the atlas, or the template of its space, is not available.
    """
    if atlas is None:
        return embedded_regions(masked)
    from bids_interp.anatomical.spaces.atlas import read_atlas, split_side

    space = masked.grid.space
    found = read_atlas(atlas, labels, space, offline=offline)
    points = masked.grid.world_coordinates()[:, masked.inside]
    inside = found.at(points, space, offline=offline, threads=threads)
    present = [int(value) for value in np.unique(inside) if value != 0]
    if not present:
        raise UsageError(
            f'--atlas {found.path} has no region inside the brain mask of the group.',
            f'The atlas must be in the space of the model, {space}, or be given as TEMPLATE:FILE.',
        )
    if found.names and not any(value in found.names for value in present):
        raise UsageError(
            f'The table of --atlas {found.path} lists none of its regions.', 'Check --atlas-labels.'
        )
    names = [split_side(found.name(value)) for value in present]
    source = found.path.name if found.space == space else f'{found.path.name} ({found.space})'
    return _regions(names, [inside == value for value in present], masked, source)


def embedded_regions(masked: MaskedGrid) -> NamedRegions:
    """Return the coarse built-in regions; none if the template is not in MNI space."""
    from bids_interp.phantom.regions.coarse import SHOWN_REGIONS, laterality, region_distance

    names: list[tuple[str, str]] = []
    masks: list[np.ndarray] = []
    if masked.grid.space.startswith('MNI'):
        points = masked.grid.world_coordinates()[:, masked.inside]
        for region in SHOWN_REGIONS:
            sides = ('midline',) if laterality(region) == 'midline' else ('left', 'right')
            for side in sides:
                full = region if side == 'midline' else f'{region}_{side}'
                near = _near(region, side, points)
                mask = np.zeros(points.shape[1], bool)
                mask[near] = region_distance(full, points[:, near]) < 0
                names.append((region, side))
                masks.append(mask)
    source = 'coarse built-in ellipsoids in MNI152 space, not a segmentation'
    return _regions(names, masks, masked, source)


def _near(region: str, side: str, points: np.ndarray) -> np.ndarray:
    """Return the indices of the points in the bounding boxes of a region's parts."""
    from bids_interp.phantom.regions.coarse import REGIONS

    near = np.zeros(points.shape[1], bool)
    for part in REGIONS[region].parts:
        centre = np.array((part.mirrored() if side == 'left' else part).centre)[:, None]
        near |= (np.abs(points - centre.astype(points.dtype)) <= max(part.radii)).all(axis=0)
    return np.flatnonzero(near)


def _regions(
    names: list[tuple[str, str]], masks: list[np.ndarray], masked: MaskedGrid, source: str
) -> NamedRegions:
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    size = int(masked.inside.sum())
    rows = np.stack([masks[index] for index in kept]) if kept else np.zeros((0, size), bool)
    return NamedRegions(
        [names[index] for index in kept],
        csr_array(rows.astype(np.float32)),
        masked.grid.voxel_volume,
        source,
    )


def save_grid_regions(path: Path, masked: MaskedGrid, regions: NamedRegions) -> Path:
    """Save grid, mask and regions for the nodes that read maps."""
    members = regions.members
    np.savez(
        path,
        inside=masked.inside,
        affine=masked.grid.affine,
        space=masked.grid.space,
        names=np.array(regions.names, dtype=str).reshape(-1, 2),
        data=members.data,
        indices=members.indices,
        indptr=members.indptr,
        shape=members.shape,
        voxel_mm3=regions.voxel_mm3,
        source=regions.source,
    )
    return path


def load_grid_regions(path: str | Path) -> tuple[MaskedGrid, NamedRegions]:
    """Load the file of :func:`save_grid_regions`."""
    with np.load(path) as kept:
        inside = kept['inside']
        shape = (inside.shape[0], inside.shape[1], inside.shape[2])
        masked = MaskedGrid(Grid(shape, kept['affine'], str(kept['space'])), inside)
        members = csr_array(
            (kept['data'], kept['indices'], kept['indptr']), shape=tuple(kept['shape'])
        )
        names = [(str(region), str(side)) for region, side in kept['names']]
        return masked, NamedRegions(names, members, float(kept['voxel_mm3']), str(kept['source']))
