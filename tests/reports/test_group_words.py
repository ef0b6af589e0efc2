"""What the group report says is what was done."""

from __future__ import annotations

from typing import Any

import pytest

from bids_interp.reports.group_words import methods_of, told

EFFECT = {
    'variable': 'group',
    'contrast': 'patient - control',
    'n': 20,
    'estimate': 1.25,
    'low': 0.5,
    'high': 2.0,
    'statistic': 3.1,
    'kind': 't',
    'p': 0.004,
    'cohen_d': 1.1,
    'spread': 1.0,
}


def content(**changes: Any) -> dict[str, Any]:
    model = {'effects': [EFFECT], 'n': 20, 'not_tested': '', 'left_out': {}, 'missing': {}}
    return {
        'model': ('tiny', 'abc'),
        'space': 'MNI152NLin2009aSym',
        'region_source': 'ellipsoids',
        'permutations': 500,
        'group_column': 'group',
        'warranted': True,
        'held_out_only': True,
        'cross_fitted': False,
        'reference': 'the controls',
        'visits_by_name': False,
        'n': 20,
        'missing': [],
        'scores': {'model': {**model, **changes.pop('score_model', {})}},
        'pattern': {},
        'voxelwise': [],
        **changes,
    }


def test_an_effect_of_two_groups() -> None:
    head = told(content())['head']
    assert head['tone'] == 'yes'
    assert '+1.25 standard deviations of the controls [0.50, 2.00], Cohen d 1.10' in head['rest']
    head = told(content(reference='everybody'))['head']
    assert 'standard deviations of everybody' in head['rest']


def test_an_effect_of_three_groups_is_one() -> None:
    three = {**EFFECT, 'estimate': None, 'cohen_d': None, 'kind': 'F', 'statistic': 8.5}
    three['contrast'] = 'any difference between a, b, c'
    head = told(content(score_model={'effects': [three]}))['head']
    assert head['tone'] == 'yes'
    assert head['rest'] == (
        'any difference between a, b, c: F = 8.50, permutation p = 0.004, 20 subjects.'
    )


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'score_model': {'left_out': {'group': 'determined by site'}}}, 'is determined by site'),
        ({'score_model': {'not_tested': 'too few'}}, 'tested: too few'),
        ({'group_column': ''}, '--group-by'),
    ],
)
def test_why_groups_are_not_compared(changes, words) -> None:
    changes = {**changes, 'score_model': {'effects': [], **changes.get('score_model', {})}}
    head = told(content(**changes))['head']
    assert head['tone'] == 'open'
    assert words in head['rest']
    assert 'no two groups' not in head['rest']


def test_methods_say_who_explained_whom() -> None:
    held_out = methods_of(content())
    assert 'Only folds that were trained without a subject' in held_out
    assert 'no label enters' in held_out
    assert 'square root' not in held_out
    seen = methods_of(content(held_out_only=False))
    assert 'Only folds' not in seen
    assert 'no label enters' not in seen
    assert 'learned from the labels of subjects that are in' in seen
    wide = methods_of(content(score_model={'effects': [{**EFFECT, 'spread': 2**0.5}]}))
    assert 'interval of group were widened by the square root of two' in wide


def test_changes_name_their_sessions() -> None:
    changes = [
        {'from': 'ses-post', 'to': 'ses-pre', 'change': -1.0},
        {'from': 'ses-post', 'to': 'ses-pre', 'change': -2.0},
    ]
    scores = {**content()['scores'], 'changes': changes}
    told_of = told(content(scores=scores))['changes']
    assert '2 changes' in told_of
    assert '(ses-post to ses-pre: 2), mean -1.50 standard deviations of the controls' in told_of
    assert 'acq_time' not in told_of
    assert 'acq_time' in told(content(scores=scores, visits_by_name=True))['changes']


def test_what_is_beside_a_number_is_named() -> None:
    facts = {'column': 'mmse', 'not_tested': '', 'n': 20, 'least_p': 0.2, 'voxels_below_005': 0}
    lines = told(content(voxelwise=[{**facts, 'beside': ['group', 'age']}]))['voxelwise']
    assert lines[0].endswith('beside it in the model: group, age, folds.')
