"""One pass over the maps of one direction and dose: voxels and regions at the same time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.evaluation.stability import sign_agreement
from bids_interp.group.maps.map_reader import Places, has_map, read_map
from bids_interp.group.maps.named_regions import Regions
from bids_interp.group.maps.stream import Running, merged
from bids_interp.group.scans import Scan

logger = logging.getLogger('bids_interp')


@dataclass
class Described:
    """Summary of the maps of one direction and dose.

    Parameters
    ----------
    name : str
        Direction and dose: ``'inject100'``.
    groups : dict
        Group to its :class:`bids_interp.group.maps.stream.Running`; ``''`` is everybody.
    agreement : numpy.ndarray, optional
        (V,) share of the folds with the sign of their mean; None where only one set of folds
        explains everybody, so that the maps do not tell them apart.
    images : list of str
        Prefixes of the images whose maps entered, in order.
    without : list of str
        Prefixes of the images that have other maps, but not this one (another ``--dose``).
    failed : dict
        Prefix to what is wrong with its map.
    means, changes : numpy.ndarray
        (N, R) mean log-Jacobian and relative volume change of each image and region.
    """

    name: str
    groups: dict[str, Running]
    agreement: np.ndarray | None
    images: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    means: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    changes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def describe_maps(
    scans: Sequence[Scan],
    name: str,
    places: Places,
    regions: Regions,
    groups: Mapping[str, str],
) -> Described:
    """Read every map once and summarise it.

    Memory: five arrays for each group and one for each set of folds, whatever the number of
    images.

    Parameters
    ----------
    scans : sequence of Scan
        Images that are in.
    name : str
        Direction and dose.
    places : Places
        Grid and mask.
    regions : Regions
        Regions on it.
    groups : mapping
        Prefix to group; images without one count for everybody only.

    Raises
    ------
    ImageError
        If no map at all can be read.
    """
    size = int(places.inside.sum())
    running: dict[str, Running] = {}
    blocks: dict[str, tuple[int, np.ndarray]] = {}
    there = [scan for scan in scans if has_map(scan, name)]
    described = Described(name, {}, None)
    described.without = [scan.prefix for scan in scans if not has_map(scan, name)]
    means, changes = [], []
    for scan, values in _read_ahead(there, name, places):
        if isinstance(values, ImageError):
            logger.warning('%s', values.message)
            described.failed[scan.prefix] = values.message
            continue
        group = groups.get(scan.prefix, '')
        running.setdefault(group, Running(size)).add(values)
        n, total = blocks.get(scan.block, (0, np.zeros(size, np.float32)))
        total += values
        blocks[scan.block] = n + 1, total
        mean, change = regions.measure(values)
        means.append(mean)
        changes.append(change)
        described.images.append(scan.prefix)
    if not described.images:
        raise ImageError(f'No {name} map can be read: {next(iter(described.failed.values()), "")}')
    described.groups = {'': merged(running.values())}
    described.groups |= {group: part for group, part in sorted(running.items()) if group}
    if len(blocks) > 1:
        described.agreement = sign_agreement(np.stack([s / n for n, s in blocks.values()]))
    described.means, described.changes = np.array(means), np.array(changes)
    return described


def _read_ahead(
    scans: Sequence[Scan], name: str, places: Places
) -> Iterator[tuple[Scan, np.ndarray | ImageError]]:
    """Give the maps in order; the next one is read and decompressed in the meantime."""

    def read(scan: Scan) -> np.ndarray | ImageError:
        try:
            return read_map(scan, name, places)
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
