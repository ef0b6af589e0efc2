"""Learning curves: read from the logs of the training loop, and drawn."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.read.scan_files import parse_number
from bids_interp.reports.common.montage import new_figure
from bids_interp.reports.common.palette import INK

Curves = Mapping[str, Sequence[Mapping[str, Any]]]

#: One colour per fold: Okabe and Ito's, without yellow.
FOLD_COLOURS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#555555')

#: Columns that share a panel with another one.
_PANELS = {'validation_loss': 'loss'}
_TITLES = {
    'loss': 'loss',
    'validation_auc': 'validation AUC',
    'input_gradient': 'input gradient',
    'hinge': 'hinge on the logit shift',
    'rough': 'roughness of the velocity',
    'log_j': 'mean |log-Jacobian|',
    'cycle': 'reversibility',
}
#: Stages in the order of training.
_STAGES = ('classifier', 'template', 'residual')
#: Largest number of points of a line; more are averaged, because single steps are noisy.
_POINTS = 40


def read_curves(folder: Path) -> dict[str, list[dict[str, float]]]:
    """Read the curves of all trainings below a folder, with those before interruptions.

    Parameters
    ----------
    folder : pathlib.Path
        Folder with ``fold-K/classifier-*/metrics.csv`` files of Lightning's CSVLogger, and files
        ``metrics-*.csv`` of the runs before.

    Returns
    -------
    dict of str to list of dict
        Rows by the path relative to ``folder`` (``fold-0/classifier-a/template-b``). Each row has
        ``step`` and the columns with a number. A step that a resumed run logged again keeps its
        last values. Damaged files are skipped.
    """
    curves = {}
    for path in sorted({path.parent for path in Path(folder).rglob('metrics*.csv')}):
        rows = _read_rows([*sorted(path.glob('metrics-*.csv')), path / 'metrics.csv'])
        if rows:
            curves[path.relative_to(folder).as_posix()] = rows
    return curves


def _read_rows(paths: Sequence[Path]) -> list[dict[str, float]]:
    """Return the rows of the curves of one training, the oldest one first."""
    by_step: dict[float, dict[str, float]] = {}
    for path in paths:
        with suppress(OSError, UnicodeDecodeError, csv.Error):
            with path.open(encoding='utf-8', newline='') as stream:
                rows = list(csv.DictReader(stream))
            for cells in rows:
                numbers = {name: parse_number(cell) for name, cell in cells.items() if name}
                step = numbers.pop('step', None)
                numbers.pop('epoch', None)
                if step is not None:
                    logged = {key: value for key, value in numbers.items() if value is not None}
                    by_step.setdefault(step, {'step': step}).update(logged)
    return [by_step[step] for step in sorted(by_step) if len(by_step[step]) > 1]


def fold_and_stage(name: str) -> tuple[str, str]:
    """Return the fold and stage of a curve.

    >>> fold_and_stage('fold-2/classifier-ab12/template-cd34')
    ('2', 'template')
    """
    fold = re.search(r'fold-(\w+)', name)
    return fold.group(1) if fold else '', name.rsplit('/', 1)[-1].split('-', 1)[0]


def draw_curves(curves: Curves) -> Any:
    """Draw one panel per stage and quantity with one line per fold; None without curves.

    Returns
    -------
    matplotlib.figure.Figure or None
        Thin lines for training losses, lines with dots for validation losses.
    """
    panels: dict[tuple[str, str], list[tuple[str, str, np.ndarray]]] = {}
    for name, rows in curves.items():
        fold, stage = fold_and_stage(name)
        for column in sorted({key for row in rows for key in row} - {'step', 'epoch'}):
            points = np.array([(row['step'], row[column]) for row in rows if column in row])
            key = (stage, _PANELS.get(column, column))
            panels.setdefault(key, []).append((fold, column, points))
    if not panels:
        return None
    order = list(_TITLES)
    keys = sorted(panels, key=lambda key: (_rank(key[0], _STAGES), _rank(key[1], order)))
    folds = sorted({fold for lines in panels.values() for fold, _, _ in lines})
    rows_of_panels = -(-len(keys) // 3)
    height = 2.45 * rows_of_panels + 0.35
    figure = new_figure(10.0, height)
    for index, panel in enumerate(keys):
        down, across = divmod(index, 3)
        bottom = (2.45 * (rows_of_panels - 1 - down) + 0.5) / height
        axes = figure.add_axes((0.055 + 0.335 * across, bottom, 0.265, 1.55 / height))
        _draw_panel(axes, panel, panels[panel], folds)
    _legend(figure, folds, height)
    return figure


def _rank(name: str, order: Sequence[str]) -> int:
    """Rank of a name in an order; other names come last."""
    return list(order).index(name) if name in order else len(order)


def _draw_panel(
    axes: Any,
    key: tuple[str, str],
    lines: list[tuple[str, str, np.ndarray]],
    folds: list[str],
) -> None:
    for fold, column, points in lines:
        colour = FOLD_COLOURS[folds.index(fold) % len(FOLD_COLOURS)]
        x, y = _thin(points)
        validation = column.startswith('validation')
        shared = len({name for _, name, _ in lines}) > 1
        style = (
            {'linewidth': 0.9, 'alpha': 0.55} if shared and not validation else {'linewidth': 1.5}
        )
        axes.plot(x, y, 'o-' if validation else '-', color=colour, markersize=3, **style)
    stage, quantity = key
    title = f'{stage}: {_TITLES.get(quantity, quantity.replace("_", " "))}'
    axes.set_title(title, fontsize=9.5, loc='left', fontweight='bold', color=INK)
    axes.set_xlabel('step', fontsize=8.5)
    if quantity == 'validation_auc':
        axes.axhline(0.5, color='#5b6774', linestyle='--', linewidth=1)
        axes.set_ylim(-0.03, 1.03)
    style_axes(axes)


def _legend(figure: Any, folds: list[str], height: float) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=FOLD_COLOURS[index % len(FOLD_COLOURS)], linewidth=2)
        for index in range(len(folds))
    ]
    names = [f'fold {fold}' for fold in folds]
    entries.append(Line2D([], [], color='#555555', linewidth=1.5, marker='o', markersize=3))
    figure.legend(
        entries,
        [*names, 'validation'],
        loc='upper left',
        bbox_to_anchor=(0.045, 1 - 0.02 / height),
        ncols=min(len(entries), 9),
        fontsize=8.5,
        frameon=False,
    )


def style_axes(axes: Any) -> None:
    """Apply the common style of axes."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.grid(color='#e3e8ed', linewidth=0.8)
    axes.set_axisbelow(True)


def _thin(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbouring points if there are too many."""
    parts = np.array_split(points, min(len(points), _POINTS))
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]
