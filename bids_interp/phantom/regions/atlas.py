"""Regions of an atlas: a label image and its table of names, in the space of the template."""

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

#: Share of an atlas' labels that must lie within 6 mm of the template's brain. AAL (made for
#: another MNI brain) has 0.99, the same atlas moved by 15 mm 0.87 to 0.94.
INSIDE = 0.95
#: An atlas of nearly half of the brain or more must end where the brain ends, to so many mm.
ENDS_MM = 12.0
_CHECK_MM = 3.0
_ROOM_MM = 6.0


@dataclass(frozen=True, eq=False)
class Atlas:
    """Labels on a grid in template space.

    Parameters
    ----------
    path : Path
        The label image.
    labels : numpy.ndarray
        (X, Y, Z) whole numbers.
    grid : Grid
        Where they are.
    index : dict
        Name of a region to its number.
    """

    path: Path
    labels: np.ndarray
    grid: Grid
    index: dict[str, int]

    @property
    def digest(self) -> str:
        """Hash of the numbers, the grid and the names."""
        total = hashlib.sha256(np.ascontiguousarray(self.labels).tobytes())
        total.update(self.grid.affine.tobytes())
        total.update(repr(sorted(self.index.items())).encode())
        return total.hexdigest()[:16]


def open_atlas(path: str | Path, table: str | Path | None = None) -> Atlas:
    """Read a label image and its table.

    Parameters
    ----------
    path : path
        NIfTI image of whole numbers (BIDS: ``*_dseg.nii.gz``).
    table : path, optional
        TSV with the columns ``index`` and ``name``; the one beside the image where not given.

    Raises
    ------
    UsageError
        A file cannot be read, or is no label image or no such table.
    """
    path = Path(path)
    names = path.with_name(path.name.split('.nii')[0] + '.tsv') if table is None else Path(table)
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
    except Exception as error:  # nibabel, zlib and the system each have their own
        raise UsageError(f'The atlas {path} cannot be read: {error}.', 'Check --atlas.') from error
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and data.size else data
    rounded = np.rint(data)
    if data.ndim != 3 or not np.allclose(data, rounded, atol=1e-3):
        raise UsageError(
            f'The atlas {path} is no 3-D image of whole numbers.',
            'Give a label image (dseg), not probabilities.',
        )
    index = _read_table(names)
    grid = Grid.from_image(image)
    return Atlas(path, rounded.astype(np.int32), grid, index)


def _read_table(path: Path) -> dict[str, int]:
    advice = 'Give a TSV with the columns index and name to --atlas-labels.'
    try:
        with path.open(encoding='utf-8-sig', newline='') as stream:
            rows = list(csv.DictReader(stream, delimiter='\t', quoting=csv.QUOTE_NONE))
        return {str(row['name']).strip(): int(float(row['index'])) for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f'The table of labels {path} cannot be read: {error}.', advice) from error
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(f'{path} is no table of labels.', advice) from error


def check_names(atlas: Atlas, names: Iterable[str]) -> None:
    """Raise `UsageError` naming the region, the file and similar names where one is missing."""
    for name in names:
        if name in atlas.index:
            if not (atlas.labels == atlas.index[name]).any():
                raise UsageError(
                    f'{name} (number {atlas.index[name]}) has no voxel in {atlas.path}.',
                    'Check that the table belongs to the image.',
                )
            continue
        folded = {known.lower(): known for known in atlas.index}
        close = get_close_matches(name.lower(), folded, n=5, cutoff=0.5)
        shown = [folded[match] for match in close] or list(atlas.index)[:10]
        raise UsageError(
            f'The atlas {atlas.path} has no region called {name!r}.',
            f'{"Similar" if close else "Some of its"} names: {", ".join(shown)}.',
        )


def check_space(atlas: Atlas, brain: np.ndarray, grid: Grid) -> None:
    """Refuse an atlas that does not lie where the brain of the template lies.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    brain : numpy.ndarray
        (X, Y, Z) brain of the template, 0 outside.
    grid : Grid
        Its grid.

    Raises
    ------
    UsageError
        Too many labels lie outside of the brain, or a whole-brain atlas ends elsewhere.
    """
    coarse = grid.with_spacing(_CHECK_MM)
    inside = _share(brain > 0, grid, coarse) > 0.5
    labelled = _share(atlas.labels > 0, atlas.grid, coarse) > 0.5
    total = float((atlas.labels > 0).sum()) * atlas.grid.voxel_volume
    room = ndimage.binary_dilation(inside, iterations=round(_ROOM_MM / _CHECK_MM))
    share = float((labelled & room).sum()) * coarse.voxel_volume / max(total, 1e-6)
    advice = f'Give an atlas in {grid.space} space, or the --template that it belongs to.'
    if share < INSIDE:
        raise UsageError(
            f'Only {share:.0%} of the labels of {atlas.path} lie in the brain of {grid.space}: '
            'the atlas is of another space.',
            advice,
        )
    if labelled.sum() < 0.45 * inside.sum():
        return
    for axis in range(2):  # many atlases leave out the lower cerebellum and the brainstem
        spans = [
            np.flatnonzero(mask.any(axis=_others(axis)))[[0, -1]] for mask in (labelled, inside)
        ]
        gap = _CHECK_MM * np.abs(spans[0] - spans[1]).max()
        if gap > ENDS_MM:
            raise UsageError(
                f'The labels of {atlas.path} end {gap:.0f} mm from where the brain of '
                f'{grid.space} ends along {"xyz"[axis]}: the atlas is of another space.',
                advice,
            )


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _share(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Share (X, Y, Z) of each voxel that a mask fills."""
    data = torch.from_numpy(mask.astype(np.float32))[None, None]
    return resample(data, source, target, antialias=True)[0, 0].numpy()


def atlas_masks(atlas: Atlas, names: Iterable[str], grid: Grid) -> dict[str, np.ndarray]:
    """Draw regions of an atlas on a grid in the same space.

    Parameters
    ----------
    atlas : Atlas
        The atlas.
    names : iterable of str
        Its regions.
    grid : Grid
        Where to draw.

    Returns
    -------
    dict
        Name -> (X, Y, Z) float32 share of each voxel, for
        :func:`bids_interp.phantom.change.atrophy.plan_atrophy`.

    Raises
    ------
    UsageError
        A region is missing, or too small for the grid.
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
    """Find an atlas in TemplateFlow's folder.

    Parameters
    ----------
    home : Path
        TemplateFlow's folder.
    text : str
        ``TEMPLATE:ATLAS`` or ``TEMPLATE:ATLAS:DESC``.

    Returns
    -------
    image, table : Path
        The finest label image and its table.

    Raises
    ------
    UsageError
        There is none, or there are several that differ in ``desc``.
    """
    template, atlas, *rest = text.split(':')
    folder = home / f'tpl-{template}'
    images: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f'tpl-{template}_*dseg.nii.gz')):
        entities = _entities(path)
        # TemplateFlow lists files that it has not fetched yet as empty ones.
        if atlas in (entities.get('atlas'), entities.get('seg')) and path.stat().st_size:
            images.setdefault(entities.get('desc', ''), []).append(path)
    chosen = {desc: found for desc, found in images.items() if not rest or desc == rest[0]}
    if len(chosen) != 1:
        raise UsageError(
            f'{text} names {len(chosen)} atlases with label images in {folder}.',
            f'Say which one: {", ".join(f"{template}:{atlas}:{desc}" for desc in images)}.'
            if images
            else 'Fetch it with the client of TemplateFlow, or give the files.',
        )
    image = next(iter(chosen.values()))[0]
    wanted = {key: value for key, value in _entities(image).items() if key != 'res'}
    for table in sorted(folder.glob(f'tpl-{template}_*dseg.tsv')):
        known = {key: value for key, value in _entities(table).items() if key != 'res'}
        if known.items() <= wanted.items() and {'atlas', 'seg'} & known.keys():
            return image, table
    raise UsageError(f'{image} has no table of labels beside it.', 'Give it to --atlas-labels.')


def _entities(path: Path) -> dict[str, str]:
    parts = path.name.split('.')[0].split('_')
    return dict(part.split('-', 1) for part in parts if '-' in part)
