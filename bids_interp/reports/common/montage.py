"""Montage: rows of brain slices in one compact picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.write.atomic import atomic
from bids_interp.reports.common.palette import GROWS, INK, SHRINKS, SignedScale
from bids_interp.reports.common.volumes import Volume

#: Width of a figure in inches and pixels per inch: 1500 pixels.
WIDTH = 10.0
DPI = 150
HEADING = 0.27
GAP = 3


@dataclass
class Tile:
    """One slice with text in its corner, marks at its sides and outlines.

    Parameters
    ----------
    picture : numpy.ndarray
        (rows, columns) or (rows, columns, 3) in 0..1, first row on top.
    text : str
        Text in the upper left corner.
    sides : tuple of str
        Marks at the left and right edge (``('L', 'R')``).
    outlines : list of (numpy.ndarray, float, str)
        Picture of the same size, contour level and colour.
    """

    picture: np.ndarray
    text: str = ''
    sides: tuple[str, str] = ('', '')
    outlines: list[tuple[np.ndarray, float, str]] = field(default_factory=list)


@dataclass
class Row:
    """Tiles of one size side by side, with a heading."""

    heading: str
    tiles: list[Tile]
    tile_headings: list[str] = field(default_factory=list)


def sides_of(plane: str) -> tuple[str, str]:
    """Return the marks at the left and right edge of a slice.

    >>> sides_of('axial'), sides_of('sagittal')
    (('L', 'R'), ('P', 'A'))
    """
    return ('P', 'A') if plane == 'sagittal' else ('L', 'R')


def overlaid_tile(
    background: Volume, colours: Volume, plane: str, index: int, scale: SignedScale
) -> Tile:
    """Return a slice of a map in colours over the brain, with its position.

    Parameters
    ----------
    background, colours : Volume
        Grey brain in 0..1, and the map on the same grid.
    plane, index
        Plane and number of the slice.
    scale : SignedScale
        Colours of the map.
    """
    picture = scale.over(background.cut(plane, index), colours.cut(plane, index))
    return Tile(picture, background.slice_label(plane, index), sides_of(plane))


def new_figure(width: float, height: float) -> Any:
    """Return a figure without a window and without global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor='white')
    FigureCanvasAgg(figure)
    return figure


def _strip(row: Row) -> tuple[np.ndarray, list[int]]:
    """Return the tiles of a row side by side, and the first column of each."""
    height = max(tile.picture.shape[0] for tile in row.tiles)
    columns: list[int] = []
    parts: list[np.ndarray] = []
    width = 0
    for tile in row.tiles:
        picture = tile.picture if tile.picture.ndim == 3 else tile.picture[..., None]
        gap = np.ones((height, GAP if parts else 0, 3), np.float32)
        padded = np.zeros((height, picture.shape[1], 3), np.float32)
        padded[: picture.shape[0]] = picture
        parts += [gap, padded]
        columns.append(width + gap.shape[1])
        width += gap.shape[1] + picture.shape[1]
    return np.concatenate(parts, axis=1), columns


def _draw_strip(axes: Any, row: Row, strip: np.ndarray, columns: list[int]) -> None:
    axes.imshow(strip, interpolation='bilinear', aspect='auto')
    axes.set_axis_off()
    from matplotlib.patheffects import withStroke

    shadow: dict[str, Any] = {'color': 'white', 'fontsize': 7, 'family': 'DejaVu Sans'}
    shadow['path_effects'] = [withStroke(linewidth=1.6, foreground='black')]
    for tile, left in zip(row.tiles, columns, strict=True):
        rows, width = tile.picture.shape[:2]
        axes.text(left + 3, 3, tile.text, va='top', ha='left', **shadow)
        for mark, column, align in zip(
            tile.sides, (left + 3, left + width - 4), ('left', 'right'), strict=True
        ):
            axes.text(column, rows - 4, mark, va='bottom', ha=align, **shadow)
        across, down = np.arange(width) + left, np.arange(rows)
        for picture, level, colour in tile.outlines:
            if picture.min() < level < picture.max():
                axes.contour(across, down, picture, [level], colors=[colour], linewidths=0.9)
    axes.set_xlim(-0.5, strip.shape[1] - 0.5)
    axes.set_ylim(strip.shape[0] - 0.5, -0.5)


def _colour_bar(figure: Any, scale: SignedScale, bottom: float, height: float) -> None:
    """Draw a bar with the logarithm below, the percentage above and the meaning of its ends."""
    axes = figure.add_axes((0.27, bottom + 0.40 * height, 0.46, 0.17 * height))
    limit = scale.limit
    axes.imshow(
        scale.rgb(np.linspace(-limit, limit, 256))[None],
        extent=(-limit, limit, 0, 1),
        aspect='auto',
    )
    axes.set_yticks([])
    axes.tick_params(labelsize=8, colors=INK)
    ticks = np.linspace(-limit, limit, 5)
    axes.set_xticks(ticks)
    axes.set_xticklabels([f'{tick:+.2f}' if tick else '0' for tick in ticks])
    axes.set_xlabel('log-Jacobian (natural logarithm of the volume ratio)', fontsize=8, color=INK)
    upper = axes.twiny()
    upper.set_xlim(-limit, limit)
    upper.set_xticks(ticks)
    shares = 100 * np.expm1(ticks)
    upper.set_xticklabels([f'{share:+.0f} %' if abs(share) > 1e-9 else '0 %' for share in shares])
    upper.tick_params(labelsize=8, colors=INK)
    upper.set_xlabel('volume change', fontsize=8, color=INK)
    middle = bottom + 0.48 * height
    style = {'va': 'center', 'fontsize': 11, 'fontweight': 'bold'}
    figure.text(0.255, middle, '◀ shrinks', ha='right', color=SHRINKS, **style)
    figure.text(0.745, middle, 'grows ▶', ha='left', color=GROWS, **style)


def draw_rows(rows: list[Row], path: Path, scale: SignedScale | None = None) -> Path:
    """Draw rows of slices below one another and write a PNG file.

    Parameters
    ----------
    rows : list of Row
        Rows from top to bottom; every row is as wide as the figure.
    path : pathlib.Path
        Output file.
    scale : SignedScale, optional
        Scale of a colour bar below the rows.

    Returns
    -------
    pathlib.Path
        ``path``.
    """
    strips = [_strip(row) for row in rows]
    heights = [WIDTH * strip.shape[0] / strip.shape[1] for strip, _ in strips]
    headings = [HEADING if row.heading or row.tile_headings else 0.05 for row in rows]
    bar = 1.15 if scale else 0.0
    total = sum(heights) + sum(headings) + bar
    figure = new_figure(WIDTH, total)
    top = total
    for row, (strip, columns), height, heading in zip(rows, strips, heights, headings, strict=True):
        top -= heading
        text = {'fontsize': 9.5, 'color': INK, 'va': 'bottom', 'fontweight': 'bold'}
        figure.text(0.001, (top + 0.05) / total, row.heading, ha='left', **text)
        for heading_text, left, tile in zip(row.tile_headings, columns, row.tiles, strict=False):
            centre = (left + tile.picture.shape[1] / 2) / strip.shape[1]
            figure.text(centre, (top + 0.05) / total, heading_text, ha='center', **text)
        top -= height
        axes = figure.add_axes((0, top / total, 1, height / total))
        _draw_strip(axes, row, strip, columns)
    if scale:
        _colour_bar(figure, scale, 0.0, bar / total)
    return save_png(figure, path)


def save_png(figure: Any, path: Path) -> Path:
    """Write a figure as a PNG file, atomically."""
    memory = io.BytesIO()
    figure.savefig(memory, format='png', dpi=DPI, pil_kwargs={'compress_level': 4})
    return write_bytes(path, memory.getvalue())


def save_svg(figure: Any, path: Path) -> Path:
    """Write a figure as a reproducible SVG file without fonts."""
    import matplotlib

    memory = io.BytesIO()
    with matplotlib.rc_context({'svg.fonttype': 'path', 'svg.hashsalt': path.name}):
        figure.savefig(memory, format='svg', metadata={'Date': None})
    return write_bytes(path, memory.getvalue())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
