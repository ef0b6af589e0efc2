"""Tables of the regions: one wide row per subject, and one row per region and group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from bids_interp.bids.read.scan_files import sidecar
from bids_interp.bids.write.sidecars import Column
from bids_interp.group.maps.descriptive import Described
from bids_interp.group.maps.map_reader import Places
from bids_interp.group.maps.named_regions import Regions
from bids_interp.group.scans import Scan

#: Draws of random regions.
DRAWS = 1000
#: Random regions are drawn on a grid of about this voxel size in mm; finer changes little.
NULL_SPACING = 4.0


def native_scale(scan: Scan) -> float | None:
    """Native volume over template volume of a subject: ``|det|`` of the affine between them."""
    path = scan.folder / f'{scan.prefix}_from-{scan.space}_to-T1w_mode-image_xfm.txt'
    value = (sidecar(path).get('Registration') or {}).get('determinant')
    return 1 / abs(float(value)) if value else None


def region_label(name: tuple[str, str]) -> str:
    """Region and side as part of a column's name.

    Examples
    --------
    >>> region_label(('Brain Stem', 'midline')), region_label(('amygdala', 'left'))
    ('brain_stem', 'amygdala_left')
    """
    region, side = name
    words = ''.join(c if c.isalnum() else '_' for c in region.lower()).strip('_')
    return words if side == 'midline' else f'{words}_{side}'


def wide_rows(
    described: Sequence[Described],
    scans: Mapping[str, Scan],
    regions: Regions,
    extra: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """One row per image: ``<direction and dose>_<region>_<logj|pct|mm3>``.

    Parameters
    ----------
    described : sequence of Described
        All directions and doses.
    scans : mapping
        Prefix to scan.
    regions : Regions
        The regions.
    extra : mapping
        Prefix to further columns, such as group and covariates.
    """
    rows: dict[str, dict[str, Any]] = {}
    for one in described:
        for index, prefix in enumerate(one.images):
            scan = scans[prefix]
            first = {
                'participant_id': f'sub-{scan.subject}',
                'session_id': f'ses-{scan.session}' if scan.session else None,
                'image': prefix,
                **extra.get(prefix, {}),
            }
            row = rows.setdefault(prefix, first)
            scale = native_scale(scan)
            for region, mean, change, size in zip(
                regions.names, one.means[index], one.changes[index], regions.sizes, strict=True
            ):
                stem = f'{one.name}_{region_label(region)}'
                row[f'{stem}_logj'] = mean
                row[f'{stem}_pct'] = 100 * change
                volume = size * regions.voxel_mm3 * scale if scale else None
                row[f'{stem}_mm3'] = None if volume is None else change * volume
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [{column: row.get(column) for column in columns} for row in rows.values()]


def group_rows(
    described: Described,
    scans: Mapping[str, Scan],
    places: Places,
    regions: Regions,
    groups: Mapping[str, str],
    seed: int,
) -> list[dict[str, Any]]:
    """One row per group, region and side of one direction and dose.

    Intervals are those of Student's t: mean and standard error over subjects. They say how much
    the mean depends on who is in the sample, given these models; what other models would say is in
    ``fold_low`` and ``fold_high``, the least and the largest mean of a set of folds.

    ``null_percentile`` is the share of compact regions of the same size, placed at random in the
    brain, whose mean is nearer to zero. It says how much a region stands out of its map. It is no
    p-value.
    """
    if not regions.names:
        return []
    images = described.images
    of_image = np.array([groups.get(prefix, '') for prefix in images])
    blocks = np.array([scans[prefix].block for prefix in images])
    volumes = np.array([native_scale(scans[prefix]) or np.nan for prefix in images])
    volumes = volumes[:, None] * regions.sizes * regions.voxel_mm3
    rng = np.random.default_rng(seed)
    rows = []
    for group, running in described.groups.items():
        inside = np.flatnonzero(of_image == group) if group else np.arange(len(images))
        percentiles = null_percentiles(
            places, running.mean, regions, described.means[inside].mean(0), rng
        )
        facts = {
            'logj': described.means[inside],
            'pct': 100 * described.changes[inside],
            'mm3': described.changes[inside] * volumes[inside],
        }
        intervals = {key: _interval(values) for key, values in facts.items()}
        folds = np.stack(
            [facts['logj'][blocks[inside] == b].mean(0) for b in np.unique(blocks[inside])]
        )
        table = [
            {
                'map': described.name,
                'group': group or 'all',
                'n': len(inside),
                'region': region,
                'side': side,
                **{
                    f'{key}{end}': found[place]
                    for key, bounds in intervals.items()
                    for end, found in zip(('', '_low', '_high'), bounds, strict=True)
                },
                'logj_sd': facts['logj'][:, place].std(ddof=1) if len(inside) > 1 else None,
                'fold_low': folds[:, place].min() if len(folds) > 1 else None,
                'fold_high': folds[:, place].max() if len(folds) > 1 else None,
                'null_percentile': percentiles[place],
            }
            for place, (region, side) in enumerate(regions.names)
        ]
        rows += _with_rank(_with_laterality(table))
    return rows


def _interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (R,) of values (N, R) and its 95 % interval.

    That of Student's t: percentiles of redrawn means are far too narrow for small groups.
    """
    mean, n = values.mean(axis=0), len(values)
    if n < 3:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def _with_laterality(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add (left - right) / (|left| + |right|) of the percentages of both sides."""
    change = {(row['region'], row['side']): row['pct'] for row in table}
    for row in table:
        left, right = (change.get((row['region'], side)) for side in ('left', 'right'))
        row['laterality'] = None
        if row['side'] != 'midline' and left is not None and right is not None:
            total = abs(left) + abs(right)
            row['laterality'] = (left - right) / total if total > 0 else None
    return table


def _with_rank(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the place of a region by the size of its mean change, 1 the largest."""
    order = sorted(range(len(table)), key=lambda place: -abs(table[place]['logj']))
    for rank, place in enumerate(order, 1):
        table[place]['rank'] = rank
    return table


def null_percentiles(
    places: Places,
    mean: np.ndarray,
    regions: Regions,
    observed: np.ndarray,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> np.ndarray:
    """Percentile of each region among compact regions of its size anywhere in the brain.

    Parameters
    ----------
    places : Places
        Grid and mask.
    mean : numpy.ndarray
        (V,) mean map.
    regions : Regions
        The regions; only their sizes matter here.
    observed : numpy.ndarray
        (R,) their means.
    rng : numpy.random.Generator
        Where the random regions lie.
    draws : int
        Random regions: the voxels nearest to a random voxel of the brain.

    Returns
    -------
    numpy.ndarray
        (R,) in 0..100.
    """
    steps = np.maximum(1, np.round(NULL_SPACING / places.grid.spacing)).astype(int)
    coarse = np.zeros(places.grid.shape, bool)
    coarse[tuple(slice(step // 2, None, step) for step in steps)] = True
    kept = coarse[places.inside]
    voxels = np.argwhere(places.inside & coarse)
    points, values = voxels * places.grid.spacing, mean[kept]
    if len(points) < 2:
        return np.full(len(observed), np.nan)
    tree = cKDTree(points)
    centres = points[rng.integers(len(points), size=draws)]
    sizes = np.clip(np.round(regions.sizes / steps.prod()).astype(int), 1, len(points))
    _, order = tree.query(centres, k=int(sizes.max()))
    sums = np.cumsum(values[order.reshape(draws, -1)], axis=1)
    found = [
        100 * float((np.abs(sums[:, size - 1] / size) < abs(value)).mean())
        for size, value in zip(sizes, observed, strict=True)
    ]
    return np.array(found)


_WORDS = {
    'logj': ('Mean log-Jacobian', '1'),
    'pct': ('Mean volume change', 'percent'),
    'mm3': ("Mean volume change on the subjects' own scale", 'mm^3'),
}

#: Data dictionary of the table of the groups.
GROUP_COLUMNS: dict[str, Column] = {
    'map': {'Description': 'Direction and dose in percent.'},
    'group': {'Description': 'Group; "all" is everybody.'},
    'n': {'Description': 'Subjects.'},
    'region': {'Description': 'Region.'},
    'side': {'Description': 'left, right or midline.'},
    **{
        f'{key}{end}': {'Description': f'{words}{more}', 'Units': units}
        for key, (words, units) in _WORDS.items()
        for end, more in (
            ('', ' of the region.'),
            ('_low', ', lower end of its 95 % interval over subjects (t).'),
            ('_high', ', upper end of its 95 % interval over subjects (t).'),
        )
    },
    'logj_sd': {'Description': 'Standard deviation of the log-Jacobian between subjects.'},
    'fold_low': {'Description': 'Least mean log-Jacobian of one set of folds.', 'Units': '1'},
    'fold_high': {'Description': 'Largest mean log-Jacobian of one set of folds.', 'Units': '1'},
    'null_percentile': {
        'Description': 'Share of compact regions of the same size, placed at random in the brain, '
        'whose mean is nearer to zero. How much the region stands out of this map; no p-value.',
        'Units': 'percent',
    },
    'laterality': {'Description': '(left - right) / (|left| + |right|) of the percentages.'},
    'rank': {'Description': 'Place by the size of the mean log-Jacobian, 1 the largest.'},
}


def wide_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Data dictionary of the table of the subjects."""
    content: dict[str, Column] = {}
    for column in rows[0] if rows else ():
        words, units = _WORDS.get(column.rsplit('_', 1)[-1], ('', ''))
        content[column] = {'Description': f'{words} of a region.', 'Units': units}
        if not words:
            content[column] = {'Description': f'{column} of the image, as in its tables.'}
    return content
