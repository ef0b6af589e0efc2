"""Dose response of one T1w image: classifier outputs as a function of dose."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bids_interp.bids.read.scan_files import ScanFiles, parse_number, read_table
from bids_interp.constants import DIRECTION_SIGNS

SIGNS = {**DIRECTION_SIGNS, 'none': 0.0}


def read_response(files: ScanFiles) -> list[dict[str, float]]:
    """Read the dose response with signed doses: negative removes, 0 is observed, positive injects.

    Returns
    -------
    list of dict
        Rows sorted by dose, with ``dose``, ``fold`` and, if available, ``probability`` (not for a
        regression), ``logit``, ``shift`` and ``shift_over_class_gap``.
    """
    rows = []
    for row in read_table(files.native('desc-doseresponse_stats.tsv')):
        sign, dose = SIGNS.get(row.get('direction', '')), parse_number(row.get('dose'))
        if sign is None or dose is None:
            continue
        kept = {'dose': sign * abs(dose), 'fold': parse_number(row.get('fold')) or 0.0}
        for name in ('probability', 'logit', 'shift', 'shift_over_class_gap'):
            value = parse_number(row.get(name))
            if value is not None:
                kept[name] = value
        if 'probability' in kept or 'logit' in kept:
            rows.append(kept)
    return sorted(rows, key=lambda row: (row['dose'], row['fold']))


def by_dose(rows: list[dict[str, float]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the doses (D,) and the values of every fold at each dose (D, folds)."""
    groups: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if column in row:
            groups[row['dose']].append(row[column])
    width = max((len(values) for values in groups.values()), default=0)
    doses = sorted(dose for dose, values in groups.items() if len(values) == width)
    return np.array(doses), np.array([groups[dose] for dose in doses])


def flip_dose(rows: list[dict[str, float]], threshold: float = 0.5) -> float | None:
    """Return the smallest signed dose at which the mean probability crosses the threshold.

    Linear interpolation between the computed doses; None if no dose reaches the threshold.

    >>> rows = [{'dose': d, 'fold': 0, 'probability': p} for d, p in ((0, .2), (.5, .4), (1, .6))]
    >>> round(flip_dose(rows), 3)
    0.75
    """
    doses, values = by_dose(rows, 'probability')
    if doses.size < 2 or 0.0 not in doses:
        return None
    means = values.mean(axis=1) - threshold
    crossings = []
    for left in range(len(doses) - 1):
        before, after = means[left], means[left + 1]
        if before * after < 0 or (after == 0 and before != 0):
            step = doses[left + 1] - doses[left]
            crossings.append(doses[left] + step * before / (before - after))
    return float(min(crossings, key=abs)) if crossings else None
