"""Figure of the warped grid: a regular grid on the brain, deformed by the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import new_figure, save_png
from bids_interp.reports.common.palette import DIRECTION_COLOURS, INK
from bids_interp.reports.common.volumes import PLANES, Volume, grey
from bids_interp.reports.scan.change_figures import Changes
from bids_interp.spatial.grid import Grid

#: Distance of the grid lines in mm.
LINE_SPACING = 6.0
#: Largest length of a drawn displacement in mm, and the factors by which it may be magnified.
LONGEST = 7.0
FACTORS = (1, 2, 3, 5, 10, 20)
TITLES = {'inject': 'Pattern injected', 'remove': 'Pattern removed'}


@dataclass(frozen=True, eq=False)
class Movement:
    """Displacement of the tissue in mm along world axes, (X, Y, Z, 3), on a grid."""

    field: np.ndarray
    grid: Grid

    @property
    def largest(self) -> float:
        """Largest displacement in mm."""
        return float(np.sqrt((self.field**2).sum(-1)).max())


def load_field(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a five-dimensional vector image, (3, X, Y, Z) in mm along world axes."""
    image = nib.load(path)
    data = np.asarray(image.get_fdata(dtype=np.float32))
    vectors = data.reshape(*data.shape[:3], 3)
    return np.moveaxis(vectors, -1, 0), Grid.from_image(image)


def field_kind(path: Path) -> str:
    """Return the kind of a field from its file name: ``'velocity'`` or ``'displacement'``."""
    return 'displacement' if '_displacement.' in path.name else 'velocity'


def load_movement(path: Path, dose: float) -> Movement:
    """Return the forward map of a simulator's field at a dose."""
    import torch

    from bids_interp.spatial import forward_map

    data, grid = load_field(path)
    with torch.inference_mode():
        field = dose * torch.from_numpy(data.copy())[None]
        moved = forward_map(field, grid, field_kind(path))[0].numpy()
    return Movement(np.moveaxis(moved, 0, -1), grid)


def drawn_factor(largest: float) -> int:
    """Return the factor by which displacements are magnified in the drawing.

    >>> drawn_factor(0.9), drawn_factor(30.0)
    (5, 1)
    """
    return max((factor for factor in FACTORS if factor * largest <= LONGEST), default=1)


def _plane_lines(
    movement: Movement, changes: Changes, plane: str, index: int, factor: float
) -> list[np.ndarray]:
    """Deformed grid lines of a slice, each (points, 2) in mm; NaN outside the brain."""
    from scipy.ndimage import map_coordinates

    volume = changes.brain
    near = changes.near
    back = np.linalg.inv(volume.grid.affine)
    across, up = (axis for axis in range(3) if axis != PLANES[plane])
    low = volume.grid.affine[:3, 3]
    high = low + volume.grid.spacing * (np.array(volume.grid.shape) - 1)
    lines = []
    inverse = np.linalg.inv(movement.grid.affine)
    for fixed, running in ((across, up), (up, across)):
        along = np.arange(low[running], high[running] + 0.1, 1.5)
        for position in np.arange(low[fixed], high[fixed] + 0.1, LINE_SPACING):
            points = np.zeros((len(along), 3))
            points[:, running], points[:, fixed] = along, position
            points[:, PLANES[plane]] = volume.position(plane, index)
            voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
            own = np.round(points @ back[:3, :3].T + back[:3, 3]).astype(int)
            off = ~near[tuple(np.clip(own, 0, np.array(near.shape) - 1).T)]
            for axis in (across, up):
                field = movement.field[..., axis]
                moved = map_coordinates(field, voxels.T, order=1, mode='nearest')
                points[:, axis] += factor * moved
            points[off] = np.nan
            lines.append(points[:, (across, up)])
    return lines


def _draw_plane(
    axes: Any, movement: Movement, changes: Changes, plane: str, factor: float, colour: str
) -> None:
    from matplotlib.collections import LineCollection

    volume = changes.brain
    index = changes.peak[PLANES[plane]]
    across, up = (axis for axis in range(3) if axis != PLANES[plane])
    low = volume.grid.affine[:3, 3]
    high = low + volume.grid.spacing * (np.array(volume.grid.shape) - 1)
    # A pale brain on white makes the lines stand out.
    picture = np.where(changes.inside, 0.4 + 0.5 * grey(volume.data, changes.inside), 1.0)
    axes.imshow(
        Volume(picture, volume.grid).cut(plane, index),
        extent=(low[across], high[across], low[up], high[up]),
        cmap='gray',
        vmin=0,
        vmax=1,
    )
    lines = _plane_lines(movement, changes, plane, index, factor)
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.6))
    axes.set_xlim(low[across], high[across])
    axes.set_ylim(low[up], high[up])
    axes.set_axis_off()
    left, right = ('P', 'A') if plane == 'sagittal' else ('L', 'R')
    for mark, x in ((left, 0.01), (right, 0.97)):
        axes.text(x, 0.01, mark, transform=axes.transAxes, fontsize=7.5, color=INK)
    text = f'{volume.slice_label(plane, index)} mm'
    axes.text(0.01, 0.96, text, transform=axes.transAxes, fontsize=7.5, color=INK)


def draw_grid(files: ScanFiles, changes: Changes) -> Path | None:
    """Draw the deformed grid in three planes, one row per direction."""
    movements = {}
    for direction in DIRECTIONS:
        path = files.field(direction)
        if path is not None and direction in changes.doses:
            # The file holds dose 1 of this direction.
            movements[direction] = load_movement(path, changes.doses[direction] / 100)
    if not movements or files.shown_brain is None or '_space-' not in files.shown_brain.name:
        return None
    factor = drawn_factor(max(movement.largest for movement in movements.values()))
    spans = np.array(changes.brain.grid.shape) * changes.brain.grid.spacing
    widths = np.array([spans[0], spans[0], spans[1]])
    heights = np.array([spans[1], spans[2], spans[2]])
    width = 10.0
    row = width * heights.max() / widths.sum()
    total = len(movements) * (row + 0.3)
    figure = new_figure(width, total)
    for number, (direction, movement) in enumerate(movements.items()):
        top = total - number * (row + 0.3)
        title = f'{TITLES[direction]}: tissue moves by up to {movement.largest:.1f} mm'
        title += f' (magnified {factor} times)' if factor > 1 else ''
        style = {'fontsize': 9.5, 'fontweight': 'bold', 'color': INK, 'va': 'top'}
        figure.text(0.002, (top - 0.06) / total, title, **style)
        left = 0.0
        for plane, share in zip(('axial', 'coronal', 'sagittal'), widths, strict=True):
            box = (left, (top - row - 0.3) / total, share / widths.sum(), row / total)
            axes = figure.add_axes(box)
            _draw_plane(axes, movement, changes, plane, factor, DIRECTION_COLOURS[direction])
            left += share / widths.sum()
    return save_png(figure, files.figure('grid', '.png'))
