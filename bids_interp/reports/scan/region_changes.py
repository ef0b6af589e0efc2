"""Region changes: volume changes of named regions, of an atlas or from the map in the template."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bids_interp.bids.read.scan_files import (
    BRAIN,
    REGION_COLUMNS,
    ScanFiles,
    load_table,
    parse_number,
    read_table,
)
from bids_interp.constants import DIRECTIONS
from bids_interp.phantom.regions.coarse import shown_masks
from bids_interp.reports.common.montage import write_bytes
from bids_interp.reports.common.volumes import Volume, load_like, load_volume
from bids_interp.reports.scan.grid_figure import field_kind, load_field
from bids_interp.spatial.grid import Grid

LABELS = {
    'parahippocampal': 'parahippocampal cortex',
    'ventricles': 'lateral ventricle',
    'third_ventricle': 'third ventricle',
    'fourth_ventricle': 'fourth ventricle',
}
#: Smallest volume change in percent that the summary lists.
NOTABLE = 1.0


@dataclass(frozen=True)
class RegionChange:
    """Mean log-Jacobian and volume change of one region on one side for one direction."""

    region: str
    side: str
    direction: str
    mean_log_jacobian: float
    volume_change_percent: float

    @property
    def label(self) -> str:
        """Name for readers.

        >>> RegionChange('ventricles', 'left', 'inject', 0.1, 10.5).label
        'left lateral ventricle'
        """
        name = LABELS.get(self.region, self.region.replace('_', ' '))
        return name if self.side == 'midline' else f'{self.side} {name}'


def template_map(files: ScanFiles, direction: str) -> tuple[np.ndarray, Grid] | None:
    """Log-Jacobian at the full dose in template space; from the field if there is no map."""
    found = files.full_dose(direction)
    if found is not None and '_space-' in found[1].name:
        volume = load_volume(found[1])
        # Every second voxel is enough for a mean over a region.
        step = max(1, round(2.0 / float(volume.grid.spacing.min())))
        affine = volume.grid.affine @ np.diag([step, step, step, 1])
        data = volume.data[::step, ::step, ::step]
        return data, Grid(data.shape, affine, volume.grid.space)
    path = files.field(direction)
    if path is None:
        return None
    import torch

    from bids_interp.spatial import forward_map, log_jacobian

    data, grid = load_field(path)
    with torch.inference_mode():
        field = forward_map(torch.from_numpy(data.copy())[None], grid, field_kind(path))
        return log_jacobian(field, grid)[0, 0].numpy(), grid


def measure_regions(files: ScanFiles) -> list[RegionChange]:
    """Return the volume change of every region in both directions.

    With ``--atlas``, these are the regions of the table that the participant level wrote.

    Otherwise they are coarse regions, and their volume change is the mean of exp(log-Jacobian) - 1
    over the voxels of the region inside the brain mask: the relative change of its volume under the
    forward map.

    Returns
    -------
    list of RegionChange
        Empty without a map in an MNI space.
    """
    table = files.regions
    if table is not None:
        return _of_atlas(load_table(table, REGION_COLUMNS))
    if not files.template_name.startswith('MNI'):
        return []
    changes = []
    masks: dict[str, np.ndarray] = {}
    for direction in DIRECTIONS:
        found = template_map(files, direction)
        if found is None:
            continue
        data, grid = found
        if not masks or next(iter(masks.values())).shape != grid.shape:
            inside = _inside(files, grid)
            masks = {name: mask & inside for name, mask in shown_masks(grid).items()}
        for name, mask in masks.items():
            values = data[mask]
            if values.size == 0:
                continue
            region, _, side = name.partition(':')
            change = 100 * float(np.expm1(values).mean())
            changes.append(RegionChange(region, side, direction, float(values.mean()), change))
    return changes


def _of_atlas(rows: list[dict[str, str]]) -> list[RegionChange]:
    """Return the changes of the dose nearest to 1."""
    doses = {number for row in rows if (number := parse_number(row['dose'])) is not None}
    shown = min(doses, key=lambda dose: abs(dose - 1), default=None)
    changes = []
    for row in rows:
        mean, change = parse_number(row['logj']), parse_number(row['pct'])
        if parse_number(row['dose']) == shown and mean is not None and change is not None:
            names = (row['region'], row['side'], row['direction'])
            changes.append(RegionChange(*names, mean, change))
    return changes


def _inside(files: ScanFiles, grid: Grid) -> np.ndarray:
    """Return the brain mask of the scan on a grid in template space; all voxels without a mask."""
    brain = files.template(BRAIN)
    mask = files.mask_of(brain) if brain else None
    if mask is None:
        return np.ones(grid.shape, bool)
    return load_like(mask, Volume(np.zeros(grid.shape), grid), 'nearest').data > 0.5


def regions_path(files: ScanFiles) -> Path:
    """Return the path of the table of regions, in the folder of the figures."""
    return files.figures / f'{files.prefix}_desc-regions_stats.tsv'


def write_regions(files: ScanFiles, changes: list[RegionChange]) -> Path | None:
    """Write the table of the regions."""
    if not changes:
        return None
    columns = list(asdict(changes[0]))
    lines = ['\t'.join(columns)]
    for change in changes:
        values = asdict(change).values()
        lines.append(
            '\t'.join(f'{value:.6g}' if isinstance(value, float) else value for value in values)
        )
    return write_bytes(regions_path(files), ('\n'.join(lines) + '\n').encode())


def read_regions(files: ScanFiles) -> list[RegionChange]:
    """Read the table of the regions."""
    changes = []
    for row in read_table(regions_path(files)):
        mean, change = (
            parse_number(row['mean_log_jacobian']),
            parse_number(row['volume_change_percent']),
        )
        if mean is not None and change is not None:
            names = (row['region'], row['side'], row['direction'])
            changes.append(RegionChange(*names, mean, change))
    return changes


def strongest(
    changes: list[RegionChange], direction: str, count: int = 3
) -> tuple[list[RegionChange], list[RegionChange]]:
    """Return the regions that shrink most and grow most, above :data:`NOTABLE`, strongest first."""
    own = [change for change in changes if change.direction == direction]
    own.sort(key=lambda change: change.volume_change_percent)
    shrinking = [change for change in own if change.volume_change_percent <= -NOTABLE]
    growing = [change for change in own[::-1] if change.volume_change_percent >= NOTABLE]
    return shrinking[:count], growing[:count]
