"""Covariate balance between groups, as a check for confounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.bids.write.sidecars import Column

BALANCE_COLUMNS: dict[str, Column] = {
    'covariate': {'Description': 'Name of the covariate.'},
    'group': {'Description': 'Group; "all" stands for all subjects.'},
    'n': {'Description': 'Number of subjects with a value.'},
    'summary': {'Description': 'Mean and standard deviation, or the number of subjects per level.'},
    'imbalance': {
        'Description': 'Imbalance between the groups. Numbers: range of the group means divided by '
        'the standard deviation within groups. Levels: largest difference in the share of a level. '
        'Descriptive, not a test.',
        'Units': '1',
    },
    'r_score': {
        'Description': 'Correlation of a numeric covariate with the expression score in the group.',
        'Units': '1',
    },
}


def balance_rows(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], levels: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the summary of each covariate in each group.

    Parameters
    ----------
    rows : sequence of mapping
        Score table, one row per subject.
    names : sequence of str
        Covariates.
    levels : sequence of str
        Covariates that are categorical even if written as numbers.
    """
    groups = sorted({str(row['group']) for row in rows if row['group'] is not None})
    table = []
    for name in names:
        texts = [None if row[name] is None else str(row[name]) for row in rows]
        numbers = None if name in levels else as_numbers(texts)
        imbalance = _imbalance(rows, name, groups, numbers)
        for group in ['all', *groups]:
            inside = [
                index
                for index, row in enumerate(rows)
                if row[name] is not None and group in ('all', str(row['group']))
            ]
            table.append(
                {
                    'covariate': name,
                    'group': group,
                    'n': len(inside),
                    'summary': _summary(rows, name, inside, numbers),
                    'imbalance': imbalance if group == 'all' else None,
                    'r_score': _correlation(rows, inside, numbers),
                }
            )
    return table


def _summary(
    rows: Sequence[Mapping[str, Any]], name: str, inside: list[int], numbers: np.ndarray | None
) -> str | None:
    if not inside:
        return None
    if numbers is not None:
        values = numbers[inside]
        spread = f' (SD {values.std(ddof=1):.3g})' if np.ptp(values) > 0 else ''
        return f'{values.mean():.4g}{spread}'
    levels = [str(rows[index][name]) for index in inside]
    return ', '.join(f'{level}: {levels.count(level)}' for level in sorted(set(levels)))


def _imbalance(
    rows: Sequence[Mapping[str, Any]], name: str, groups: list[str], numbers: np.ndarray | None
) -> float | None:
    parts = [
        [i for i, row in enumerate(rows) if row[name] is not None and str(row['group']) == group]
        for group in groups
    ]
    if len(parts) < 2 or min(len(part) for part in parts) < 2:
        return None
    if numbers is not None:
        means = [numbers[part].mean() for part in parts]
        within = np.sqrt(np.mean([numbers[part].var(ddof=1) for part in parts]))
        return float(np.ptp(means) / within) if within > 0 else None
    levels = sorted({str(rows[i][name]) for part in parts for i in part})
    shares = np.array(
        [
            [np.mean([str(rows[i][name]) == level for i in part]) for level in levels]
            for part in parts
        ]
    )
    return float(np.ptp(shares, axis=0).max())


def _correlation(
    rows: Sequence[Mapping[str, Any]], inside: list[int], numbers: np.ndarray | None
) -> float | None:
    if numbers is None:
        return None
    kept = [index for index in inside if rows[index]['score'] is not None]
    scores = np.array([rows[index]['score'] for index in kept], float)
    values = numbers[kept]
    if len(kept) < 3 or np.ptp(values) == 0 or np.ptp(scores) == 0:
        return None
    return float(np.corrcoef(values, scores)[0, 1])
