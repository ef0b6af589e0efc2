"""The sanity checks in words: what vanished, what did not, what was not done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bids_interp.models.bundle import default_bundle_path, load_bundle
from bids_interp.reports.model_card import model_card
from bids_interp.reports.training_sanity import sanity_words


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
    words = sanity_words(found())
    told = {row['name']: (row['value'], row['verdict']) for row in words['rows']}
    assert told['Last layer is noise'] == ('-0.31', '')
    # The opposite map is the same map.
    assert told['All 5 layers are noise'] == ('-0.24', 'still there')
    assert told['Classifier trained with exchanged labels'] == ('0.10', 'vanished')
    assert told['Classifier and simulator from another seed'] == ('0.81', '')
    assert told['Maps of two folds, mean over pairs'] == ('0.70', '')
    assert words['rows'][0]['wanted'] == 'on its way'
    assert words['rows'][1]['wanted'] == 'between -0.2 and 0.2'


def test_the_first_sentence_says_what_follows() -> None:
    assert 'In 1 of 2 checks the map did not vanish' in sanity_words(found())['head']
    assert 'as it should' in sanity_words(found(above_limit=[]))['head']
    nothing = found(randomised=[], above_limit=[])
    del nothing['sanity']['permuted_labels']
    assert sanity_words(nothing)['head'] == 'Nothing could be checked.'


def test_what_was_not_done_is_said() -> None:
    metrics = found(left_out={'permuted_labels': 'the classifier was given'})
    del metrics['sanity']['permuted_labels']
    notes = ' '.join(sanity_words(metrics)['notes'])
    assert 'Exchanged labels: not done, the classifier was given.' in notes
    assert 'Only fold 0 was checked' in notes
    assert sanity_words({'auc': 1}) == {}


def test_the_card_has_a_section_only_where_something_was_checked() -> None:
    config = load_bundle(default_bundle_path()).config
    card = model_card(replace(config, metrics=found()))
    assert '| All 5 layers are noise | -0.24 | between -0.2 and 0.2 | still there |\n' in card
    assert card.index('## Sanity of the maps') < card.index('## Intended use')
    assert 'Sanity' not in model_card(replace(config, metrics={}))
    assert '\n\n\n' not in card
