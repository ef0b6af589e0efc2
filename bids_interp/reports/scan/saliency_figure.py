"""Saliency figure: saliency maps of the classifier and our map on the same slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.read.scan_files import (
    SALIENCY_SUMMARY,
    ScanFiles,
    read_json,
    read_sidecar,
)
from bids_interp.reports.common.montage import draw_rows
from bids_interp.reports.common.palette import SALIENCY_COLOURS, SignedScale
from bids_interp.reports.common.volumes import load_like
from bids_interp.reports.scan.change_figures import Changes
from bids_interp.reports.scan.template_rows import changes_in_template, map_row

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
    shown = changes_in_template(files, changes) if listed else None
    if shown is None:
        return None
    rows = []
    if 'inject' in shown.maps:
        heading = OURS.format(positive=positive, change='shrinks (blue) or grows (red)')
        rows.append(map_row(shown, shown.maps['inject'], shown.scale, heading))
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
        rows.append(map_row(shown, values, scale, heading))
    return draw_rows(rows, files.figure('saliency', '.png')) if rows else None
