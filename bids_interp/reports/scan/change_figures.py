"""Change figures: log-Jacobian maps and simulated brains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.constants import DIRECTIONS
from bids_interp.reports.common.montage import Row, Tile, draw_rows, overlaid_tile, sides_of
from bids_interp.reports.common.palette import SignedScale
from bids_interp.reports.common.volumes import (
    DISPLAY_SPACING,
    PLANES,
    Volume,
    bounding_box,
    grey,
    load_like,
    load_mask,
    load_volume,
    peak,
    spread_slices,
)

MAP_COUNTS = {'axial': 8, 'coronal': 8, 'sagittal': 7}
TITLES = {'remove': 'Pattern removed', 'scan': 'As scanned', 'inject': 'Pattern injected'}
#: Half the size in mm of the close-up, and the colour of the outlines on it.
CLOSE_UP = 34.0
LINE = '#f0e442'


@dataclass(frozen=True, eq=False)
class Changes:
    """The brain and its maps on one grid, cropped to the brain.

    Parameters
    ----------
    brain : Volume
        Observed brain, 0 outside its mask.
    inside : numpy.ndarray
        Brain mask.
    maps : dict of str to numpy.ndarray
        Log-Jacobian by direction.
    doses : dict of str to int
        Dose in percent by direction.
    simulated : dict of str to numpy.ndarray
        Simulated brain by direction.
    """

    brain: Volume
    inside: np.ndarray
    maps: dict[str, np.ndarray]
    doses: dict[str, int]
    simulated: dict[str, np.ndarray]

    @cached_property
    def peak(self) -> tuple[int, int, int]:
        """Voxel with the strongest change over both directions."""
        together = sum(np.abs(values) for values in self.maps.values())
        return peak(np.asarray(together) * self.inside)

    @cached_property
    def near(self) -> np.ndarray:
        """Voxels of the brain and its close surroundings."""
        return binary_dilation(self.inside, iterations=3)

    @cached_property
    def scale(self) -> SignedScale:
        """Colour scale shared by both directions."""
        return SignedScale.fit(*(values[self.inside] for values in self.maps.values()))


def load_changes(files: ScanFiles) -> Changes | None:
    """Read the brain and the maps at the full dose; None if they are missing."""
    brain_path = files.shown_brain
    shown = {direction: files.full_dose(direction) for direction in DIRECTIONS}
    if brain_path is None or not any(shown.values()):
        return None
    native = '_space-' not in brain_path.name
    brain = load_volume(brain_path, DISPLAY_SPACING if native else None)
    inside = load_mask(files.mask_of(brain_path), brain)
    brain = Volume(np.where(inside, brain.data, 0), brain.grid)
    box = bounding_box(inside)
    maps, doses, simulated = {}, {}, {}
    for direction, found in shown.items():
        if found is None:
            continue
        doses[direction] = found[0]
        maps[direction] = load_like(found[1], brain).data[box]
        image = files.doses(direction, 'T1w').get(found[0])
        if image is not None:
            simulated[direction] = load_like(image, brain).data[box]
    return Changes(brain.crop(box), inside[box], maps, doses, simulated)


def draw_log_jacobian(files: ScanFiles, changes: Changes, direction: str) -> Path | None:
    """Draw one map over the brain, with a labelled colour bar."""
    if direction not in changes.maps:
        return None
    brain, scale, middle = changes.brain, changes.scale, changes.peak
    # A darker brain makes the colours visible.
    picture = 0.75 * grey(brain.data, changes.inside) * changes.inside
    values = Volume(changes.maps[direction] * changes.inside, brain.grid)
    background = Volume(picture, brain.grid)
    rows = []
    for plane, count in MAP_COUNTS.items():
        tiles = []
        for index in spread_slices(changes.inside, plane, count, middle[PLANES[plane]]):
            tiles.append(overlaid_tile(background, values, plane, index, scale))
        rows.append(Row('', tiles))
    return draw_rows(rows, files.figure(f'{direction}LogJacobian', '.png'), scale)


def grey_window(changes: Changes) -> tuple[float, float]:
    """Return one grey window for all pictures, so that only shapes differ between them."""
    reference = changes.brain.data[changes.inside]
    return 0.6 * float(np.percentile(reference, 0.5)), float(np.percentile(reference, 99.5))


def _close_up(changes: Changes, pictures: dict[str, np.ndarray]) -> list[Tile]:
    """Coronal details around the strongest change, with the outlines of the scan on each."""
    brain, peak_voxel = changes.brain, changes.peak
    reach = int(CLOSE_UP / float(brain.grid.spacing[0]))
    box = [slice(max(0, p - reach), p + reach + 1) for p in peak_voxel]
    box[1] = slice(peak_voxel[1], peak_voxel[1] + 1)
    grid = brain.grid
    scanned = Volume(pictures['scan'][tuple(box)], grid).cut('coronal', 0)
    outline = gaussian_filter(scanned, 0.6)
    # The median lies between grey and white matter, so its outline follows their border.
    level = float(np.median(pictures['scan'][changes.inside]))
    tiles = []
    for data in pictures.values():
        piece = Volume(data[tuple(box)], grid).cut('coronal', 0)
        tiles.append(Tile(piece, 'close-up', sides_of('coronal'), [(outline, level, LINE)]))
    return tiles


def draw_simulated(files: ScanFiles, changes: Changes) -> Path | None:
    """Draw the slice of the strongest change side by side: removed, as scanned, injected."""
    if not changes.simulated:
        return None
    low, high = grey_window(changes)
    volumes = {'remove': changes.simulated.get('remove'), 'scan': changes.brain.data}
    volumes['inject'] = changes.simulated.get('inject')
    pictures = {
        name: np.clip((data - low) / max(high - low, 1e-6), 0, 1)
        for name, data in volumes.items()
        if data is not None
    }
    index = changes.peak[PLANES['coronal']]
    text = f'{changes.brain.slice_label("coronal", index)} mm'
    whole = [
        Tile(Volume(data, changes.brain.grid).cut('coronal', index), text, sides_of('coronal'))
        for data in pictures.values()
    ]
    headings = [TITLES[name] for name in pictures]
    rows = [Row('', whole, headings), Row('', _close_up(changes, pictures))]
    return draw_rows(rows, files.figure('simulated', '.png'))
