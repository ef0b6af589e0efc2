"""Curves: what the classifier says along the dose."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.reports.files import ScanFiles, number, read_table
from bids_interp.reports.montage import new_figure, save_svg
from bids_interp.reports.palette import DIRECTION_COLOURS, INK, OBSERVED

SIGNS = {'inject': 1.0, 'remove': -1.0, 'none': 0.0}


def read_response(files: ScanFiles) -> list[dict[str, float]]:
    """Read the dose response with signed doses: negative removes, 0 is the scan, positive injects.

    Returns
    -------
    list of dict
        ``dose``, ``fold`` and, where there, ``probability`` (a regression has none), ``logit``,
        ``shift`` and ``shift_over_class_gap``; by dose.
    """
    rows = []
    for row in read_table(files.native('desc-doseresponse_stats.tsv')):
        sign, dose = SIGNS.get(row.get('direction', '')), number(row.get('dose'))
        if sign is None or dose is None:
            continue
        kept = {'dose': sign * abs(dose), 'fold': number(row.get('fold')) or 0.0}
        for name in ('probability', 'logit', 'shift', 'shift_over_class_gap'):
            value = number(row.get(name))
            if value is not None:
                kept[name] = value
        if 'probability' in kept or 'logit' in kept:
            rows.append(kept)
    return sorted(rows, key=lambda row: (row['dose'], row['fold']))


def by_dose(rows: list[dict[str, float]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Doses and the values of every fold at each, (doses,) and (doses, folds)."""
    groups: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if column in row:
            groups[row['dose']].append(row[column])
    width = max((len(values) for values in groups.values()), default=0)
    doses = sorted(dose for dose, values in groups.items() if len(values) == width)
    return np.array(doses), np.array([groups[dose] for dose in doses])


def flip_dose(rows: list[dict[str, float]], threshold: float = 0.5) -> float | None:
    """Smallest dose (signed) at which the mean probability crosses the threshold.

    Linear between the doses that were computed; nothing where no dose reaches it.

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


def _draw_curve(axes: Any, rows: list[dict[str, float]], column: str) -> None:
    doses, values = by_dose(rows, column)
    for fold in range(values.shape[1]):
        axes.plot(doses, values[:, fold], color='#8a97a5', linewidth=0.9, zorder=1)
    means = values.mean(axis=1)
    axes.plot(doses, means, color=INK, linewidth=2.2, zorder=2)
    for direction, chosen in (('remove', doses < 0), ('inject', doses > 0)):
        colour = DIRECTION_COLOURS[direction]
        axes.plot(doses[chosen], means[chosen], 'o', color=colour, markersize=6, zorder=3)
    axes.plot(doses[doses == 0], means[doses == 0], 's', color=OBSERVED, markersize=7, zorder=4)
    axes.set_xlabel('dose (share of the full pattern)', fontsize=10)
    ticks = sorted({-1.0, -0.5, 0.0, 0.5, 1.0} | {float(doses[0]), float(doses[-1])})
    ticks = [tick for tick in ticks if doses[0] <= tick <= doses[-1]]
    names = {0.0: 'as\nscanned', -1.0: '1\nremoved', 1.0: '1\ninjected'}
    axes.set_xticks(ticks, [names.get(tick, f'{abs(tick):g}') for tick in ticks])
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.grid(axis='y', color='#e3e8ed', linewidth=0.8)
    axes.set_axisbelow(True)


def draw_dose_response(files: ScanFiles, positive: str = 'patient') -> Path | None:
    """Draw probability and logit shift along the dose, every fold thin, their mean bold."""
    rows = read_response(files)
    if len({row['dose'] for row in rows}) < 2:
        return None
    has_shift = any('shift_over_class_gap' in row for row in rows)
    figure = new_figure(10.0, 3.4)
    width = 0.42 if has_shift else 0.9
    axes = figure.add_axes((0.07, 0.22, width, 0.66))
    if not any('probability' in row for row in rows):
        _draw_curve(axes, rows, 'logit')
        title = 'Predicted value (standard deviations from the mean)'
        axes.set_title(title, fontsize=10.5, loc='left', fontweight='bold')
        return save_svg(figure, files.figure('dose', '.svg'))
    _draw_curve(axes, rows, 'probability')
    axes.axhline(0.5, color='#5b6774', linestyle='--', linewidth=1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(f'Probability of “{positive}”', fontsize=10.5, loc='left', fontweight='bold')
    crossing = flip_dose(rows)
    if crossing is not None:
        axes.axvline(crossing, color='#5b6774', linestyle=':', linewidth=1.2)
        words, side = f'flips at {abs(crossing):.2f}', 'left' if crossing < 0.5 else 'right'
        offset = 0.03 if side == 'left' else -0.03
        axes.text(crossing + offset, 0.06, words, fontsize=9, color=INK, ha=side)
    if has_shift:
        right = figure.add_axes((0.57, 0.22, width, 0.66))
        _draw_curve(right, rows, 'shift_over_class_gap')
        right.set_title(
            'Shift of the logit (1 = gap between the classes)',
            fontsize=10.5,
            loc='left',
            fontweight='bold',
        )
    return save_svg(figure, files.figure('dose', '.svg'))
