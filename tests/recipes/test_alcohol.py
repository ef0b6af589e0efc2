"""The recipe for a study of drinking: sites, visits and siblings."""

from __future__ import annotations

import pytest

from helpers.studies import write_rows, write_study

COUNT = 16
#: Families of siblings; the first two differ in the label.
FAMILIES = {0: '7', 1: '7', 8: '9', 10: '9'}


@pytest.fixture
def ncanda(kitchen):
    rows, images = [], []
    for number in range(COUNT):
        for visit in ('baseline', 'followup_1y')[: 1 + number % 3]:
            rows.append(
                {
                    'subject': f'NCANDA_S{33 + number:05d}',
                    'arm': 'standard',
                    'visit': visit,
                    'site': ('sri', 'ohsu', 'duke', 'upmc', 'ucsd')[number % 5],
                    'sex': 'FM'[number // 2 % 2],
                    'visit_age': 15 + number / 4 + (visit != 'baseline'),
                    'exceeds_bl_drinking': 'NY'[number % 2],
                    'family_id': FAMILIES.get(number, ''),
                    'scanner': 'ge',
                    'scanner_model': 'MR750',
                }
            )
            labels = f'sub-NCANDAS{33 + number:05d}_ses-{visit.replace("_", "")}'
            images.append(labels)
    write_study(kitchen.root / 'BIDS_DIR', [], images, 'NCANDA')
    write_rows(kitchen.root / 'demographics.csv', rows, ',')
    return kitchen


def test_the_page(ncanda, recipe, count, fold_of) -> None:
    done = ncanda.follow(recipe('alcohol'))
    assert [(step.level, step.code) for step in done] == [
        ('train', 0),
        ('participant', 0),
        ('group', 0),
    ], [step.output for step in done if step.code]
    table = done[0].labels
    visits = [1 + number % 3 for number in range(COUNT)]
    images = [min(2, several) for several in visits]
    assert count(table) == {'N': sum(images[0::2]), 'Y': sum(images[1::2])}
    assert not table.left_out
    covariates = {image.record.prefix: image.covariates for image in table.images}
    assert set(covariates['sub-NCANDAS00034_ses-followup1y']) == {'visit_age', 'sex', 'site'}
    ages = [
        float(covariates[f'sub-NCANDAS00034_ses-{visit}']['visit_age'])
        for visit in ('baseline', 'followup1y')
    ]
    assert ages[1] == ages[0] + 1
    families = {image.record.subject: image.family for image in table.images}
    assert len(set(families.values())) == COUNT - 2
    folds = fold_of(table, ('visit_age', 'sex', 'site'))
    together = {(families[name[4:16]], fold) for name, fold in folds.items()}
    assert len(together) == COUNT - 2
    # Siblings with different labels are no contradiction.
    labels = {image.record.subject: image.label for image in table.images}
    assert labels['NCANDAS00033'] != labels['NCANDAS00034']
    assert families['NCANDAS00033'] == families['NCANDAS00034']
    # The group level reads the same table: one visit of each person, siblings as one family.
    group = done[2].group()
    assert sorted(group.groups.values()) == ['N'] * 4 + ['Y'] * 4
    assert group.columns.chosen == ('visit_age', 'sex', 'site')
    assert group.columns.of_family('NCANDAS00033') == group.columns.of_family('NCANDAS00034') == '7'


def test_without_the_family_siblings_may_be_divided(ncanda, recipe) -> None:
    before, _ = recipe('alcohol').split('## Train')
    ncanda.follow(before)
    words = 'BIDS_DIR OUTPUT_DIR train --labels labels.tsv --label exceeds_bl_drinking --positive Y'
    table = ncanda.app(*words.split()).labels
    assert len({image.family for image in table.images}) == COUNT
