"""The sanity checks of a training in words, for its report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Verdicts on a map for a classifier that has unlearned everything.
VANISHED, KEPT = 'vanished', 'still there'


def sanity_summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks were, what they found, and what follows.

    Parameters
    ----------
    metrics : mapping
        Of a training, with ``sanity`` of :func:`bids_interp.training.sanity.check_fold` where it
        was asked for.

    Returns
    -------
    dict
        ``rows`` (``check``, ``name``, ``value``, ``wanted``, ``verdict``), ``checked`` and ``kept``
        (number of checks, and of those in which the map did not vanish), ``head`` and ``notes``;
        empty where nothing was checked.
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
            else _shown('randomised', name, row['ncc'], 'on its way')
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
    wanted = f'between -{limit:g} and {limit:g}'
    row = {'check': check, 'name': name, 'value': f'{score:.2f}'}
    return {**row, 'wanted': wanted, 'verdict': verdict}


def _shown(check: str, name: str, score: float, wanted: str = 'near 1') -> dict[str, str]:
    row = {'check': check, 'name': name, 'value': f'{score:.2f}'}
    return {**row, 'wanted': wanted, 'verdict': ''}


def _layers(count: int, of: int) -> str:
    """Which layers are noise.

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
        return 'The map vanishes with what the classifier has learned, as it should.'
    return (
        f'In {kept} of {checked} checks the map did not vanish: part of what it shows comes from '
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
