"""Dose player: a slider through the doses, because motion makes small changes visible."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import write_bytes
from bids_interp.reports.common.volumes import PLANES, Volume
from bids_interp.reports.scan.change_figures import Changes, grey_window
from bids_interp.reports.scan.grid_figure import Movement, field_kind, load_field

STEPS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
#: Height of a frame in pixels and radius of the ring in mm.
HEIGHT = 330
RING = 17.0


def _backward_movements(files: ScanFiles) -> dict[float, Movement | None]:
    """Pull-back displacement for every step whose field exists."""
    import torch

    from bids_interp.spatial import pull_back

    movements: dict[float, Movement | None] = {0.0: None}
    for direction, sign in zip(DIRECTIONS, (1, -1), strict=True):
        path = files.field(direction)
        if path is None:
            continue
        data, grid = load_field(path)
        doses = [abs(step) for step in STEPS if step * sign > 0]
        fields = torch.from_numpy(data.copy())[None]
        with torch.inference_mode():
            for dose in doses:
                moved = pull_back(dose * fields, grid, field_kind(path))[0].numpy()
                movements[sign * dose] = Movement(np.moveaxis(moved, 0, -1), grid)
    return dict(sorted(movements.items()))


def _slice_at(volume: Volume, plane: str, index: int, movement: Movement | None) -> np.ndarray:
    """One slice of the moved brain, interpolated once."""
    if movement is None:
        return volume.cut(plane, index)
    from scipy.ndimage import map_coordinates

    sizes = [range(size) for size in volume.grid.shape]
    sizes[PLANES[plane]] = range(index, index + 1)
    voxels = np.stack(np.meshgrid(*sizes, indexing='ij')).reshape(3, -1).astype(np.float64)
    affine, inverse = volume.grid.affine, np.linalg.inv(movement.grid.affine)
    world = affine[:3, :3] @ voxels + affine[:3, 3:]
    positions = inverse[:3, :3] @ world + inverse[:3, 3:]
    for axis in range(3):
        field = movement.field[..., axis]
        world[axis] += map_coordinates(field, positions, order=1, mode='nearest')
    back = np.linalg.inv(affine)
    values = map_coordinates(volume.data, back[:3, :3] @ world + back[:3, 3:], order=1)
    across, up = (axis for axis in range(3) if axis != PLANES[plane])
    return np.flipud(values.reshape(volume.grid.shape[across], volume.grid.shape[up]).T)


def _frame(changes: Changes, movement: Movement | None, window: tuple[float, float]) -> bytes:
    """Three planes through the strongest change, side by side, as a WebP picture."""
    from PIL import Image, ImageDraw

    low, high = window
    peak_voxel = changes.peak
    pictures = []
    for plane in ('coronal', 'axial', 'sagittal'):
        axis = PLANES[plane]
        values = _slice_at(changes.brain, plane, peak_voxel[axis], movement)
        grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        picture = Image.fromarray((255 * grey).astype(np.uint8))
        zoom = HEIGHT / picture.height
        size = (round(picture.width * zoom), HEIGHT)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        across, up = (other for other in range(3) if other != axis)
        column = zoom * (peak_voxel[across] + 0.5)
        row = HEIGHT - zoom * (peak_voxel[up] + 0.5)
        radius = zoom * RING / float(changes.brain.grid.spacing[0])
        colour = picture.convert('RGB')
        box = (column - radius, row - radius, column + radius, row + radius)
        ImageDraw.Draw(colour).ellipse(box, outline=(240, 228, 66), width=1)
        pictures.append(colour)
    canvas = Image.new('RGB', (sum(picture.width for picture in pictures), HEIGHT))
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width
    memory = io.BytesIO()
    canvas.save(memory, 'WEBP', quality=78, method=4)
    return memory.getvalue()


def _step_label(step: float) -> str:
    if step == 0:
        return 'as scanned'
    return f'{"injected" if step > 0 else "removed"}, dose {abs(step):g}'


def draw_player(files: ScanFiles, changes: Changes) -> Path | None:
    """Write the slider as a piece of HTML that contains its pictures."""
    brain = files.shown_brain
    if brain is None or '_space-' not in brain.name:
        return None
    movements = _backward_movements(files)
    if len(movements) < 2:
        return None
    window = grey_window(changes)
    parts = []
    for step, movement in movements.items():
        content = base64.b64encode(_frame(changes, movement, window)).decode()
        state = ' class="shown"' if step == 0 else ''
        parts.append(
            f'<img{state} data-label="{_step_label(step)}" alt="Brain, {_step_label(step)}" '
            f'src="data:image/webp;base64,{content}">'
        )
    middle = list(movements).index(0.0)
    html = (
        f'<div class="player" data-scan="{files.prefix}"><div class="frames">'
        + ''.join(parts)
        + '</div><div class="controls"><button type="button">Play</button>'
        + '<output>as scanned</output><span>removed</span>'
        + '<input type="range" aria-label="dose" min="0" '
        + f'max="{len(parts) - 1}" value="{middle}"><span>injected</span>'
        + '</div></div>\n'
    )
    return write_bytes(files.figure('player', '.html'), html.encode())
