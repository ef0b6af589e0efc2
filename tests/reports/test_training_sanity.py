"""The sanity checks in words: what vanished, what did not, what was not done."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from bids_interp.models.bundle.reader import default_bundle_path, load_bundle
from bids_interp.reports.training.model_card import model_card
from bids_interp.reports.training.sanity_text import KEPT, VANISHED, sanity_summary


def found(**changes: Any) -> dict[str, Any]:
    sanity = {
        'limit': 0.2,
        'fold': 0,
        'steps': 160,
        'original_ncc': 0.93,
        'randomised': [
            {'layers': 1, 'of': 5, 'ncc': -0.31},
            {'layers': 5, 'of': 5, 'ncc': -0.24},
        ],
        'permuted_labels': {'ncc': 0.1, 'association': 0.02},
        'second_seed': {'ncc': 0.81},
        'left_out': {},
        'above_limit': ['randomised'],
        **changes,
    }
    return {'simulator': {'fold_ncc': {'inject': 0.7, 'remove': 0.6}}, 'sanity': sanity}


def test_rows_say_what_vanished() -> None:
    words = sanity_summary(found())
    told = [(row['check'], row['value'], row['verdict']) for row in words['rows']]
    assert told[:5] == [
        ('randomised', '-0.31', ''),
        # The opposite map is the same map.
        ('randomised', '-0.24', KEPT),
        ('permuted_labels', '0.10', VANISHED),
        ('second_seed', '0.81', ''),
        ('folds', '0.70', ''),
    ]
    assert '0.2' not in words['rows'][0]['expected']
    assert re.search(r'-0\.2\b.* 0\.2\b', words['rows'][1]['expected'])


def test_the_first_sentence_says_what_follows() -> None:
    words = sanity_summary(found())
    assert (words['checked'], words['kept']) == (2, 1)
    assert re.search(r'\b1 \w+ 2 ', words['head'])
    assert sanity_summary(found(above_limit=[]))['kept'] == 0
    heads = {words['head'], sanity_summary(found(above_limit=[]))['head']}
    nothing = found(randomised=[], above_limit=[])
    del nothing['sanity']['permuted_labels']
    words = sanity_summary(nothing)
    assert (words['checked'], words['kept']) == (0, 0)
    assert len(heads | {words['head']}) == 3


def test_what_was_not_done_is_said() -> None:
    metrics = found(left_out={'permuted_labels': 'given'})
    del metrics['sanity']['permuted_labels']
    notes = sanity_summary(metrics)['notes']
    assert notes[-1].endswith(' given.')
    assert 'fold 0' in notes[0]
    assert sanity_summary({'auc': 1}) == {}


def test_the_card_has_a_section_only_where_something_was_checked() -> None:
    config = load_bundle(default_bundle_path()).config
    card = model_card(replace(config, metrics=found()))
    assert re.search(rf'\| -0\.24 \| .*0\.2 \| {KEPT} \|\n', card)
    assert card.index('## Sanity') < card.index('## Intended use')
    assert 'Sanity' not in model_card(replace(config, metrics={}))
    assert '\n\n\n' not in card
