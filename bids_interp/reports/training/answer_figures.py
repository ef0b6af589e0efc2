"""Figures of out-of-fold predictions: ranking, calibration and confounds."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.reports.common.montage import new_figure
from bids_interp.reports.common.palette import DIRECTION_COLOURS, INK
from bids_interp.reports.training.learning_curves import FOLD_COLOURS, style_axes
from bids_interp.reports.training.training_text import estimate_text

Rows = Sequence[Mapping[str, Any]]

NEGATIVE, POSITIVE = DIRECTION_COLOURS['remove'], DIRECTION_COLOURS['inject']
_GUIDE = {'color': '#5b6774', 'linestyle': '--', 'linewidth': 1}


def svg_uri(figure: Any, name: str) -> str:
    """Return a figure as a data URI: a reproducible SVG without fonts."""
    import matplotlib

    memory = io.BytesIO()
    with matplotlib.rc_context({'svg.fonttype': 'path', 'svg.hashsalt': name}):
        figure.savefig(memory, format='svg', metadata={'Date': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(memory.getvalue()).decode()


def mean_roc(
    scores: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[Any, np.ndarray]]:
    """Return the ROC of each fold and their mean weighted by pairs, whose area is the reported AUC.

    Returns
    -------
    tuple
        False-positive rates (P,), mean sensitivities (P,), and sensitivities (P,) of each fold
        with both classes.
    """
    from sklearn.metrics import roc_curve

    at = np.linspace(0, 1, 201)
    curves, weights = {}, []
    for fold in np.unique(folds):
        inside = folds == fold
        positive = int(labels[inside].sum())
        pairs = positive * (int(inside.sum()) - positive)
        if pairs:
            false, true, _ = roc_curve(labels[inside], scores[inside], drop_intermediate=False)
            # Takes the upper end of vertical steps.
            curves[fold] = np.interp(at, false, true)
            weights.append(pairs)
    if not curves:
        return at, np.full_like(at, np.nan), {}
    return at, np.average(list(curves.values()), axis=0, weights=weights), curves


def draw_answers(rows: Rows, metrics: Mapping[str, Any], positive: str, negative: str) -> Any:
    """Draw ROC, reliability and logits of a binary classifier.

    Parameters
    ----------
    rows : sequence of mapping
        Out-of-fold table: ``truth``, ``fold``, ``logit``, ``probability``.
    metrics : mapping
        Metrics with ``auc``, ``reliability`` and ``ece``.
    positive, negative : str
        Names of the classes.
    """
    labels = np.array([str(row['truth']) == positive for row in rows])
    folds = np.array([str(row['fold']) for row in rows])
    figure = new_figure(10.0, 3.5)
    axes = [figure.add_axes((left, 0.15, 0.26, 0.73)) for left in (0.06, 0.395, 0.73)]
    _draw_roc(axes[0], np.array([float(row['logit']) for row in rows]), labels, folds, metrics)
    _draw_reliability(axes[1], metrics, f'probability of “{positive}”')
    probability = np.array([float(row['probability']) for row in rows])
    _draw_logits(axes[2], probability, labels, positive, negative)
    return figure


def _titled(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc='left', fontweight='bold', color=INK)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    style_axes(axes)


def _draw_roc(
    axes: Any,
    scores: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    metrics: Mapping[str, Any],
) -> None:
    at, mean, curves = mean_roc(scores, labels, folds)
    for index, (fold, curve) in enumerate(curves.items()):
        colour = FOLD_COLOURS[index % len(FOLD_COLOURS)]
        name = f'fold {fold}' if len(curves) <= 6 else None
        axes.plot(np.append(0, at), np.append(0, curve), color=colour, linewidth=1, label=name)
    axes.plot(np.append(0, at), np.append(0, mean), color=INK, linewidth=2.4, label='mean')
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize=7.5, frameon=False, loc='lower right', labelspacing=0.25)
    _titled(axes, f'AUC {estimate_text(metrics["auc"])}', '1 - specificity', 'sensitivity')


def _draw_reliability(axes: Any, metrics: Mapping[str, Any], name: str) -> None:
    bins = metrics.get('reliability') or []
    axes.plot([0, 1], [0, 1], **_GUIDE)
    if bins:
        count = np.array([item['n'] for item in bins], dtype=float)
        x, y = (np.array([item[key] for item in bins]) for key in ('probability', 'frequency'))
        spread = np.sqrt(np.maximum(y * (1 - y), 0.25 / (count + 3)) / count)
        low, high = np.clip(y - spread, 0, 1), np.clip(y + spread, 0, 1)
        axes.vlines(x, low, high, color='#8a97a5', linewidth=1.2)
        axes.plot(x, y, color=INK, linewidth=1)
        axes.scatter(x, y, s=18 + 160 * count / count.sum(), color=INK, zorder=3)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    title = f'Calibration: ECE {estimate_text((metrics.get("ece") or {}).get("value"))}'
    _titled(axes, title, name, 'frequency')


def _draw_logits(
    axes: Any, probability: np.ndarray, labels: np.ndarray, positive: str, negative: str
) -> None:
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    logits = np.log(clipped / (1 - clipped))
    reach = max(1.0, float(np.abs(logits).max()))
    edges = np.linspace(-reach, reach, int(np.clip(2 * np.sqrt(len(logits)), 8, 40)) // 2 * 2 + 1)
    axes.hist(
        [logits[~labels], logits[labels]],
        edges,
        color=[NEGATIVE, POSITIVE],
        label=[negative, positive],
        rwidth=0.85,
    )
    axes.axvline(0, **_GUIDE)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
    axes.legend(fontsize=8.5, frameon=False, loc='upper left', ncols=2, columnspacing=1.0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    _titled(axes, 'Calibrated logits', 'logit (0 is the threshold)', 'images')


def draw_classes(rows: Rows, metrics: Mapping[str, Any], classes: Sequence[str]) -> Any:
    """Draw the ROC of each class against the rest, within folds, and the reliability."""
    folds = np.array([str(row['fold']) for row in rows])
    figure = new_figure(10.0, 3.5)
    axes = figure.add_axes((0.06, 0.15, 0.3, 0.73))
    for index, name in enumerate(classes):
        chance = np.array([float(row[f'probability_{name}']) for row in rows])
        labels = np.array([str(row['truth']) == name for row in rows])
        at, mean, _ = mean_roc(chance, labels, folds)
        colour = FOLD_COLOURS[index % len(FOLD_COLOURS)]
        axes.plot(np.append(0, at), np.append(0, mean), color=colour, linewidth=1.8, label=name)
    axes.plot([0, 1], [0, 1], **_GUIDE)
    axes.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.03, 1), loc='upper left')
    _titled(axes, 'Each class against the rest', '1 - specificity', 'sensitivity')
    right = figure.add_axes((0.6, 0.15, 0.3, 0.73))
    _draw_reliability(right, metrics, 'probability of the most probable class')
    return figure


def draw_numbers(rows: Rows, metrics: Mapping[str, Any], label: str) -> Any:
    """Draw predicted values and errors against true values, one colour per fold."""
    figure = new_figure(10.0, 4.0)
    left, right = (figure.add_axes((start, 0.13, 0.36, 0.78)) for start in (0.06, 0.5))
    truth, said = (np.array([float(row[key]) for row in rows]) for key in ('truth', 'predicted'))
    folds = np.array([str(row['fold']) for row in rows])
    for index, fold in enumerate(np.unique(folds)):
        here = folds == fold
        style = {'s': 20, 'color': FOLD_COLOURS[index % len(FOLD_COLOURS)], 'alpha': 0.8}
        left.scatter(truth[here], said[here], **style)
        right.scatter(truth[here], said[here] - truth[here], label=f'fold {fold}', **style)
    ends = [min(truth.min(), said.min()), max(truth.max(), said.max())]
    left.plot(ends, ends, **_GUIDE)
    right.axhline(0, **_GUIDE)
    right.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.0, 1), loc='upper left')
    _titled(left, f'r {estimate_text(metrics["pearson_r"])}', f'true {label}', f'predicted {label}')
    error = f'Mean absolute error {estimate_text(metrics["mae"])}'
    _titled(right, error, f'true {label}', 'predicted - true')
    return figure


def draw_confounds(rows: Rows, chance: float, name: str) -> Any:
    """Draw the performance of the classifier, the covariates and the brain outline.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of :func:`bids_interp.reports.training.training_text.merit_rows`.
    chance : float
        Chance level: 0.5 for an AUC, 0 for a correlation.
    name : str
        Name of the performance measure.
    """
    height = 0.34 * len(rows) + 0.75
    figure = new_figure(10.0, height)
    axes = figure.add_axes((0.25, 0.52 / height, 0.55, 1 - 0.6 / height))
    for index, row in enumerate(rows):
        estimate, strong = row['estimate'], row['kind'] == 'classifier'
        colour = INK if strong else '#7a4b00' if row['kind'] != 'covariate' else '#b08d57'
        ends = [estimate.get('low'), estimate.get('high')]
        if None not in ends:
            axes.plot(ends, [index, index], color=colour, linewidth=2.6 if strong else 1.8)
        axes.plot(estimate['value'], index, 'D' if strong else 'o', color=colour, markersize=7)
        right = axes.get_yaxis_transform()
        label = f'{row["text"]}' + (f', p = {row["p"]}' if row['p'] else '')
        axes.text(1.02, index, label, transform=right, fontsize=8.5, va='center', color=INK)
    axes.axvline(chance, **_GUIDE)
    lows = [row['estimate'].get('low') or chance for row in rows]
    axes.set_xlim(min(2 * chance - 1 if min(lows) < 0 else 0.0, min(lows)) - 0.01, 1.01)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row['name'] for row in rows])
    axes.set_xlabel(name, fontsize=9)
    style_axes(axes)
    axes.grid(visible=False, axis='y')
    return figure


def figure_uri(draw: Callable[[], Any], name: str) -> str:
    """Return the data URI of a figure; empty, with an error in the log, if it cannot be drawn."""
    import logging

    try:
        figure = draw()
        return svg_uri(figure, name) if figure is not None else ''
    except Exception:
        logging.getLogger('bids_interp.reports').exception(
            'The figure “%s” could not be drawn.', name
        )
        return ''
