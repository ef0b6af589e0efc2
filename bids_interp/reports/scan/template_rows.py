"""Rows of maps in template space: every second slice of our map, the same for every map."""

from __future__ import annotations

import numpy as np

from bids_interp.bids.read.scan_files import BRAIN, ScanFiles
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import Row, overlaid_tile
from bids_interp.reports.common.palette import SignedScale
from bids_interp.reports.common.volumes import (
    PLANES,
    Volume,
    bounding_box,
    grey,
    load_mask,
    load_volume,
    put_onto,
    spread_slices,
)
from bids_interp.reports.scan.change_figures import MAP_COUNTS, Changes
from bids_interp.reports.scan.region_changes import template_map

PLANES_SHOWN = ('axial', 'coronal')


def changes_in_template(files: ScanFiles, changes: Changes | None) -> Changes | None:
    """Return brain and maps in template space; None without a brain there.

    Parameters
    ----------
    files : ScanFiles
        Derivatives of the scan.
    changes : Changes, optional
        Maps of the scan, returned if they are in template space.
    """
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


def map_row(shown: Changes, values: np.ndarray, scale: SignedScale, heading: str) -> Row:
    """Return a row of slices of a map (X, Y, Z), including that of our strongest change."""
    brain = shown.brain
    background = Volume(0.75 * grey(brain.data, shown.inside) * shown.inside, brain.grid)
    colours = Volume(values * shown.inside, brain.grid)
    middle = shown.peak if shown.maps else tuple(size // 2 for size in brain.data.shape)
    tiles = []
    for plane in PLANES_SHOWN:
        through = middle[PLANES[plane]]
        slices = spread_slices(shown.inside, plane, MAP_COUNTS[plane], through)
        for index in slices[slices.index(through) % 2 :: 2]:
            tiles.append(overlaid_tile(background, colours, plane, index, scale))
    return Row(heading, tiles)
