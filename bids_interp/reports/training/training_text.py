"""Text about a trained model, for the training report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_interp.evaluation.verdict import p_text, verdict_sentence
from bids_interp.spatial.grid import Grid

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig
    from bids_interp.models.target import Target

#: Metrics with an interval, in the order of the report: name and meaning.
MEASURES = {
    'auc': (
        'AUC',
        'probability that a positive image ranks above a negative image of the same fold; 0.5 is '
        'chance',
    ),
    'balanced_accuracy': ('Balanced accuracy', 'mean share of correct predictions over classes'),
    'sensitivity': ('Sensitivity', 'share of the positive class that is predicted positive'),
    'specificity': ('Specificity', 'share of the negative class that is predicted negative'),
    'accuracy': ('Accuracy', 'share of correct predictions'),
    'brier': ('Brier score', 'squared error of the probabilities; 0 is best'),
    'ece': (
        'Calibration error (ECE)',
        'probability against observed frequency in equal-width bins',
    ),
    'pearson_r': (
        "Pearson's r",
        'correlation of predicted and true values after removing the mean of each fold',
    ),
    'r2': ('R²', 'share of explained variance'),
    'mae': ('Mean absolute error', 'in units of the target'),
    'mae_of_mean': (
        'Mean absolute error of the mean',
        'error of predicting the mean of the other folds',
    ),
}

_MAP_NAMES = {
    'split_half_ncc': 'Split-half agreement of the maps (NCC)',
    'validity': 'Validity: share beyond the class midpoint at dose 1',
    'effectiveness': 'Shift of the logit / class gap',
    'group_ncc': 'Group map against the ground truth (NCC)',
    'subject_ncc': 'Single maps against the ground truth (NCC)',
    'displacement_ncc': 'Displacements against the ground truth (NCC)',
    'volume_share': 'Volume share',
    'group_sign_accuracy': 'Correct sign where the truth is not zero',
    'log_jacobian_range': 'Range of the log-Jacobian',
    'truth_range': 'Range of the truth',
    'audit_ncc': 'Audit map against anatomical map (NCC)',
    'fold_ncc': 'Agreement of the maps of two folds (NCC)',
    'gate': 'Simulators',
    'least_auc': 'smallest validation AUC',
    'n_folded': 'Folded voxels',
    'n': 'Images',
    'inject': 'injected',
    'remove': 'removed',
}

_INTERVALS = (
    'Intervals are bootstrap intervals over families. They do not include the variability of '
    'training on other subjects or with another seed.'
)
_PERMUTATION = (
    'p is one-sided. Labels are exchanged within folds, keeping families together. The models are '
    'not retrained for each permutation; to compensate, the null distribution is widened by √2.'
)
_ALWAYS = (
    'Scanners, sites, ages and diseases other than those of the training data were not tested.',
    'A classifier above chance may use covariates, the outline of the brain, the scanner or image '
    'quality. Maps show what it uses, not what causes a disease.',
    'Do not use single predictions for decisions about a person.',
)


def limits_of(metrics: Mapping[str, Any]) -> list[str]:
    """Return the limits of the metrics as sentences."""
    limits = [_INTERVALS] if metric_rows(metrics) else []
    if 'permutation_p_fixed_models' in metrics:
        limits.append(_PERMUTATION)
    return [*limits, *_ALWAYS]


def estimate_text(estimate: Any, digits: int = 2) -> str:
    """Return value and interval as text.

    >>> estimate_text({'value': 0.931, 'low': 0.85, 'high': 0.98})
    '0.93 (0.85 to 0.98)'
    >>> estimate_text(0.5), estimate_text([0.25, 0.5]), estimate_text(None), estimate_text(3)
    ('0.50', '0.25 to 0.50', 'n/a', '3')
    """
    if isinstance(estimate, Mapping):
        text = estimate_text(estimate.get('value'), digits)
        ends = [estimate.get('low'), estimate.get('high')]
        return text if None in ends else f'{text} ({estimate_text(ends, digits)})'
    if isinstance(estimate, list | tuple):
        joint = ' to ' if len(estimate) == 2 else ', '
        return joint.join(estimate_text(value, digits) for value in estimate)
    if isinstance(estimate, bool | str | int):
        return {True: 'yes', False: 'no'}[estimate] if isinstance(estimate, bool) else str(estimate)
    return f'{estimate:.{digits}f}' if isinstance(estimate, float) else 'n/a'


def verdict_text(metrics: Mapping[str, Any]) -> str:
    """Return the verdict in the metrics, or derive it from them; empty without metrics."""
    if metrics.get('verdict'):
        return str(metrics['verdict'])
    merit = metrics.get('pearson_r' if metrics.get('kind') == 'regression' else 'auc')
    if metrics.get('permutation_p') is None or not isinstance(merit, Mapping):
        return ''
    return verdict_sentence(metrics)


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return key, name, value with interval, and meaning of each available metric."""
    rows = []
    for key, (name, meaning) in MEASURES.items():
        if metrics.get(key) is None:
            continue
        if key == 'auc' and metrics.get('kind') == 'multiclass':
            name, meaning = 'AUC, mean over classes', 'each class against the rest, within folds'
        if key == 'ece' and 'ece_bins' in metrics:
            meaning = (
                f'probability against observed frequency in {metrics["ece_bins"]} equal-width bins'
            )
        row = {'key': key, 'name': name, 'value': estimate_text(metrics[key])}
        rows.append({**row, 'meaning': meaning})
    for key, name in (('auc_per_class', 'AUC'), ('sensitivity_per_class', 'Sensitivity')):
        for label, estimate in (metrics.get(key) or {}).items():
            row = {'key': key, 'name': f'{name}, {label}', 'value': estimate_text(estimate)}
            rows.append({**row, 'meaning': 'this class against the rest'})
    if metrics.get('permutation_p') is not None:
        value = p_text(metrics['permutation_p'])
        row = {'key': 'permutation_p', 'name': 'Permutation p', 'value': value}
        rows.append({**row, 'meaning': 'one-sided; labels exchanged within folds'})
    return rows


def merit_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the performance of the classifier, of the covariates and of the outline alone.

    Parameters
    ----------
    metrics : mapping
        Metrics of the classifier; ``covariates`` and ``mask`` are optional.

    Returns
    -------
    list of dict
        ``name``, ``estimate``, ``text``, ``p`` and ``kind`` (classifier, covariates, covariate or
        mask).
    """
    key = 'pearson_r' if metrics.get('kind') == 'regression' else 'auc'
    covariates, mask = metrics.get('covariates') or {}, metrics.get('mask') or {}
    found = [('classifier', 'Classifier', metrics), ('covariates', 'Covariates alone', covariates)]
    alone = covariates.get('per_covariate') or {}
    if len(alone) > 1:
        found += [('covariate', f'{name} alone', numbers) for name, numbers in alone.items()]
    elif alone:
        found[1] = ('covariates', f'Covariates alone ({next(iter(alone))})', covariates)
    found.append(('mask', 'Outline of the brain alone', mask))
    rows = []
    for kind, name, numbers in found:
        estimate, p = numbers.get(key), numbers.get('permutation_p')
        if isinstance(estimate, Mapping) and estimate.get('value') is not None:
            row = {'kind': kind, 'name': name, 'estimate': estimate}
            row |= {'text': estimate_text(estimate), 'p': '' if p is None else p_text(p)}
            rows.append(row)
    return rows


def left_out_text(metrics: Mapping[str, Any]) -> str:
    """Return a sentence with the unused covariates; empty if all were used.

    >>> left_out_text({'covariates': {'left_out': {'site': 'constant'}}})
    'Left out: site (constant).'
    """
    reasons: dict[str, str] = {}
    for key in ('covariates', 'mask'):
        reasons |= (metrics.get(key) or {}).get('left_out') or {}
    if not reasons:
        return ''
    return 'Left out: ' + ', '.join(f'{name} ({why})' for name, why in reasons.items()) + '.'


def choice_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name, scores and role of each classifier that was compared or left out."""
    choice = metrics.get('classifier_choice') or {}
    rows = []
    for candidate in choice.get('candidates', ()):
        is_explained = candidate['classifier'] == choice['explained']
        rows.append(
            {
                'name': candidate['classifier'],
                'validation': estimate_text(candidate['validation']),
                'test': estimate_text(candidate['test']),
                'role': 'explained' if is_explained else 'not explained',
            }
        )
    for name, reason in (choice.get('left_out') or {}).items():
        rows.append(
            {'name': name, 'validation': 'n/a', 'test': 'n/a', 'role': f'not trained: {reason}'}
        )
    return rows


def map_rows(maps: Mapping[str, Any] | None, prefix: str = '') -> list[dict[str, str]]:
    """Return name and value of all nested numbers of simulators and maps.

    >>> map_rows({'validity': {'inject': 0.96}, 'n_folded': 0})
    [{'name': 'Validity: share beyond the class midpoint at dose 1, injected', 'value': '0.96'},
     {'name': 'Folded voxels', 'value': '0'}]
    """
    rows: list[dict[str, str]] = []
    for key, value in (maps or {}).items():
        name = _MAP_NAMES.get(key, str(key).replace('_', ' '))
        name = f'{prefix}, {name}' if prefix else name[:1].upper() + name[1:]
        if isinstance(value, Mapping) and 'value' not in value:
            rows += map_rows(value, name)
        elif value is not None:
            rows.append({'name': name, 'value': estimate_text(value)})
    return rows


def grid_text(grid: Grid) -> str:
    """Return size, spacing and space of a grid as text.

    >>> grid_text(Grid((4, 5, 6), np.diag([-4, 4, 4, 1]), 'MNI'))
    '4 x 5 x 6 voxels of 4 mm, MNI'
    """
    sides = grid.spacing[:1] if np.allclose(grid.spacing, grid.spacing[0]) else grid.spacing
    size, spacing = ' x '.join(map(str, grid.shape)), ' x '.join(f'{side:.3g}' for side in sides)
    text = f'{size} voxels of {spacing} mm'
    return f'{text}, {grid.space}' if grid.space else text


def target_text(target: Target) -> str:
    """Return a description of the target.

    >>> from bids_interp.models.target import Target
    >>> target_text(Target('binary', 'group', ('hc', 'depr')))
    '“group”: depr (positive) against hc (negative)'
    >>> target_text(Target('regression', 'age'))
    '“age”, a number'
    """
    name = f'“{target.label}”' if target.label else 'the label'
    if target.kind == 'regression':
        return f'{name}, a number'
    if target.kind == 'binary':
        return f'{name}: {target.classes[1]} (positive) against {target.classes[0]} (negative)'
    return f'{name}: ' + ', '.join(target.classes)


def pairs_text(pairs: Any) -> str:
    """Return names and values, a list, or any value in one line.

    >>> pairs_text({'a': 3, 'b': 4}), pairs_text(['age', 'sex']), pairs_text('ds1')
    ('a 3, b 4', 'age, sex', 'ds1')
    """
    if isinstance(pairs, Mapping):
        return ', '.join(f'{name} {value}' for name, value in pairs.items())
    return ', '.join(map(str, pairs)) if isinstance(pairs, list | tuple) else str(pairs)


def model_details(config: BundleConfig) -> list[tuple[str, str]]:
    """Return a description of a model: data, networks and training, as far as configured.

    Parameters
    ----------
    config : BundleConfig
        Configuration of a model bundle.
    """
    from bids_interp.models.bundle.schema import TrainingFacts

    training = config.training or TrainingFacts()
    counts = [(training.n_images, 'images'), (training.n_families, 'families')]
    made = [text for text in (config.created, config.version) if text]
    facts: list[tuple[str, Any]] = [
        ('Data', training.dataset),
        ('Size', ', '.join(f'{count} {word}' for count, word in counts if count)),
        ('Target', target_text(config.target)),
        ('Images per class', training.n_per_class),
        ('Covariates', training.covariates),
        ('Folds', len(config.folds)),
        ('Grid', grid_text(config.grid)),
        ('Template', config.template),
        ('Preset', training.preset),
        ('Classifier', config.classifier.architecture),
        ('Simulator', config.simulator.capacity),
        ('Seed', training.seed),
        ('Machine', training.device),
        ('Made', ' with bids_interp '.join(made)),
        ('Versions', training.versions),
    ]
    return [
        (name, pairs_text(value))
        for name, value in facts
        if value or (name == 'Seed' and value == 0)
    ]
