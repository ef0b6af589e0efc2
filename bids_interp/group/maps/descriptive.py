"""Descriptive summary of the maps of one direction and dose, computed in one pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.evaluation.personal_share import ROUNDING_SHARE, personal_share, typical_share
from bids_interp.evaluation.stability import sign_agreement
from bids_interp.group.maps.map_reader import MaskedGrid, has_map, own_mask, read_map
from bids_interp.group.maps.named_regions import NamedRegions
from bids_interp.group.maps.stream import RunningStatistics, merge_statistics
from bids_interp.group.scans import GroupScan

logger = logging.getLogger('bids_interp')

#: Voxels, spread evenly over the brain, that the personal share is computed from. Maps are smooth.
SHARE_VOXELS = 20_000


@dataclass
class MapSummary:
    """Summary of the maps of one direction and dose.

    Parameters
    ----------
    name : str
        Direction and dose: ``'inject100'``.
    groups : dict
        Statistics of each group; ``''`` stands for all subjects.
    agreement : numpy.ndarray, optional
        (V,) share of the folds with the sign of their mean; None if the same folds explain all
        subjects.
    images : list of str
        Prefixes of the images whose maps were used, in order.
    without : list of str
        Prefixes of the images without this map (another ``--dose``).
    failed : dict
        Error messages by image prefix.
    means, changes : numpy.ndarray
        (N, R) mean log-Jacobian and relative volume change of each image and region.
    shares : numpy.ndarray
        (N,) personal share of each map, among the images that the same folds explain; NaN if
        unknown.
    """

    name: str
    groups: dict[str, RunningStatistics]
    agreement: np.ndarray | None
    images: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    changes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def share_of(self, groups: Mapping[str, str], group: str = '') -> float | None:
        """Return the median personal share of a group (``''``: all); None if it is unknown."""
        inside = [not group or groups.get(prefix) == group for prefix in self.images]
        return typical_share(self.shares[np.array(inside, bool)])

    def varies(self, groups: Mapping[str, str], group: str = '') -> bool:
        """Return whether the maps of a group differ between people by more than rounding."""
        share = self.share_of(groups, group)
        return share is not None and share >= ROUNDING_SHARE


def summarise_maps(
    scans: Sequence[GroupScan],
    name: str,
    masked: MaskedGrid,
    regions: NamedRegions,
    groups: Mapping[str, str],
) -> MapSummary:
    """Summarise the maps of one direction and dose.

    Memory: five arrays per group, one per set of folds, and :data:`SHARE_VOXELS` numbers per image.

    Parameters
    ----------
    scans : sequence of GroupScan
        Included images.
    name : str
        Direction and dose.
    masked : MaskedGrid
        Grid and mask of the maps.
    regions : NamedRegions
        Regions on this grid.
    groups : mapping
        Groups by image prefix; images without a group only count for all subjects.

    Raises
    ------
    ImageError
        If no map can be read.
    """
    size = int(masked.inside.sum())
    running: dict[str, RunningStatistics] = {}
    blocks: dict[str, tuple[int, np.ndarray]] = {}
    available = [scan for scan in scans if has_map(scan, name)]
    summary = MapSummary(name, {}, None)
    summary.without = [scan.prefix for scan in scans if not has_map(scan, name)]
    means, changes, thinned, of_image = [], [], [], []
    step = max(1, size // SHARE_VOXELS)
    # Maps are 0 outside the brain: where brains differ in size, common patterns seem to differ.
    shared = np.ones(len(range(0, size, step)), bool)
    for scan, values in _read_ahead(available, name, masked):
        if isinstance(values, ImageError):
            logger.warning('%s', values.message)
            summary.failed[scan.prefix] = values.message
            continue
        group = groups.get(scan.prefix, '')
        running.setdefault(group, RunningStatistics(size)).add(values)
        n, total = blocks.get(scan.block, (0, np.zeros(size, np.float32)))
        total += values
        blocks[scan.block] = n + 1, total
        mean, change = regions.measure(values)
        means.append(mean)
        changes.append(change)
        thinned.append(values[::step].copy())
        of_image.append(scan.block)
        own = own_mask(scan, masked.grid)
        if own is not None:
            shared &= own[masked.inside][::step]
        summary.images.append(scan.prefix)
    if not summary.images:
        raise ImageError(f'No {name} map can be read: {next(iter(summary.failed.values()), "")}')
    summary.groups = {'': merge_statistics(running.values())}
    summary.groups |= {group: part for group, part in sorted(running.items()) if group}
    if len(blocks) > 1:
        summary.agreement = sign_agreement(np.stack([s / n for n, s in blocks.values()]))
    summary.means, summary.changes = np.array(means), np.array(changes)
    summary.shares = personal_share(np.array(thinned)[:, shared], np.array(of_image))
    return summary


def _read_ahead(
    scans: Sequence[GroupScan], name: str, masked: MaskedGrid
) -> Iterator[tuple[GroupScan, np.ndarray | ImageError]]:
    """Yield the maps in order, reading the next one in the background."""

    def read(scan: GroupScan) -> np.ndarray | ImageError:
        try:
            return read_map(scan, name, masked)
        except ImageError as error:
            return error

    if not scans:
        return
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(read, scans[0])
        for index, scan in enumerate(scans):
            values = following.result()
            if index + 1 < len(scans):
                following = pool.submit(read, scans[index + 1])
            yield scan, values
