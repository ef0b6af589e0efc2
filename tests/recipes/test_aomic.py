"""The recipe for AOMIC: open data, three images of each person, values that are missing."""

from __future__ import annotations

import pytest

from helpers.studies import write_study

SEXES = ['male', 'female'] * 12 + ['n/a']


@pytest.fixture
def aomic(kitchen):
    people, images = [], []
    for number, sex in enumerate(SEXES, 1):
        people.append(
            {
                'participant_id': f'sub-{number:04d}',
                'age': 'n/a' if sex == 'n/a' else 19.25 + number / 4,
                'sex': sex,
                'gender_identity_M': 7.0,
                'gender_identity_F': 1.0,
                'BMI': 0 if number == 3 else 22.0,
                'handedness': 'right',
                'background_SES': 4.5,
                'education_level': 'medium',
                'NEO_N': 32.0,
                'IST_intelligence_total': 180 + number,
            }
        )
        runs = (1, 2, 3) if number % 3 == 1 else (1,)
        images += [f'sub-{number:04d}_run-{run}' for run in runs]
    write_study(kitchen.root / 'BIDS_DIR', people, images, 'AOMIC-ID1000')
    return kitchen


def test_the_page(aomic, recipe, count, fold_of) -> None:
    done = aomic.follow(recipe('aomic'))
    assert [(step.level, step.code) for step in done] == [
        *[('train', 0)] * 3,
        ('participant', 0),
        ('group', 0),
    ], [step.output for step in done if step.code]
    three, one, age = (step.labels for step in done[:3])
    assert count(three) == {'male': 20, 'female': 20}
    assert len(three.left_out) == 3
    folds = fold_of(three, ('age',))
    assert len({(name.split('_')[0], fold) for name, fold in folds.items()}) == 24
    assert count(one) == {'male': 12, 'female': 12}
    assert {image.record.entities['run'] for image in one.images} == {'1'}
    assert (age.target.kind, len(age.images), len(age.left_out)) == ('regression', 24, 1)
    assert age.target.mean == pytest.approx(19.25 + 12.5 / 4)


def test_another_spelling_of_the_values_is_an_error(aomic) -> None:
    words = 'BIDS_DIR OUTPUT_DIR train --label sex --positive M --negative F --allow-unlabelled'
    refused = aomic.app(*words.split())
    assert refused.code == 2
    assert 'female, male' in refused.output


def test_a_person_without_a_value_is_not_dropped_silently(aomic) -> None:
    words = 'BIDS_DIR OUTPUT_DIR train --label sex --positive male --negative female'
    refused = aomic.app(*words.split())
    assert refused.code == 4
    assert 'sub-0025_run-1' in refused.output
