"""Saliency figure: saliency maps of the classifier and our map on the same slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.read.scan_files import (
    BRAIN,
    SALIENCY_SUMMARY,
    ScanFiles,
    read_json,
    read_sidecar,
)
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import Row, Tile, draw_rows, sides_of
from bids_interp.reports.common.palette import SALIENCY_COLOURS, SignedScale
from bids_interp.reports.common.volumes import (
    PLANES,
    Volume,
    bounding_box,
    grey,
    load_like,
    load_mask,
    load_volume,
    put_onto,
    spread_slices,
)
from bids_interp.reports.scan.change_figures import MAP_COUNTS, Changes
from bids_interp.reports.scan.region_changes import template_map

PLANES_SHOWN = ('axial', 'coronal')
OURS = 'Simulation towards “{positive}”, log-Jacobian: this tissue {change}'
#: Meaning of the colours, by the kind of the method.
MEANINGS = {
    'gradient': 'brighter voxels here support (orange) or oppose (purple) “{positive}”',
    'attribution': 'these voxels support (orange) or oppose (purple) “{positive}”',
    'activation': 'features found here support (orange) or oppose (purple) “{positive}”',
    'product': 'brighter voxels here support (orange) or oppose (purple) “{positive}”',
}


def listed_methods(files: ScanFiles) -> dict[str, Any]:
    """Return the requested saliency methods and the skipped ones; empty if none were requested."""
    return read_json(next(iter(files.own(SALIENCY_SUMMARY)), None))


def draw_saliency(files: ScanFiles, changes: Changes | None, positive: str) -> Path | None:
    """Draw one row per saliency map, with our map in the first row.

    Parameters
    ----------
    files : ScanFiles
        The derivatives.
    changes : Changes, optional
        Our maps, used if they are in template space.
    positive : str
        Name of the positive class.

    Returns
    -------
    pathlib.Path or None
        None if no saliency maps were requested.
    """
    listed = listed_methods(files)
    shown = _in_template(files, changes) if listed else None
    if shown is None:
        return None
    background = 0.75 * grey(shown.brain.data, shown.inside) * shown.inside
    rows = []
    if 'inject' in shown.maps:
        heading = OURS.format(positive=positive, change='shrinks (blue) or grows (red)')
        rows.append(_row(shown, background, shown.maps['inject'], shown.scale, heading))
    for method in listed.get('Methods', []):
        path = files.template(f'desc-{method}_saliency.nii.gz', 'model')
        if path is None:
            continue
        values = load_like(path, shown.brain).data * shown.inside
        facts = read_sidecar(path)
        meaning = MEANINGS.get(facts.get('Kind', ''), MEANINGS['attribution'])
        strength = np.abs(values[shown.inside])
        limit = float(np.percentile(strength, 99.5) or strength.max())
        text = meaning.format(positive=positive) if limit else 'zero everywhere'
        heading = f'{facts.get("Title", method)}: {text}'
        scale = SignedScale(limit or 1.0, SALIENCY_COLOURS)
        rows.append(_row(shown, background, values, scale, heading))
    return draw_rows(rows, files.figure('saliency', '.png')) if rows else None


def _in_template(files: ScanFiles, changes: Changes | None) -> Changes | None:
    """Return our maps in template space, on the grid of the saliency maps."""
    drawn_on = files.shown_brain
    if changes is not None and drawn_on is not None and '_space-' in drawn_on.name:
        return changes
    path = files.template(BRAIN)
    if path is None:
        return None
    whole = load_volume(path)
    inside = load_mask(files.mask_of(path), whole)
    box = bounding_box(inside)
    brain = whole.crop(box)
    maps = {}
    for direction in DIRECTIONS:
        found = template_map(files, direction)
        if found is not None:
            maps[direction] = put_onto(*found, brain)
    return Changes(brain, inside[box], maps, {}, {})


def _row(
    shown: Changes, background: np.ndarray, values: np.ndarray, scale: SignedScale, heading: str
) -> Row:
    """Every second slice of our map, including the slice of its strongest change."""
    brain = shown.brain
    picture, colours = Volume(background, brain.grid), Volume(values * shown.inside, brain.grid)
    middle = shown.peak if shown.maps else tuple(size // 2 for size in brain.data.shape)
    tiles = []
    for plane in PLANES_SHOWN:
        through = middle[PLANES[plane]]
        slices = spread_slices(shown.inside, plane, MAP_COUNTS[plane], through)
        for index in slices[slices.index(through) % 2 :: 2]:
            cut = scale.over(picture.cut(plane, index), colours.cut(plane, index))
            text = f'{"xyz"[PLANES[plane]]} = {brain.position(plane, index):.0f}'
            tiles.append(Tile(cut, text, sides_of(plane)))
    return Row(heading, tiles)
