"""Sanity checks of a training as text, for its report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Verdicts on a map of a classifier that has learned nothing.
VANISHED, KEPT = 'vanished', 'still present'


def sanity_summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checks, their results and the conclusion.

    Parameters
    ----------
    metrics : mapping
        Metrics of a training; ``sanity``, of :func:`bids_interp.training.sanity.check_fold`, is
        optional.

    Returns
    -------
    dict
        ``rows`` (``check``, ``name``, ``value``, ``expected``, ``verdict``), ``checked`` (number of
        checks), ``kept`` (number of checks in which the map did not vanish), ``head`` and
        ``notes``; empty without checks.
    """
    found = metrics.get('sanity')
    if not found:
        return {}
    limit = found['limit']
    rows = []
    for row in found['randomised']:
        name = _layers(row['layers'], row['of'])
        is_last = row['layers'] == row['of']
        rows.append(
            _destroyed('randomised', name, row['ncc'], limit)
            if is_last
            else _shown('randomised', name, row['ncc'], 'intermediate')
        )
    if 'permuted_labels' in found:
        name = 'Classifier trained with exchanged labels'
        rows.append(_destroyed('permuted_labels', name, found['permuted_labels']['ncc'], limit))
    if 'second_seed' in found:
        name = 'Classifier and simulator from another seed'
        rows.append(_shown('second_seed', name, found['second_seed']['ncc']))
    folds = (metrics.get('simulator') or {}).get('fold_ncc') or {}
    if folds.get('inject') is not None:
        rows.append(_shown('folds', 'Maps of two folds, mean over pairs', folds['inject']))
    rows.append(
        _shown('original', 'Map of these checks and map of the fold', found['original_ncc'])
    )
    checked = bool(found['randomised']) + ('permuted_labels' in found)
    kept = len(found['above_limit'])
    head = _head(checked, kept)
    return {'rows': rows, 'checked': checked, 'kept': kept, 'head': head, 'notes': _notes(found)}


def _destroyed(check: str, name: str, score: float, limit: float) -> dict[str, str]:
    verdict = VANISHED if abs(score) < limit else KEPT
    expected = f'between -{limit:g} and {limit:g}'
    row = {'check': check, 'name': name, 'value': f'{score:.2f}'}
    return {**row, 'expected': expected, 'verdict': verdict}


def _shown(check: str, name: str, score: float, expected: str = 'near 1') -> dict[str, str]:
    row = {'check': check, 'name': name, 'value': f'{score:.2f}'}
    return {**row, 'expected': expected, 'verdict': ''}


def _layers(count: int, of: int) -> str:
    """Return a name for the layers that are noise.

    >>> _layers(1, 5), _layers(3, 5), _layers(5, 5)
    ('Last layer is noise', 'Last 3 of 5 layers are noise', 'All 5 layers are noise')
    """
    if count == of:
        return f'All {of} layers are noise'
    return 'Last layer is noise' if count == 1 else f'Last {count} of {of} layers are noise'


def _head(checked: int, kept: int) -> str:
    if not checked:
        return 'Nothing could be checked.'
    if not kept:
        return 'The map vanishes if the classifier has learned nothing, as it should.'
    return (
        f'In {kept} of {checked} checks the map did not vanish, so part of it comes from the '
        'images or the simulator and not from what the classifier has learned.'
    )


def _notes(found: Mapping[str, Any]) -> list[str]:
    """Notes on the method of the checks and its limits."""
    notes = [
        f'Only fold {found["fold"]} was checked. Each map comes from a simulator with one change '
        f'for all subjects, trained in the same way for {found["steps"]} steps. Numbers are '
        'correlations (NCC) inside the brain with the map for the classifier of the fold. A map of '
        'opposite sign counts as the same map.',
        'Noise and labels were drawn once each: a single number near the limit says little.',
    ]
    if len(found['randomised']) > 1:
        notes.append(
            'Layers that are not replaced keep what they have learned, so the map must vanish only '
            'with noise in all layers.'
        )
    if 'permuted_labels' in found:
        left = found['permuted_labels']['association']
        notes.append(
            'Labels were exchanged within the splits of the fold, keeping families together; their '
            f'association with the true labels is {left:.2f} (0: none, 1: identical).'
        )
    names = {
        'randomised': 'Noise in the layers',
        'permuted_labels': 'Exchanged labels',
        'second_seed': 'Another seed',
    }
    for check, reason in found['left_out'].items():
        notes.append(f'{names[check]}: skipped, {reason}.')
    return notes
