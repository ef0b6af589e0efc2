"""Verdict on a classifier in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bids_interp.models.bundle.fold_metrics import has_pattern, is_explained

#: Smallest p value at which a classifier is not above chance.
LEVEL = 0.05

_NAMES = {'binary': ('AUC', 'auc'), 'multiclass': ('mean one-against-rest AUC', 'auc')}
_NAMES |= {'regression': ("Pearson's r", 'pearson_r')}


def is_above_chance(metrics: Mapping[str, Any]) -> bool | None:
    """Return whether a classifier is above chance, or None if it was not measured.

    >>> is_above_chance({'permutation_p': 0.38}), is_above_chance({})
    (False, None)
    """
    p = metrics.get('permutation_p')
    warranted = metrics.get('explanation_warranted', None if p is None else p < LEVEL)
    return None if warranted is None else bool(warranted)


def verdict_sentence(metrics: Mapping[str, Any]) -> str:
    """Summarise whether a classifier is above chance, for log, model card and report.

    Parameters
    ----------
    metrics : mapping
        Result of :func:`bids_interp.evaluation.classification.out_of_fold_metrics`, with
        ``permutation_p``, ``kind`` [default: binary] and the measure of this kind.

    Examples
    --------
    >>> verdict_sentence({'auc': {'value': 0.52, 'low': 0.4, 'high': 0.64}, 'permutation_p': 0.38})
    'Not above chance: out-of-fold AUC 0.52 (95 % interval 0.40 to 0.64), permutation p = 0.38. No explanation is warranted.'
    """  # noqa: E501
    name, key = _NAMES[metrics.get('kind', 'binary')]
    estimate, p = metrics[key], metrics['permutation_p']
    numbers = f'out-of-fold {name} {estimate["value"]:.2f}'
    if estimate.get('low') is not None and estimate.get('high') is not None:
        numbers += f' (95 % interval {estimate["low"]:.2f} to {estimate["high"]:.2f})'
    numbers += f', permutation p = {p_text(p)}.'
    lacks_pattern = not has_pattern(metrics)
    if lacks_pattern:
        pattern = metrics['simulator']['pattern']
        numbers += (
            f' In {pattern["count"] - pattern["found"]} of {pattern["count"]} fits the classifier '
            'did not respond to the measured difference between the classes.'
        )
    lacks_gate = not is_explained(metrics)
    if lacks_gate:
        gate = metrics['simulator']['gate']
        numbers += (
            f' {gate["count"] - gate["trained"]} of {gate["count"]} simulators were not trained, '
            'because their classifiers do not separate the classes well enough (validation AUC '
            f'below {gate["least_auc"]:g}).'
        )
    if is_above_chance(metrics):
        return f'Above chance: {numbers}'
    start = 'Not above chance'
    if p < LEVEL:
        start = 'Nothing to explain' if lacks_gate else 'No pattern' if lacks_pattern else start
    return f'{start}: {numbers} No explanation is warranted.'


def p_text(p: float) -> str:
    """Format a p value with enough digits near the level and near zero.

    >>> p_text(0.38123), p_text(0.0496), p_text(0.0004998)
    ('0.38', '0.050', '0.0005')
    """
    return f'{p:.2f}' if p >= 0.1 else f'{p:.3f}' if p >= 0.01 else f'{p:.4f}'
