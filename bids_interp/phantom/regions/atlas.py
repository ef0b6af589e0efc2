"""Atlas of regions: a label image and a table of names, in template space."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid, resample

#: Smallest share of labels within 6 mm of the template's brain. The share of AAL, made for another
#: MNI brain, is 0.99, and 0.87 to 0.94 after a shift of 15 mm.
INSIDE = 0.95
#: Largest distance in mm between the ends of the brain and of an atlas of half of it or more.
ENDS_MM = 12.0
NAME_COLUMNS = ('name', 'label', 'region')
INDEX_COLUMNS = ('index', 'id', 'value')
_CHECK_MM = 3.0
_ROOM_MM = 6.0


@dataclass(frozen=True, eq=False)
class Atlas:
    """Label image in template space with names.

    Parameters
    ----------
    path : Path
        Label image.
    labels : numpy.ndarray
        (X, Y, Z) integers.
    grid : Grid
        Grid of the labels.
    index : dict
        Name of each region -> label.
    """

    path: Path
    labels: np.ndarray
    grid: Grid
    index: dict[str, int]

    @property
    def digest(self) -> str:
        """Hash of the labels, the grid and the names."""
        total = hashlib.sha256(np.ascontiguousarray(self.labels).tobytes())
        total.update(self.grid.affine.tobytes())
        total.update(repr(sorted(self.index.items())).encode())
        return total.hexdigest()[:16]


def open_atlas(path: str | Path, table: str | Path | None = None) -> Atlas:
    """Read a label image and its table.

    Parameters
    ----------
    path : path
        NIfTI image of integers (BIDS: ``*_dseg.nii.gz``).
    table : path, optional
        TSV with the columns ``index`` and ``name`` [default: the TSV with the name of the image].

    Raises
    ------
    UsageError
        If a file cannot be read, the image is not a label image, or the table lacks a column.
    """
    path = Path(path)
    names = path.with_name(path.name.split('.nii')[0] + '.tsv') if table is None else Path(table)
    image = read_label_image(path)
    index = {name: label for label, name in read_label_names(names).items()}
    return Atlas(path, np.asarray(image.dataobj), Grid.from_image(image), index)


def read_label_image(path: Path) -> nib.Nifti1Image:
    """Read a label image (X, Y, Z) as int32.

    Raises
    ------
    UsageError
        If the file cannot be read, or is not a three-dimensional image of integers.
    """
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
    except Exception as error:  # nibabel, zlib and the system raise different classes
        raise UsageError(f'The atlas {path} cannot be read: {error}.', 'Check --atlas.') from error
    if data.ndim > 3 and data.size == np.prod(data.shape[:3]):
        data = data.reshape(data.shape[:3])
    rounded = np.rint(data)
    if data.ndim != 3 or not np.allclose(data, rounded, atol=1e-3):
        raise UsageError(
            f'The atlas {path} is not a 3-D image of integers.',
            'Use a label image (dseg); convert probabilities to the most probable labels first.',
        )
    return nib.Nifti1Image(rounded.astype(np.int32), image.affine)


def read_label_names(path: Path) -> dict[int, str]:
    """Read the names of labels from a table with the columns ``index`` and ``name``, or synonyms.

    Raises
    ------
    UsageError
        If the table cannot be read, lacks a column, or has an index that is not a number.
    """
    advice = 'Give a TSV with the columns index and name to --atlas-labels.'
    try:
        with path.open(encoding='utf-8-sig', newline='') as stream:
            rows = list(csv.DictReader(stream, delimiter='\t', quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f'The table of labels {path} cannot be read: {error}.', advice) from error
    columns = {str(name).strip().lower(): name for name in (rows[0] if rows else {})}
    index = next((columns[name] for name in INDEX_COLUMNS if name in columns), None)
    label = next((columns[name] for name in NAME_COLUMNS if name in columns), None)
    if index is None or label is None:
        raise UsageError(f'The table of labels {path} lacks the column index or name.', advice)
    try:
        found = {int(float(row[index])): (row[label] or '').strip() for row in rows}
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f'{path} is not a table of labels: {error}.', advice) from error
    return {number: name for number, name in found.items() if name}


def check_names(atlas: Atlas, names: Iterable[str]) -> None:
    """Raise `UsageError` with similar names if a region is missing or has no voxels."""
    for name in names:
        if name in atlas.index:
            if not (atlas.labels == atlas.index[name]).any():
                raise UsageError(
                    f'{name} (number {atlas.index[name]}) has no voxels in {atlas.path}.',
                    'Check that the table belongs to the image.',
                )
            continue
        folded = {region.lower(): region for region in atlas.index}
        close = get_close_matches(name.lower(), folded, n=5, cutoff=0.5)
        shown = [folded[match] for match in close] or list(atlas.index)[:10]
        raise UsageError(
            f'The atlas {atlas.path} has no region called {name!r}.',
            f'{"Similar" if close else "Some of its"} names: {", ".join(shown)}.',
        )


def check_atlas_space(atlas: Atlas, brain: np.ndarray, grid: Grid) -> None:
    """Refuse an atlas that does not match the brain of the template.

    Parameters
    ----------
    atlas : Atlas
        Atlas.
    brain : numpy.ndarray
        (X, Y, Z) brain of the template, 0 outside.
    grid : Grid
        Grid of the brain.

    Raises
    ------
    UsageError
        If too many labels lie outside the brain, or a whole-brain atlas has other extents.
    """
    coarse = grid.with_spacing(_CHECK_MM)
    inside = _share(brain > 0, grid, coarse) > 0.5
    labelled = _share(atlas.labels > 0, atlas.grid, coarse) > 0.5
    total = float((atlas.labels > 0).sum()) * atlas.grid.voxel_volume
    room = ndimage.binary_dilation(inside, iterations=round(_ROOM_MM / _CHECK_MM))
    share = float((labelled & room).sum()) * coarse.voxel_volume / max(total, 1e-6)
    advice = f'Use an atlas in {grid.space} space, or choose its template with --template.'
    if share < INSIDE:
        raise UsageError(
            f'Only {share:.0%} of the labels of {atlas.path} lie in the brain of {grid.space}. '
            'The atlas belongs to another space.',
            advice,
        )
    if labelled.sum() < 0.45 * inside.sum():
        return
    for axis in range(2):  # many atlases omit the lower cerebellum and the brainstem
        spans = [
            np.flatnonzero(mask.any(axis=_others(axis)))[[0, -1]] for mask in (labelled, inside)
        ]
        gap = _CHECK_MM * np.abs(spans[0] - spans[1]).max()
        if gap > ENDS_MM:
            raise UsageError(
                f'The labels of {atlas.path} end {gap:.0f} mm from where the brain of '
                f'{grid.space} ends along {"xyz"[axis]}. The atlas belongs to another space.',
                advice,
            )


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _share(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return the share (X, Y, Z) of each voxel that a mask fills."""
    data = torch.from_numpy(mask.astype(np.float32))[None, None]
    return resample(data, source, target, antialias=True)[0, 0].numpy()


def atlas_masks(atlas: Atlas, names: Iterable[str], grid: Grid) -> dict[str, np.ndarray]:
    """Draw regions of an atlas on a grid in the same space.

    Parameters
    ----------
    atlas : Atlas
        Atlas.
    names : iterable of str
        Names of its regions.
    grid : Grid
        Grid to draw on.

    Returns
    -------
    dict
        Name -> (X, Y, Z) float32 share of each voxel, for
        :func:`bids_interp.phantom.change.atrophy.fit_atrophy`.

    Raises
    ------
    UsageError
        If a region is missing, or too small for the grid.
    """
    chosen = list(names)
    check_names(atlas, chosen)
    masks = {name: _share(atlas.labels == atlas.index[name], atlas.grid, grid) for name in chosen}
    for name, mask in masks.items():
        if not (mask > 0.5).any():
            raise UsageError(
                f'{name} of {atlas.path} is too small for voxels of {grid.spacing[0]:g} mm.',
                'Choose a larger region.',
            )
    return masks


def find_flow_atlas(home: Path, text: str) -> tuple[Path, Path]:
    """Find an atlas in the folder of TemplateFlow.

    Parameters
    ----------
    home : Path
        Folder of TemplateFlow.
    text : str
        ``TEMPLATE:ATLAS`` or ``TEMPLATE:ATLAS:DESC``.

    Returns
    -------
    image, table : Path
        Finest label image and its table.

    Raises
    ------
    UsageError
        If there is no such atlas, or several that differ in ``desc``.
    """
    template, atlas, *rest = text.split(':')
    folder = home / f'tpl-{template}'
    images: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f'tpl-{template}_*dseg.nii.gz')):
        entities = _entities(path)
        # TemplateFlow represents files that are not downloaded yet by empty files.
        if atlas in (entities.get('atlas'), entities.get('seg')) and path.stat().st_size:
            images.setdefault(entities.get('desc', ''), []).append(path)
    chosen = {desc: found for desc, found in images.items() if not rest or desc == rest[0]}
    if len(chosen) != 1:
        raise UsageError(
            f'{text} matches {len(chosen)} atlases with label images in {folder}.',
            f'Choose one of {", ".join(f"{template}:{atlas}:{desc}" for desc in images)}.'
            if images
            else 'Download it with the TemplateFlow client, or give the files.',
        )
    image = next(iter(chosen.values()))[0]
    wanted = {key: value for key, value in _entities(image).items() if key != 'res'}
    for table in sorted(folder.glob(f'tpl-{template}_*dseg.tsv')):
        given = {key: value for key, value in _entities(table).items() if key != 'res'}
        if given.items() <= wanted.items() and {'atlas', 'seg'} & given.keys():
            return image, table
    raise UsageError(f'{image} has no table of labels.', 'Give the table with --atlas-labels.')


def _entities(path: Path) -> dict[str, str]:
    parts = path.name.split('.')[0].split('_')
    return dict(part.split('-', 1) for part in parts if '-' in part)
