"""Report of a training: a single self-contained HTML file that begins with the verdict."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_interp.constants import SIGN
from bids_interp.evaluation.verdict import is_above_chance
from bids_interp.models.bundle.fold_metrics import has_pattern, is_explained
from bids_interp.reports.scan.summary import Caution
from bids_interp.reports.training.learning_curves import Curves, read_curves
from bids_interp.reports.training.pattern_text import (
    gate_head,
    gate_rows,
    pattern_head,
    pattern_rows,
    unwarranted_text,
)
from bids_interp.reports.training.sanity_text import sanity_summary
from bids_interp.reports.training.training_text import (
    choice_rows,
    estimate_text,
    left_out_text,
    limits_of,
    map_rows,
    merit_rows,
    metric_rows,
    model_details,
    verdict_text,
)
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig

__all__ = ['read_curves', 'write_training_report']

Rows = Sequence[Mapping[str, Any]]

#: Alternative text and caption of the figure of the predictions.
_ANSWERS = {
    'binary': (
        'ROC, reliability and logits',
        'Left: ROC of each fold and their mean, weighted by pairs of images; its area is the AUC. '
        'Middle: observed frequency of the positive class against its probability, in bins (dot '
        'size: images; lines: one standard error). Right: calibrated logits. '
        'Dashed: chance, perfect calibration, threshold.',
    ),
    'multiclass': (
        'ROC of each class against the rest, and reliability',
        'Left: mean ROC of the folds, weighted by pairs of images. Right: share of correct '
        'predictions against the probability of the predicted class, in bins (dot size: images; '
        'lines: one standard error). Dashed: chance, perfect calibration.',
    ),
    'regression': ('Predicted values and errors', 'One dot per image. Dashed: no error.'),
}


def write_training_report(
    path: Path,
    *,
    config: BundleConfig,
    metrics: Mapping[str, Any],
    oof: Rows,
    curves: Curves,
    folds_table: Rows,
    covariates: Mapping[str, Any] | None = None,
    mask: Mapping[str, Any] | None = None,
    maps: Mapping[str, Any] | None = None,
    map_files: Mapping[str, Path] | None = None,
) -> Path:
    """Write the report of a training.

    A figure that cannot be drawn is logged, and the page says that it is missing.

    Parameters
    ----------
    path : pathlib.Path
        Output file.
    config : BundleConfig
        Configuration of the bundle.
    metrics : mapping
        Metrics of :func:`bids_interp.evaluation.classification.out_of_fold_metrics`.
    oof : sequence of mapping
        One row per image, of :func:`bids_interp.evaluation.out_of_fold.out_of_fold_rows`.
    curves : mapping of str to rows
        Curves of :func:`read_curves`.
    folds_table : sequence of mapping
        One row per fold with any columns.
    covariates, mask : mapping, optional
        Metrics of :func:`bids_interp.evaluation.confounds.covariate_metrics` and ``mask_metrics``;
        by default those in ``metrics``.
    maps : mapping, optional
        Nested numbers of simulators and maps, such as ``split_half_ncc``.
    map_files : mapping of str to path, optional
        Mean log-Jacobian maps to show, by name.

    Returns
    -------
    pathlib.Path
        ``path``.
    """
    from bids_interp.reports.common.montage import write_bytes
    from bids_interp.reports.common.sections import PAGE
    from bids_interp.reports.scan.scan_report import html_environment

    confound_metrics = {'covariates': covariates, 'mask': mask}
    joint = {**metrics, **{k: v for k, v in confound_metrics.items() if v is not None}}
    confounds = merit_rows(joint)
    style = ''.join((PAGE / name).read_text('utf-8') for name in ('style.css', 'training.css'))
    page = html_environment(PAGE).get_template('training.html.j2')
    content = page.render(
        **_model_fields(config, joint, confounds),
        maps=map_rows(maps),
        mosaics=_mosaics(map_files or {}, config.template),
        sanity=sanity_summary(joint),
        folds=_table(folds_table),
        answers=_table(oof),
        pictures=_pictures(config, joint, oof, curves, confounds),
        style=style,
        sign=SIGN,
        version=__version__,
    )
    return write_bytes(Path(path), content.encode('utf-8'))


def _model_fields(
    config: BundleConfig, metrics: Mapping[str, Any], confounds: list[dict[str, Any]]
) -> dict[str, Any]:
    """Fields of the page about the model, its metrics and their limits."""
    return {
        'name': config.name,
        'description': config.description or '',
        'demonstration': config.demonstration,
        'verdict': _verdict(metrics),
        'details': model_details(config),
        'cautions': _cautions(metrics, confounds),
        'pattern': {'head': pattern_head(metrics), 'table': _table(pattern_rows(config))},
        'gate': {'head': gate_head(metrics), 'table': _table(gate_rows(config))},
        'unwarranted': unwarranted_text(metrics),
        'choices': choice_rows(metrics),
        'measure': 'r' if config.target.kind == 'regression' else 'AUC',
        'rows': metric_rows(metrics),
        'confusion': _confusion(metrics),
        'confounds': confounds,
        'left_out': left_out_text(metrics),
        'sites': _sites(metrics),
        'limits': limits_of(metrics),
    }


def _verdict(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Headline, rest and tone of the verdict."""
    sentence = verdict_text(metrics)
    if not sentence:
        return {
            'head': 'Not judged',
            'rest': 'No out-of-fold metrics are available.',
            'tone': 'open',
        }
    head, _, rest = sentence.partition(': ')
    tone = {True: 'yes', False: 'no', None: 'open'}[is_above_chance(metrics)]
    return {'head': head, 'rest': rest[:1].upper() + rest[1:], 'tone': tone}


def _cautions(metrics: Mapping[str, Any], confounds: list[dict[str, Any]]) -> list[Caution]:
    """Limitations of these metrics."""
    cautions = []
    if unwarranted_text(metrics):
        name = 'untrained' if not is_explained(metrics) else 'chance'
        name = name if has_pattern(metrics) else 'no-pattern'
        cautions.append(Caution(name, unwarranted_text(metrics)))
    merit, chance = ('r', 0.0) if 'pearson_r' in metrics else ('AUC', 0.5)
    for row in confounds:
        low = row['estimate'].get('low')
        if row['kind'] in ('covariates', 'mask') and low is not None and low > chance:
            text = (
                f'{row["name"]}: {merit} {row["text"]}. The classifiers may have learned this '
                'rather than the target.'
            )
            cautions.append(Caution(row['kind'], text))
    counts = np.array(list((metrics.get('n_per_class') or {}).values()), dtype=float)
    brier = (metrics.get('brier') or {}).get('value')
    if brier is not None and counts.sum():
        shares = counts / counts.sum()
        ignorant = float(1 - (shares**2).sum()) / (2 if len(counts) == 2 else 1)
        if brier >= ignorant:
            text = (
                'Probabilities are no better than the frequencies of the classes '
                f'(Brier score {brier:.2f} against {ignorant:.2f}).'
            )
            cautions.append(Caution('brier', text))
    if left_out_text(metrics):
        cautions.append(Caution('left-out', left_out_text(metrics)))
    return cautions


def _confusion(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, shaded by their share of the row; empty with two classes."""
    counts = metrics.get('confusion')
    if not counts:
        return {}
    classes = list(metrics['n_per_class'])
    rows = []
    for label, row in zip(classes, counts, strict=True):
        total = sum(row) or 1
        cells = [{'n': n, 'shade': round(0.85 * n / total, 2)} for n in row]
        rows.append({'label': label, 'cells': cells})
    return {'classes': classes, 'rows': rows}


def _sites(metrics: Mapping[str, Any]) -> dict[str, Any]:
    table = metrics.get('per_site') or {}
    names = {'auc': 'AUC', 'balanced_accuracy': 'balanced accuracy', 'mae': 'mean absolute error'}
    rows = []
    for site, numbers in table.items():
        row = {'site': site, 'images': numbers.get('n')}
        row |= numbers.get('n_per_class') or {}
        for key, name in ({**names, 'pearson_r': 'r'}).items():
            if key in numbers:
                row[name] = estimate_text(numbers[key])
        rows.append(row)
    return _table(rows)


def _table(rows: Rows) -> dict[str, Any]:
    """Headings, cells and flags of numeric columns; empty without rows."""
    if not rows:
        return {}
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(_is_number(row[index]) for row in cells) for index in range(len(columns))]
    headings = [str(column).replace('_', ' ') for column in columns]
    return {'headings': headings, 'rows': cells, 'numeric': numeric}


def _cell(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else 'n/a' if value is None else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == 'n/a'
    return True


def _mosaics(map_files: Mapping[str, Path], space: str) -> list[dict[str, str]]:
    """Data URIs of the mean maps; empty if they cannot be drawn."""
    from bids_interp.reports.training.training_map_figures import draw_mean_maps

    try:
        return draw_mean_maps(map_files, space)
    except Exception:
        logging.getLogger('bids_interp.reports').exception('The mean maps could not be drawn.')
        return []


def _pictures(
    config: BundleConfig,
    metrics: Mapping[str, Any],
    oof: Rows,
    curves: Curves,
    confounds: list[dict[str, Any]],
) -> dict[str, str]:
    """Data URIs and captions of the figures; an empty URI without data."""
    from bids_interp.reports.training.answer_figures import draw_confounds, figure_uri
    from bids_interp.reports.training.learning_curves import draw_curves

    kind = metrics.get('kind', 'binary')
    label = config.target.label or 'value'
    chance, name = (0.0, "Pearson's r") if kind == 'regression' else (0.5, 'AUC')
    name += ', mean over classes, within folds' if kind == 'multiclass' else ' within folds'
    shown = {'answers': '', 'confounds': ''}
    if oof:
        shown['answers'] = figure_uri(lambda: _draw_answers(kind, oof, metrics, label), 'answers')
    if confounds:
        draw = partial(draw_confounds, confounds, chance, name)
        shown['confounds'] = figure_uri(draw, 'confounds')
    alt, caption = _ANSWERS[kind]
    curve = figure_uri(lambda: draw_curves(curves), 'curves')
    return {**shown, 'curves': curve, 'answers_alt': alt, 'answers_caption': caption}


def _draw_answers(kind: str, oof: Rows, metrics: Mapping[str, Any], label: str) -> Any:
    """Draw the out-of-fold predictions for the kind of target."""
    from bids_interp.reports.training.answer_figures import draw_answers, draw_classes, draw_numbers

    if kind == 'regression':
        return draw_numbers(oof, metrics, label)
    if kind == 'multiclass':
        return draw_classes(oof, metrics, list(metrics['n_per_class']))
    negative, positive = metrics['n_per_class']
    return draw_answers(oof, metrics, positive, negative)
