"""Named regions on the grid of the maps: embedded, of a file, or of TemplateFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from bids_interp.bids.read.scan_files import read_table
from bids_interp.errors import ImageError, TemplateError, UsageError
from bids_interp.group.maps.map_reader import Places
from bids_interp.spatial.grid import Grid

_SIDES = (
    (re.compile(r'^(left|lh|l)[ _.-]+(.+)$', re.I), 'left'),
    (re.compile(r'^(right|rh|r)[ _.-]+(.+)$', re.I), 'right'),
    (re.compile(r'^(.+?)[ _.-]+(left|lh|l)$', re.I), 'left'),
    (re.compile(r'^(.+?)[ _.-]+(right|rh|r)$', re.I), 'right'),
)
NAME_COLUMNS = ('name', 'label', 'region')
INDEX_COLUMNS = ('index', 'id', 'value')


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions as voxels of the mask.

    Parameters
    ----------
    names : list of (str, str)
        Region and side: ``('hippocampus', 'left')``, ``('brainstem', 'midline')``.
    members : scipy.sparse.csr_array
        (R, V) 1 where a voxel of the mask is in a region; regions may overlap.
    voxel_mm3 : float
        Volume of a voxel.
    source : str
        Where they come from.
    """

    names: list[tuple[str, str]]
    members: csr_array
    voxel_mm3: float
    source: str

    @cached_property
    def sizes(self) -> np.ndarray:
        """Voxels of each region, (R,)."""
        return np.asarray(self.members.sum(axis=1)).ravel()

    @cached_property
    def _used(self) -> tuple[np.ndarray, csr_array]:
        """Voxels that are in any region, and the members among them."""
        used = np.unique(self.members.indices)
        return used, csr_array(self.members[:, used])

    def measure(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean log-Jacobian and mean volume change of each region.

        Parameters
        ----------
        values : numpy.ndarray
            (V,) log-Jacobian in the mask.

        Returns
        -------
        numpy.ndarray, numpy.ndarray
            (R,) mean of the logarithm; (R,) mean of ``exp(logJ) - 1``, the relative change of the
            region's volume under the forward map.
        """
        used, members = self._used
        own = values[used].astype(np.float64)
        return members @ own / self.sizes, members @ np.expm1(own) / self.sizes


def side_of(name: str) -> tuple[str, str]:
    """Split a name into region and side.

    Examples
    --------
    >>> side_of('Left-Thalamus'), side_of('hippocampus_R'), side_of('Brain-Stem')
    (('Thalamus', 'left'), ('hippocampus', 'right'), ('Brain-Stem', 'midline'))
    """
    for pattern, side in _SIDES:
        match = pattern.match(name.strip())
        if match:
            return match[2] if match[1].lower() in _WORDS else match[1], side
    return name.strip(), 'midline'


_WORDS = {'left', 'right', 'lh', 'rh', 'l', 'r'}


def find_regions(
    places: Places, atlas: str | None, labels: Path | None, *, offline: bool = True
) -> Regions:
    """Regions for the tables.

    Parameters
    ----------
    places : Places
        Grid and mask of the maps.
    atlas : str, optional
        File with integers in the template's space, or name of an atlas in TemplateFlow.
    labels : pathlib.Path, optional
        Table of its names.
    offline : bool
        Do not ask the network for an atlas of TemplateFlow.

    Raises
    ------
    UsageError
        If there is no atlas or table of that name, or they do not fit each other.
    TemplateError
        If an atlas of TemplateFlow cannot be had.
    """
    if atlas is None:
        return embedded_regions(places)
    path = Path(atlas).expanduser()
    if not path.is_file():
        path, found = _from_templateflow(atlas, places.grid.space, offline)
        labels = labels or found
    labels = labels or _beside(path)
    return _from_image(path, labels, places)


def embedded_regions(places: Places) -> Regions:
    """The coarse regions of the package; none where the template is not in MNI space."""
    from bids_interp.phantom.regions.coarse import SHOWN_REGIONS, laterality, region_distance

    names: list[tuple[str, str]] = []
    masks: list[np.ndarray] = []
    if places.grid.space.startswith('MNI'):
        points = places.grid.world_coordinates()[:, places.inside]
        for region in SHOWN_REGIONS:
            sides = ('midline',) if laterality(region) == 'midline' else ('left', 'right')
            for side in sides:
                full = region if side == 'midline' else f'{region}_{side}'
                near = _near(region, side, points)
                mask = np.zeros(points.shape[1], bool)
                mask[near] = region_distance(full, points[:, near]) < 0
                names.append((region, side))
                masks.append(mask)
    source = 'coarse ellipsoids in MNI152 space that come with bids_interp; no segmentation'
    return _regions(names, masks, places, source)


def _near(region: str, side: str, points: np.ndarray) -> np.ndarray:
    """Indices of the points in the boxes around a region's parts: the others need no distance."""
    from bids_interp.phantom.regions.coarse import REGIONS

    near = np.zeros(points.shape[1], bool)
    for part in REGIONS[region].parts:
        centre = np.array((part.mirrored() if side == 'left' else part).centre)[:, None]
        near |= (np.abs(points - centre.astype(points.dtype)) <= max(part.radii)).all(axis=0)
    return np.flatnonzero(near)


def _regions(
    names: list[tuple[str, str]], masks: list[np.ndarray], places: Places, source: str
) -> Regions:
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    size = int(places.inside.sum())
    rows = np.stack([masks[index] for index in kept]) if kept else np.zeros((0, size), bool)
    return Regions(
        [names[index] for index in kept],
        csr_array(rows.astype(np.float32)),
        places.grid.voxel_volume,
        source,
    )


def _from_image(path: Path, labels: Path | None, places: Places) -> Regions:
    import nibabel as nib
    from nilearn.image import resample_img

    try:
        image = nib.load(path)
        values = np.asarray(image.dataobj)
    except Exception as error:
        raise ImageError(f'--atlas {path} cannot be read: {error}.') from error
    if values.ndim != 3 or not np.allclose(values, np.rint(values)):
        raise UsageError(
            f'--atlas {path} is no three-dimensional image of whole numbers.',
            'Probabilistic atlases must be cut first: each voxel its most probable region.',
        )
    moved = resample_img(
        nib.Nifti1Image(np.rint(values).astype(np.int32), image.affine),
        target_affine=places.grid.affine,
        target_shape=places.grid.shape,
        interpolation='nearest',
        copy_header=False,
        force_resample=True,
    )
    inside = np.asarray(moved.dataobj)[places.inside]
    there = [int(value) for value in np.unique(inside) if value != 0]
    if not there:
        raise UsageError(
            f'--atlas {path} has no region inside the brain mask of the group.',
            f'It must lie in the space of the model: {places.grid.space}.',
        )
    words = _read_names(labels) if labels else {}
    unknown = [value for value in there if value not in words]
    if labels and len(unknown) == len(there):
        raise UsageError(f'--atlas-labels {labels} names none of the regions of {path}.')
    names = [side_of(words.get(value, f'region {value}')) for value in there]
    return _regions(names, [inside == value for value in there], places, path.name)


def _read_names(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise UsageError(f'--atlas-labels {path} is not there.')
    rows = read_table(path)
    columns = {name.lower(): name for name in (rows[0] if rows else {})}
    index = next((columns[name] for name in INDEX_COLUMNS if name in columns), None)
    words = next((columns[name] for name in NAME_COLUMNS if name in columns), None)
    if index is None or words is None:
        raise UsageError(
            f'--atlas-labels {path} has no columns index and name.',
            'The file is a table with tabs between its columns.',
        )
    try:
        return {int(float(row[index])): row[words] for row in rows}
    except ValueError as error:
        raise UsageError(f'--atlas-labels {path}: {error}.') from error


def _beside(path: Path) -> Path | None:
    table = path.with_name(path.name.split('.', 1)[0] + '.tsv')
    return table if table.is_file() else None


def _from_templateflow(name: str, space: str, offline: bool) -> tuple[Path, Path | None]:
    """Image and table of an atlas, at 1 mm where there is a choice."""
    from bids_interp.anatomical.templates import flow_home

    folder = flow_home() / f'tpl-{space}'
    found = [
        path
        for resolution in ('01', '1', '02', '2')
        for path in sorted(folder.glob(f'*res-{resolution}_atlas-{name}_*dseg.nii.gz'))
        if path.stat().st_size
    ]
    if not found and not offline:
        found = _fetched(name, space)
    if not found:
        raise TemplateError(
            f'--atlas {name}: there is neither such a file nor such an atlas in {folder}.',
            'Give the path of a label image, or leave the option out for the embedded regions.',
        )
    stem = re.sub(r'_res-\w+?(?=_)', '', found[0].name).removesuffix('.nii.gz')
    table = found[0].with_name(f'{stem}.tsv')
    return found[0], table if table.is_file() and table.stat().st_size else None


def _fetched(name: str, space: str) -> list[Path]:
    try:
        from templateflow import api

        found: Any = api.get(space, atlas=name, suffix='dseg', resolution=1, extension='.nii.gz')
        api.get(space, atlas=name, suffix='dseg', extension='.tsv')
    except Exception as error:  # the client raises whatever its transport raises
        raise TemplateError(f'The atlas {name} could not be fetched: {error}.') from error
    return [Path(path) for path in (found if isinstance(found, list) else [found])]


def save_where(path: Path, places: Places, regions: Regions) -> Path:
    """Keep mask and regions, which every map needs."""
    members = regions.members
    np.savez(
        path,
        inside=places.inside,
        affine=places.grid.affine,
        space=places.grid.space,
        names=np.array(regions.names, dtype=str).reshape(-1, 2),
        data=members.data,
        indices=members.indices,
        indptr=members.indptr,
        shape=members.shape,
        voxel_mm3=regions.voxel_mm3,
        source=regions.source,
    )
    return path


def load_where(path: str | Path) -> tuple[Places, Regions]:
    """Undo :func:`save_where`."""
    with np.load(path) as kept:
        inside = kept['inside']
        shape = (inside.shape[0], inside.shape[1], inside.shape[2])
        places = Places(Grid(shape, kept['affine'], str(kept['space'])), inside)
        members = csr_array(
            (kept['data'], kept['indices'], kept['indptr']), shape=tuple(kept['shape'])
        )
        names = [(str(region), str(side)) for region, side in kept['names']]
        return places, Regions(names, members, float(kept['voxel_mm3']), str(kept['source']))
