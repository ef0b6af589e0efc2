"""Dose-response figure: the prediction as a function of the dose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bids_interp.bids.read.dose_response import by_dose, flip_dose, read_response
from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.reports.common.montage import new_figure, save_svg
from bids_interp.reports.common.palette import DIRECTION_COLOURS, INK, OBSERVED


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
    """Draw probability and logit shift along the dose: folds thin, their mean bold."""
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
        label, side = f'flips at {abs(crossing):.2f}', 'left' if crossing < 0.5 else 'right'
        offset = 0.03 if side == 'left' else -0.03
        axes.text(crossing + offset, 0.06, label, fontsize=9, color=INK, ha=side)
    if has_shift:
        right = figure.add_axes((0.57, 0.22, width, 0.66))
        _draw_curve(right, rows, 'shift_over_class_gap')
        right.set_title(
            'Shift of the logit (1 = class gap)',
            fontsize=10.5,
            loc='left',
            fontweight='bold',
        )
    return save_svg(figure, files.figure('dose', '.svg'))
