"""What the group report says is what was done."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bids_interp.reports.group.group_text import (
    EXPLAINED_HELD_OUT,
    EXPLAINED_SEEN,
    PATTERN_HELD_OUT,
    PATTERN_SEEN,
    WIDENED,
    methods_of,
    report_text,
)

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
    'least_p': 0.001,
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
        'maps': [{'name': 'inject100', 'personal_share': {'': 0.3}}],
        'voxelwise': [],
        **changes,
    }


def test_an_effect_of_two_groups() -> None:
    head = report_text(content())['head']
    assert head['tone'] == 'yes'
    assert re.search(r'\+1\.25 .*the controls \[0\.50, 2\.00\].* d 1\.10\b', head['rest'])
    head = report_text(content(reference='everybody'))['head']
    assert 'everybody' in head['rest']
    assert 'controls' not in head['rest']


def test_an_effect_of_three_groups_is_one() -> None:
    three = {**EFFECT, 'estimate': None, 'cohen_d': None, 'kind': 'F', 'statistic': 8.5}
    three['contrast'] = 'a, b, c'
    head = report_text(content(score_model={'effects': [three]}))['head']
    assert head['tone'] == 'yes'
    assert re.fullmatch(r'a, b, c: F = 8\.50,.* p = 0\.004, 20 \w+\.', head['rest'])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'score_model': {'left_out': {'group': 'like site'}}}, r'\bgroup\b.* like site\.'),
        ({'score_model': {'not_tested': 'too few'}}, r': too few\.'),
        ({'group_column': ''}, '--group-by'),
    ],
)
def test_why_groups_are_not_compared(changes, words) -> None:
    changes = {**changes, 'score_model': {'effects': [], **changes.get('score_model', {})}}
    head = report_text(content(**changes))['head']
    assert head['tone'] == 'open'
    assert re.search(words, head['rest'])


def test_methods_say_who_explained_whom() -> None:
    held_out, seen = methods_of(content()), methods_of(content(held_out_only=False))
    for text in (EXPLAINED_HELD_OUT, PATTERN_HELD_OUT):
        assert (text in held_out, text in seen) == (True, False)
    for text in (EXPLAINED_SEEN, PATTERN_SEEN):
        assert (text in held_out, text in seen) == (False, True)
    wide = methods_of(content(score_model={'effects': [{**EFFECT, 'spread': 2**0.5}]}))
    assert f' group {WIDENED}' in wide
    assert WIDENED not in held_out


def test_changes_name_their_sessions() -> None:
    changes = [
        {'from': 'ses-post', 'to': 'ses-pre', 'change': -1.0},
        {'from': 'ses-post', 'to': 'ses-pre', 'change': -2.0},
    ]
    scores = {**content()['scores'], 'changes': changes}
    told_of = report_text(content(scores=scores))['changes']
    assert re.search(r'^2 .*ses-post to ses-pre: 2\b.* -1\.50 .*the controls', told_of)
    assert 'acq_time' not in told_of
    assert 'acq_time' in report_text(content(scores=scores, visits_by_name=True))['changes']


def test_what_is_beside_a_number_is_named() -> None:
    facts = {'column': 'mmse', 'not_tested': '', 'n': 20, 'least_p': 0.2, 'voxels_below_005': 0}
    facts |= {'personal_share': 0.3, 'common': False}
    lines = report_text(content(voxelwise=[{**facts, 'beside': ['group', 'age']}]))['voxelwise']
    assert lines[0].startswith('mmse: 20 ')
    assert lines[0].endswith(': group, age, folds.')
    common = {**facts, 'beside': [], 'personal_share': 0.031, 'common': True}
    assert '0.031' in report_text(content(voxelwise=[common]))['voxelwise'][0]


def test_the_first_sentence_says_whether_maps_are_about_these_people() -> None:
    found = [
        report_text(content(maps=[{'name': 'inject100', 'personal_share': {'': share}}]))['about']
        for share in (0.002, 0.03, 0.4, None)
    ]
    assert [text.count('common pattern') for text in found] == [1, 1, 0, 0]
    assert len(set(found)) == 4
    assert '0.002' in found[0]
    assert '0.40' in found[2]


def test_families_and_widened_variables_are_named() -> None:
    families = {'column': 'mother', 'number': 9, 'largest': 4}
    effect = {**EFFECT, 'spread': 1.25, 'least_p': 0.1, 'low': None, 'high': None}
    text = report_text(content(score_model={'effects': [effect], 'families': families}))
    lines = ' '.join(text['tested'])
    assert re.search(r'\b9\b.*\bmother\b.*\b4\b', lines)
    assert 'group (1.25)' in lines
    assert re.search(r'\bgroup: .* 0\.1\b', lines)
    assert '[' not in text['head']['rest']
    assert '@multilevelpermutation' in methods_of(
        content(score_model={'effects': [EFFECT], 'families': families})
    )


def test_null_models_are_said_to_have_weak_control() -> None:
    facts = {'n_null_models': 19, 'p': 0.05, 'voxels_below_005': 3, 'enough': True}
    assert 'weak' in report_text(content(pattern=facts))['pattern']
