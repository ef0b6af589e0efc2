"""The sanity checks of a training in words, for its report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sanity_words(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks were, what they found, and what follows.

    Parameters
    ----------
    metrics : mapping
        Of a training, with ``sanity`` of :func:`bids_interp.training.sanity.check_fold` where it
        was asked for.

    Returns
    -------
    dict
        ``rows`` (``name``, ``value``, ``wanted``, ``verdict``), ``head`` and ``notes``; empty where
        nothing was checked.
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
            _destroyed(name, row['ncc'], limit)
            if is_last
            else _shown(name, row['ncc'], 'on its way')
        )
    if 'permuted_labels' in found:
        name = 'Classifier trained with exchanged labels'
        rows.append(_destroyed(name, found['permuted_labels']['ncc'], limit))
    if 'second_seed' in found:
        name = 'Classifier and simulator from another seed'
        rows.append(_shown(name, found['second_seed']['ncc']))
    folds = (metrics.get('simulator') or {}).get('fold_ncc') or {}
    if folds.get('inject') is not None:
        rows.append(_shown('Maps of two folds, mean over pairs', folds['inject']))
    rows.append(_shown('Map of these checks and map of the fold', found['original_ncc']))
    return {'rows': rows, 'head': _head(found), 'notes': _notes(found)}


def _destroyed(name: str, score: float, limit: float) -> dict[str, str]:
    verdict = 'vanished' if abs(score) < limit else 'still there'
    wanted = f'between -{limit:g} and {limit:g}'
    return {'name': name, 'value': f'{score:.2f}', 'wanted': wanted, 'verdict': verdict}


def _shown(name: str, score: float, wanted: str = 'near 1') -> dict[str, str]:
    return {'name': name, 'value': f'{score:.2f}', 'wanted': wanted, 'verdict': ''}


def _layers(count: int, of: int) -> str:
    """Which layers are noise.

    >>> _layers(1, 5), _layers(3, 5), _layers(5, 5)
    ('Last layer is noise', 'Last 3 of 5 layers are noise', 'All 5 layers are noise')
    """
    if count == of:
        return f'All {of} layers are noise'
    return 'Last layer is noise' if count == 1 else f'Last {count} of {of} layers are noise'


def _head(found: Mapping[str, Any]) -> str:
    n_checks = bool(found['randomised']) + ('permuted_labels' in found)
    kept = len(found['above_limit'])
    if not n_checks:
        return 'Nothing could be checked.'
    if not kept:
        return 'The map vanishes with what the classifier has learned, as it should.'
    return (
        f'In {kept} of {n_checks} checks the map did not vanish: part of what it shows comes from '
        'the images or the simulator, not from what the classifier has learned.'
    )


def _notes(found: Mapping[str, Any]) -> list[str]:
    """How the checks were made, and what they cannot say."""
    notes = [
        f'Only fold {found["fold"]} was checked. Each map is that of a simulator with one change '
        f'for all subjects, trained alike for {found["steps"]} steps; numbers are correlations '
        '(NCC) inside the brain with the map for the classifier of the fold. A map of opposite '
        'sign counts as the same map.',
        'One draw of noise and of labels each: a single number near the limit says little.',
    ]
    if len(found['randomised']) > 1:
        notes.append(
            'While some layers are left, so is some of what they have learned: only with noise in '
            'all of them must the map have vanished.'
        )
    if 'permuted_labels' in found:
        left = found['permuted_labels']['association']
        notes.append(
            'Labels were exchanged within the parts of the fold, families kept together; their '
            f'association with the true ones is {left:.2f} (0: none, 1: the same).'
        )
    names = {
        'randomised': 'Noise in the layers',
        'permuted_labels': 'Exchanged labels',
        'second_seed': 'Another seed',
    }
    for check, reason in found['left_out'].items():
        notes.append(f'{names[check]}: not done, {reason}.')
    return notes
