"""Figures of the group report: regions, predictions, dose responses and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.bids.read.scan_files import parse_number
from bids_interp.reports.common.montage import new_figure
from bids_interp.reports.common.palette import INK
from bids_interp.reports.training.learning_curves import FOLD_COLOURS, style_axes

Rows = Sequence[Mapping[str, Any]]

#: Largest number of regions in the forest plot.
REGIONS = 26
#: Numbers with at most this many different values are drawn as levels.
LEVELS = 6


def colours_of(groups: Sequence[str]) -> dict[str, str]:
    """Return one colour per group; all subjects together are dark."""
    found = {'all': INK}
    for index, group in enumerate(sorted(set(groups) - {'all'})):
        found[group] = FOLD_COLOURS[index % len(FOLD_COLOURS)]
    return found


def draw_forest(rows: Rows, name: str) -> Any:
    """Draw the volume changes of the regions with intervals, one row per region and side."""
    own = [row for row in rows if row['map'] == name]
    if not own:
        return None
    groups = [g for g in dict.fromkeys(row['group'] for row in own) if g != 'all'] or ['all']
    everybody = sorted(
        (row for row in own if row['group'] == 'all'), key=lambda row: row['rank'] or 0
    )[:REGIONS]
    names = [(row['region'], row['side']) for row in everybody]
    colours = colours_of(groups)
    height = 0.27 * len(names) + 0.95
    figure = new_figure(10.0, height)
    axes = figure.add_axes((0.27, 0.5 / height, 0.7, 1 - 0.85 / height))
    for index, group in enumerate(groups):
        shift = (index - (len(groups) - 1) / 2) * min(0.25, 0.7 / len(groups))
        found = {(row['region'], row['side']): row for row in own if row['group'] == group}
        first = True
        for position, key in enumerate(names):
            row = found.get(key)
            if row is None or parse_number(row['pct']) is None:
                continue
            low, high = parse_number(row['pct_low']), parse_number(row['pct_high'])
            if low is not None and high is not None:
                axes.plot([low, high], [position + shift] * 2, color=colours[group], linewidth=1.8)
            label = f'{group} (n = {row["n"]})' if first else None
            axes.plot(row['pct'], position + shift, 'o', color=colours[group], ms=5, label=label)
            first = False
    axes.axvline(0, color='#5b6774', linestyle='--', linewidth=1)
    labels = [f'{side} {region}' if side != 'midline' else region for region, side in names]
    axes.set_yticks(range(len(names)), [label.replace('_', ' ') for label in labels])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel('volume change in percent (negative: shrinks)', fontsize=9)
    style_axes(axes)
    _legend(axes, len(groups))
    return figure


def _legend(axes: Any, count: int) -> None:
    """Draw the legend above the axes."""
    if not axes.get_legend_handles_labels()[0]:
        return
    columns = min(count, 5)
    axes.legend(
        fontsize=8.5, frameon=False, loc='lower left', bbox_to_anchor=(0, 1.0), ncols=columns
    )


def draw_logits(rows: Rows, simulations: Sequence[str]) -> Any:
    """Draw the logits of each group for the scans and the simulations."""
    kinds = [name for name in simulations if name.startswith('remove')]
    kinds = [*sorted(kinds, reverse=True), 'observed', *sorted(set(simulations) - set(kinds))]
    groups = sorted({str(row['group']) for row in rows})
    colours = colours_of(groups)
    figure = new_figure(10.0, 3.4)
    axes = figure.add_axes((0.07, 0.16, 0.9, 0.7))
    rng = np.random.default_rng(0)
    for index, group in enumerate(groups):
        shift = (index - (len(groups) - 1) / 2) * 0.8 / max(len(groups), 1)
        for position, kind in enumerate(kinds):
            found = [parse_number(row.get(kind)) for row in rows if str(row['group']) == group]
            values = np.array([value for value in found if value is not None])
            if not values.size:
                continue
            jitter = rng.uniform(-1, 1, values.size) * 0.25 / max(len(groups), 1)
            at = position + shift
            axes.plot(at + jitter, values, 'o', color=colours[group], alpha=0.45, ms=4, mew=0)
            box = np.percentile(values, [25, 50, 75])
            axes.plot([at, at], box[[0, 2]], color=colours[group], linewidth=3)
            label = f'{group} (n = {values.size})' if kind == 'observed' else None
            axes.plot(at, box[1], 'D', ms=7, mfc='white', mec=colours[group], mew=1.8, label=label)
    names = {'observed': 'as scanned'}
    labels = [names.get(kind) or f'{kind[:-3]}, dose {int(kind[-3:]) / 100:g}' for kind in kinds]
    axes.set_xticks(range(len(kinds)), labels)
    axes.axhline(0, color='#5b6774', linestyle='--', linewidth=1)
    axes.set_ylabel('logit', fontsize=9)
    style_axes(axes)
    _legend(axes, len(groups))
    return figure


def draw_responses(rows: Rows, positive: str) -> Any:
    """Draw mean probability and logit along the dose, with bands of one standard deviation."""
    groups = [g for g in dict.fromkeys(str(row['group']) for row in rows) if g != 'all'] or ['all']
    colours = colours_of(groups)
    figure = new_figure(10.0, 3.4)
    # A regression has no probability.
    has_probability = any(parse_number(row['probability']) is not None for row in rows)
    panels = [('logit', 'logit' if has_probability else 'prediction')]
    if has_probability:
        panels.insert(0, ('probability', f'probability of “{positive}”'))
    for position, (key, title) in enumerate(panels):
        axes = figure.add_axes((0.07 + 0.5 * position, 0.16, 0.4, 0.68))
        for group in groups:
            own = [row for row in rows if str(row['group']) == group]
            doses = np.array([row['dose'] for row in own], float)
            mean = np.array([row[key] for row in own], float)
            sd = np.array([parse_number(row[f'{key}_sd']) or 0.0 for row in own])
            band = np.clip([mean - sd, mean + sd], 0, 1) if key == 'probability' else None
            low, high = (mean - sd, mean + sd) if band is None else band
            axes.fill_between(doses, low, high, color=colours[group], alpha=0.15, linewidth=0)
            label = f'{group} (n = {own[0]["n"]})' if own else group
            axes.plot(doses, mean, 'o-', color=colours[group], ms=4, label=label)
        axes.set_xlabel('dose (negative: removed, positive: injected)', fontsize=9)
        style_axes(axes)
        if key == 'probability':
            axes.set_ylim(-0.03, 1.03)
        if position == 0:
            _legend(axes, len(groups))
        axes.set_ylabel(title, fontsize=9)
    return figure


def draw_scores(
    rows: Rows, group: str, covariates: Sequence[str], levels: Sequence[str] = ()
) -> Any:
    """Draw the expression score by group and against each covariate."""
    used = [row for row in rows if row['score'] is not None]
    if not used:
        return None
    panels = [name for name in (group and 'group', *covariates) if name] or ['image']
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(10.0, 3.1 * down)
    groups = sorted({str(row['group'] or 'all') for row in used})
    colours = colours_of(groups)
    for index, name in enumerate(panels):
        left = 0.07 + (index % across) * 0.93 / across
        bottom = 1 - (index // across + 1) / down + 0.19 / down
        axes = figure.add_axes((left, bottom, 0.93 / across - 0.07, 0.68 / down))
        _draw_panel(axes, used, name, colours, is_level=name in ('group', *levels))
        label = group if name == 'group' else name.replace('_', ' ')
        axes.set_xlabel('images' if name == 'image' else label, fontsize=9)
        if index % across == 0:
            axes.set_ylabel('expression score', fontsize=9)
        axes.axhline(0, color='#5b6774', linestyle='--', linewidth=1)
        style_axes(axes)
        if index == 0 and len(groups) > 1:
            _legend(axes, len(groups))
    return figure


def _draw_panel(
    axes: Any, rows: Rows, name: str, colours: Mapping[str, str], *, is_level: bool
) -> None:
    values = [row.get(name) for row in rows]
    numbers = [parse_number(value) for value in values]
    is_number = not is_level and all(
        parse_number(value) is not None for value in values if value is not None
    )
    levels = sorted({str(value) for value in values if value is not None})
    rng = np.random.default_rng(0)
    for row, value, text in zip(rows, numbers, values, strict=True):
        if text is None:
            continue
        at = value if is_number and len(levels) > LEVELS else None
        if name == 'image':
            at = float(rng.uniform(-0.2, 0.2))
        elif at is None:
            at = levels.index(str(text)) + float(rng.uniform(-0.16, 0.16))
        colour = colours[str(row['group'] or 'all')]
        axes.plot(at, row['score'], 'o', color=colour, alpha=0.65, ms=5, mew=0)
    if name == 'image':
        axes.set_xticks([])
    elif not is_number or len(levels) <= LEVELS:
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlim(-0.6, len(levels) - 0.4)
        for position, level in enumerate(levels):
            own = [r['score'] for r, v in zip(rows, values, strict=True) if str(v) == level]
            axes.plot(
                [position - 0.27, position + 0.27], [np.mean(own)] * 2, color=INK, linewidth=2.2
            )
