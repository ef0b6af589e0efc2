"""Region tables: one wide row per subject, and one row per region and group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from bids_interp.bids.read.scan_files import read_sidecar
from bids_interp.bids.write.atomic import Cell
from bids_interp.bids.write.sidecars import Column
from bids_interp.group.maps.descriptive import MapSummary
from bids_interp.group.maps.map_reader import MaskedGrid
from bids_interp.group.maps.named_regions import NamedRegions
from bids_interp.group.scans import GroupScan

#: Number of random regions.
DRAWS = 1000
#: Approximate voxel size in mm for random regions; a finer grid makes little difference.
NULL_SPACING = 4.0
#: Column of the personal share.
SHARE = 'personal_share'
#: Description of the personal share.
SHARE_TEXT = (
    'norm(map - mean over people explained by the same folds) / norm(map): 0 if the map is the '
    'same for everybody. Below 0.05 it is the common pattern of the model; below 0.01 people do '
    'not differ by more than rounding.'
)


def native_scale(scan: GroupScan) -> float | None:
    """Return the ratio of native to template volume: ``|det|`` of the affine between them."""
    path = scan.folder / f'{scan.prefix}_from-{scan.space}_to-T1w_mode-image_xfm.txt'
    value = (read_sidecar(path).get('Registration') or {}).get('determinant')
    return 1 / abs(float(value)) if value else None


def region_label(name: tuple[str, str]) -> str:
    """Return region and side as part of a column name.

    Examples
    --------
    >>> region_label(('Brain Stem', 'midline')), region_label(('amygdala', 'left'))
    ('brain_stem', 'amygdala_left')
    """
    region, side = name
    label = ''.join(c if c.isalnum() else '_' for c in region.lower()).strip('_')
    return label if side == 'midline' else f'{label}_{side}'


def wide_rows(
    summaries: Sequence[MapSummary],
    scans: Mapping[str, GroupScan],
    regions: NamedRegions,
    extra: Mapping[str, Mapping[str, Cell]],
) -> list[dict[str, Cell]]:
    """Return one row per image: ``<direction and dose>_<region>_<logj|pct|mm3>``.

    Parameters
    ----------
    summaries : sequence of MapSummary
        Summaries of all directions and doses.
    scans : mapping
        Scans by prefix.
    regions : NamedRegions
        Regions.
    extra : mapping
        Additional columns by prefix, such as group and covariates.
    """
    rows: dict[str, dict[str, Cell]] = {}
    for summary in summaries:
        for index, prefix in enumerate(summary.images):
            scan = scans[prefix]
            row = rows.setdefault(prefix, {**scan.identity, **extra.get(prefix, {})})
            row[f'{summary.name}_{SHARE}'] = float(summary.shares[index])
            scale = native_scale(scan)
            for region, mean, change, size in zip(
                regions.names,
                summary.means[index],
                summary.changes[index],
                regions.sizes,
                strict=True,
            ):
                stem = f'{summary.name}_{region_label(region)}'
                row[f'{stem}_logj'] = mean
                row[f'{stem}_pct'] = 100 * change
                volume = size * regions.voxel_mm3 * scale if scale else None
                row[f'{stem}_mm3'] = None if volume is None else change * volume
            row |= _remeasured(scan, summary.name)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return [{column: row.get(column) for column in columns} for row in rows.values()]


def _remeasured(scan: GroupScan, name: str) -> dict[str, Cell]:
    """Return the agreement of re-measured changes with a map, if it was measured."""
    measured = scan.prediction.remeasured if scan.prediction else None
    if not measured or name not in measured:
        return {}
    facts = measured[name]
    return {f'{name}_remeasured_slope': facts.slope, f'{name}_remeasured_r': facts.r}


def group_rows(
    summary: MapSummary,
    scans: Mapping[str, GroupScan],
    masked: MaskedGrid,
    regions: NamedRegions,
    groups: Mapping[str, str],
    seed: int,
    family_of: Callable[[str], str] = str,
) -> list[dict[str, Any]]:
    """Return one row per group, region and side of one direction and dose.

    Intervals are based on Student's t over subjects. They show how much the mean depends on the
    sample, given these models. The variation between models is in ``fold_low`` and ``fold_high``,
    the smallest and the largest mean over sets of folds. Intervals and standard deviations are
    None if the maps do not differ between people by more than rounding.

    ``null_percentile`` is the share of compact regions of the same size, placed at random in the
    brain, whose mean is closer to zero. It shows how much a region stands out from its map. It is
    not a p-value.
    """
    if not regions.names:
        return []
    images = summary.images
    of_image = np.array([groups.get(prefix, '') for prefix in images])
    blocks = np.array([scans[prefix].block for prefix in images])
    families = np.array([family_of(scans[prefix].subject) for prefix in images])
    volumes = np.array([native_scale(scans[prefix]) or np.nan for prefix in images])
    volumes = volumes[:, None] * regions.sizes * regions.voxel_mm3
    rng = np.random.default_rng(seed)
    rows = []
    for group, running in summary.groups.items():
        inside = np.flatnonzero(of_image == group) if group else np.arange(len(images))
        percentiles = null_percentiles(
            masked, running.mean, regions, summary.means[inside].mean(0), rng
        )
        facts = {
            'logj': summary.means[inside],
            'pct': 100 * summary.changes[inside],
            'mm3': summary.changes[inside] * volumes[inside],
        }
        varies = summary.varies(groups, group)
        kinds = blocks[inside], families[inside]
        intervals = {key: _interval(values, *kinds, varies=varies) for key, values in facts.items()}
        deviations = _deviation(facts['logj'], blocks[inside], varies=varies)
        folds = np.stack(
            [facts['logj'][blocks[inside] == b].mean(0) for b in np.unique(blocks[inside])]
        )
        table = [
            {
                'map': summary.name,
                'group': group or 'all',
                'n': len(inside),
                'region': region,
                'side': side,
                **{
                    f'{key}{end}': found[index]
                    for key, bounds in intervals.items()
                    for end, found in zip(('', '_low', '_high'), bounds, strict=True)
                },
                'logj_sd': deviations[index],
                'fold_low': folds[:, index].min() if len(folds) > 1 else None,
                'fold_high': folds[:, index].max() if len(folds) > 1 else None,
                'null_percentile': percentiles[index],
                SHARE: summary.share_of(groups, group),
            }
            for index, (region, side) in enumerate(regions.names)
        ]
        rows += _with_rank(_with_laterality(table))
    return rows


def _interval(
    values: np.ndarray, blocks: np.ndarray, families: np.ndarray, *, varies: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean (R,) of values (N, R) and its 95 % interval (Student's t).

    The models are fixed, so differences between the folds that explain the subjects do not count.
    Families are clusters. Bootstrap percentiles would be far too narrow for small groups.
    """
    mean, n = values.mean(axis=0), len(values)
    index = np.unique(families, return_inverse=True)[1]
    df = int(index.max()) + 1 - len(np.unique(blocks))
    if df < 2 or not varies:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    sums = np.zeros((int(index.max()) + 1, values.shape[1]))
    np.add.at(sums, index, _centred(values, blocks))
    half = stats.t.ppf(0.975, df) * np.sqrt(len(sums) / df * (sums**2).sum(axis=0)) / n
    half[_is_constant(values, half)] = np.nan
    return mean, mean - half, mean + half


def _deviation(values: np.ndarray, blocks: np.ndarray, *, varies: bool) -> np.ndarray:
    """Return the standard deviation (R,) of values (N, R) between subjects of the same folds."""
    df = len(values) - len(np.unique(blocks))
    if df < 1 or not varies:
        return np.full(values.shape[1], np.nan)
    sd = np.sqrt((_centred(values, blocks) ** 2).sum(axis=0) / df)
    sd[_is_constant(values, sd)] = np.nan
    return np.asarray(sd)


def _centred(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return values (N, R) without the mean of their block."""
    names, index = np.unique(blocks, return_inverse=True)
    indicators = (index[:, None] == np.arange(len(names))).astype(float)
    return np.asarray(
        values - indicators @ (indicators.T @ values / indicators.sum(axis=0)[:, None])
    )


def _is_constant(values: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return the columns of values (N, R) whose spread (R,) is rounding."""
    return np.asarray(spread <= 1e-6 * np.abs(values).max(axis=0))


def _with_laterality(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add (left - right) / (|left| + |right|) of the percentage changes."""
    change = {(row['region'], row['side']): row['pct'] for row in table}
    for row in table:
        left, right = (change.get((row['region'], side)) for side in ('left', 'right'))
        row['laterality'] = None
        if row['side'] != 'midline' and left is not None and right is not None:
            total = abs(left) + abs(right)
            row['laterality'] = (left - right) / total if total > 0 else None
    return table


def _with_rank(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the rank of each region by the size of its mean change, 1 for the largest."""
    order = sorted(range(len(table)), key=lambda index: -abs(table[index]['logj']))
    for rank, index in enumerate(order, 1):
        table[index]['rank'] = rank
    return table


def null_percentiles(
    masked: MaskedGrid,
    mean: np.ndarray,
    regions: NamedRegions,
    observed: np.ndarray,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> np.ndarray:
    """Return the percentile of each region among random compact regions of its size.

    Parameters
    ----------
    masked : MaskedGrid
        Grid and mask.
    mean : numpy.ndarray
        (V,) mean map.
    regions : NamedRegions
        Regions; only their sizes are used.
    observed : numpy.ndarray
        (R,) means of the regions.
    rng : numpy.random.Generator
        Generator of the random positions.
    draws : int
        Number of random regions: the voxels nearest to a random voxel of the brain.

    Returns
    -------
    numpy.ndarray
        (R,) percentiles, 0 to 100.
    """
    steps = np.maximum(1, np.round(NULL_SPACING / masked.grid.spacing)).astype(int)
    coarse = np.zeros(masked.grid.shape, bool)
    coarse[tuple(slice(step // 2, None, step) for step in steps)] = True
    kept = coarse[masked.inside]
    voxels = np.argwhere(masked.inside & coarse)
    points, values = voxels * masked.grid.spacing, mean[kept]
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


_INTERVAL = (
    'the 95 % interval over subjects (t) with these models, families as clusters; n/a if the maps '
    'do not differ between people by more than rounding.'
)
_QUANTITIES = {
    'logj': ('Mean log-Jacobian', '1'),
    'pct': ('Mean volume change', 'percent'),
    'mm3': ('Mean volume change in native space', 'mm^3'),
}

_REMEASURED = {
    'remeasured_slope': 'Slope of re-measured on claimed volume changes over regions '
    '(--remeasure).',
    'remeasured_r': 'Pearson correlation of re-measured and claimed volume changes over regions '
    '(--remeasure).',
}

#: Data dictionary of the table of groups.
GROUP_COLUMNS: dict[str, Column] = {
    'map': {'Description': 'Direction and dose in percent.'},
    'group': {'Description': 'Group; "all" stands for all subjects.'},
    'n': {'Description': 'Number of subjects.'},
    'region': {'Description': 'Name of the region.'},
    'side': {'Description': 'Side: left, right or midline.'},
    **{
        f'{key}{end}': {'Description': f'{quantity}{more}', 'Units': units}
        for key, (quantity, units) in _QUANTITIES.items()
        for end, more in (
            ('', ' of the region.'),
            ('_low', f', lower limit of {_INTERVAL}'),
            ('_high', f', upper limit of {_INTERVAL}'),
        )
    },
    'logj_sd': {
        'Description': 'Standard deviation of the log-Jacobian between subjects that the same '
        'folds explain; n/a if the maps do not differ between people by more than rounding.'
    },
    'fold_low': {'Description': 'Smallest mean log-Jacobian over sets of folds.', 'Units': '1'},
    'fold_high': {'Description': 'Largest mean log-Jacobian over sets of folds.', 'Units': '1'},
    'null_percentile': {
        'Description': 'Share of compact regions of the same size, placed at random in the brain, '
        'whose mean is closer to zero. It shows how much the region stands out; not a p-value.',
        'Units': 'percent',
    },
    SHARE: {'Description': f'Median over subjects of {SHARE_TEXT}'},
    'laterality': {'Description': '(left - right) / (|left| + |right|) of the percentage changes.'},
    'rank': {'Description': 'Rank by the size of the mean log-Jacobian, 1 for the largest.'},
}


def wide_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Return the data dictionary of the table of subjects."""
    content: dict[str, Column] = {}
    for column in rows[0] if rows else ():
        quantity, units = _QUANTITIES.get(column.rsplit('_', 1)[-1], ('', ''))
        content[column] = {'Description': f'{quantity} of a region.', 'Units': units}
        if column.endswith(f'_{SHARE}'):
            content[column] = {'Description': f'Personal share of the map: {SHARE_TEXT}'}
        elif not quantity:
            content[column] = {'Description': f'Value of {column} in the tables of the dataset.'}
        for ending, description in _REMEASURED.items():
            if column.endswith(f'_{ending}'):
                content[column] = {'Description': description, 'Units': '1'}
    return content
