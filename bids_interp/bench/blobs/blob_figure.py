"""Blob figure: image, simulated image and map of each method beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bench.blobs.blob_design import METHODS, SIMULATORS
from bids_interp.bench.method_maps import OURS
from bids_interp.constants import SALIENCY_METHODS
from bids_interp.reports.common.montage import new_figure, save_png
from bids_interp.reports.common.palette import DIVERGING, INK, SALIENCY_COLOURS
from bids_interp.saliency.maps import method_title

Pictures = Mapping[str, np.ndarray]
#: Size of a panel and of the margins in inches.
PANEL, LEFT, TOP = 1.3, 1.7, 0.55
COLUMNS = ('image', 'simulated', 'map')


def draw_blobs_figure(path: Path, columns: Sequence[tuple[str, Pictures]]) -> Path:
    """Draw one control of each unit, into which every method injects the pattern.

    Log-Jacobians share the colours of the truth; other maps have their own.

    Parameters
    ----------
    path : pathlib.Path
        PNG file.
    columns : sequence of (str, mapping)
        Title and pictures of each unit, see
        :attr:`bids_interp.bench.blobs.blob_unit.UnitResult.pictures`.
    """
    rows = ['truth', *(name for name in METHODS if any(f'{name}.map' in p for _, p in columns))]
    width = LEFT + PANEL * len(COLUMNS) * len(columns)
    height = TOP + PANEL * len(rows)
    figure = new_figure(width, height)
    for number, (title, pictures) in enumerate(columns):
        start = LEFT + PANEL * len(COLUMNS) * number
        text = {'ha': 'center', 'color': INK, 'fontsize': 9}
        centre = (start + 1.5 * PANEL) / width
        figure.text(centre, 1 - 0.15 / height, title, va='top', fontweight='bold', **text)
        for place, name in enumerate(COLUMNS):
            centre = (start + (place + 0.5) * PANEL) / width
            figure.text(centre, 1 - 0.48 / height, name, va='bottom', **text)
        _draw_unit(figure, rows, pictures, start, width, height)
    for place, row in enumerate(rows):
        middle = (height - TOP - (place + 0.5) * PANEL) / height
        figure.text(0.08 / width, middle, row_title(row), va='center', fontsize=9, color=INK)
    return save_png(figure, path)


def row_title(method: str) -> str:
    """Return the heading of a method.

    Examples
    --------
    >>> row_title('ours'), row_title('gradcam')
    ('ours', 'Grad-CAM')
    """
    return method_title(method) if method in SALIENCY_METHODS else method


def _draw_unit(
    figure: Any, rows: Sequence[str], pictures: Pictures, start: float, width: float, height: float
) -> None:
    main = pictures.get('truth.map', pictures.get(f'{OURS}.map', pictures['image']))
    index = int(np.abs(main).sum(axis=(0, 1)).argmax())
    limit = max(0.02, float(np.abs(main).max()))
    for place, row in enumerate(rows):
        bottom = (height - TOP - (place + 1) * PANEL) / height
        for column, name in enumerate(('image', f'{row}.simulated', f'{row}.map')):
            if name not in pictures or (name == 'image' and row != 'truth'):
                continue
            shown = pictures[name][:, :, index].T
            box = ((start + (column + 0.02) * PANEL) / width, bottom)
            axes = figure.add_axes((*box, 0.96 * PANEL / width, 0.96 * PANEL / height))
            axes.set_axis_off()
            if not name.endswith('.map'):
                axes.imshow(shown, cmap='gray', origin='lower')
                continue
            is_change = row in ('truth', *SIMULATORS)
            reach = limit if is_change else float(np.abs(shown).max()) or 1.0
            colours = DIVERGING if is_change else SALIENCY_COLOURS
            axes.imshow(shown, cmap=colours, vmin=-reach, vmax=reach, origin='lower')
