"""Re-measured figure: volume changes by an independent registration against those of the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.read.scan_files import REMEASURED, ScanFiles, parse_number
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import new_figure, save_svg
from bids_interp.reports.common.palette import DIRECTION_COLOURS, INK

TITLES = {'inject': 'Pattern injected', 'remove': 'Pattern removed'}


def read_remeasured(files: ScanFiles) -> dict[str, np.ndarray]:
    """Return claimed and re-measured volume changes by direction, (2, R), in percent.

    Regions that could not be measured are left out. Empty if the model of the prediction was run
    without ``--remeasure``.
    """
    prediction = files.read_prediction()
    if prediction is None or not prediction.remeasured:
        return {}
    found: dict[str, list[tuple[float, float]]] = {}
    for row in files.table(REMEASURED):
        claimed, measured = (parse_number(row[f'{kind}_pct']) for kind in ('claimed', 'remeasured'))
        if claimed is not None and measured is not None:
            found.setdefault(row['direction'], []).append((claimed, measured))
    return {direction: np.array(pairs).T for direction, pairs in found.items()}


def draw_remeasured(files: ScanFiles) -> Path | None:
    """Draw one dot per region and the line of equality, for each direction."""
    changes = read_remeasured(files)
    if not changes:
        return None
    figure = new_figure(10.0, 4.0)
    limit = 1.1 * max(float(np.abs(pairs).max()) for pairs in changes.values()) or 1.0
    for index, direction in enumerate(name for name in DIRECTIONS if name in changes):
        axes = figure.add_axes((0.09 + 0.48 * index, 0.15, 0.38, 0.74))
        _draw_dots(axes, changes[direction], limit, DIRECTION_COLOURS[direction])
        axes.set_title(TITLES[direction], fontsize=10.5, loc='left', fontweight='bold')
    return save_svg(figure, files.figure('remeasured', '.svg'))


def _draw_dots(axes: Any, pairs: np.ndarray, limit: float, colour: str) -> None:
    claimed, measured = pairs
    axes.plot((-limit, limit), (-limit, limit), color='#5b6774', linestyle='--', linewidth=1)
    axes.plot(claimed, measured, 'o', color=colour, markersize=6)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_xlabel('volume change of the map (%)', fontsize=10, color=INK)
    axes.set_ylabel('re-measured volume change (%)', fontsize=10, color=INK)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(color='#e3e8ed', linewidth=0.8)
    axes.set_axisbelow(True)
