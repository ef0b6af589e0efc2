"""Inclusion of the files of an image: which are used, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bids_interp.bids.write.atomic import Cell
from bids_interp.group.maps.map_reader import has_map
from bids_interp.group.scans import GroupScan

#: Files of the expression score, as the inclusion table names them.
ANATOMY, FIELD = 'anatomy', 'field'


def lost_maps(scan: GroupScan) -> list[str]:
    """Return the maps that the prediction of an image lists, but that do not exist.

    Images without any map in template space are summarised by their fields, so nothing is lost.
    """
    if scan.prediction is None or not scan.maps:
        return []
    return [name for name in scan.prediction.simulated if name not in scan.maps]


def file_cells(
    scan: GroupScan, scans: Sequence[GroupScan], summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Cell]:
    """Return the cells of the inclusion table that tell which files of an image are used.

    Parameters
    ----------
    scan : GroupScan
        Included image.
    scans : sequence of GroupScan
        All included images; what only others have is missing.
    summaries : sequence of mapping
        :class:`~bids_interp.group.maps.descriptive.MapSummary` of each direction and dose, as plain
        types.

    Returns
    -------
    dict
        ``included``, ``reason``, ``maps`` and ``missing``.
    """
    reasons = [scan.note] if scan.note else []
    unused = 0
    for summary in summaries:
        problem = summary['failed'].get(scan.prefix)
        if problem is None and not has_map(scan, summary['name']):
            problem = 'the image has no such map'
        if problem:
            unused += 1
            reasons.append(f'without {summary["name"]}: {problem}')
    others = {name for other in scans for name in _files(other)}
    missing = sorted((others | set(lost_maps(scan))) - _files(scan))
    used = [summary['name'] for summary in summaries if scan.prefix in summary['images']]
    return {
        'included': unused < len(summaries),
        'reason': '; '.join(reasons) or None,
        'maps': ' '.join(used) or None,
        'missing': ' '.join(missing) or None,
    }


def _files(scan: GroupScan) -> set[str]:
    found = set(scan.maps)
    if scan.anatomy is not None:
        found.add(ANATOMY)
    if scan.velocity is not None or scan.displacement is not None:
        found.add(FIELD)
    return found
