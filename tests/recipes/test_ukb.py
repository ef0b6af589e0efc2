"""The recipe for UK Biobank: age at the visit, and relatives in one fold."""

from __future__ import annotations

import pytest

from helpers.studies import write_rows, write_sessions, write_study

COUNT = 28
#: Numbers of people who are related; the first three are one family through the second.
PAIRS = ((0, 1), (1, 2), (5, 6))


@pytest.fixture
def ukb(kitchen):
    root = kitchen.root / 'BIDS_DIR'
    ids = [str(1000223 + 11 * number) for number in range(COUNT)]
    visits = {eid: ('M000', 'M024') if number % 4 == 0 else ('M000',)
              for number, eid in enumerate(ids)}  # fmt: skip
    people = [
        {
            'participant_id': f'sub-UKB{eid}',
            'sex': 'FM'[number % 2],
            'year_of_birth': 1950,
            'age': 50 + number % 7,
        }
        for number, eid in enumerate(ids)
    ]
    images = [f'sub-UKB{eid}_ses-{visit}' for eid in ids for visit in visits[eid]]
    write_study(root, people, images, 'UKB')
    for number, eid in enumerate(ids):
        # Converters differ in the name of the first column.
        column = 'sessions' if number % 2 else 'session_id'
        rows = [
            {column: f'ses-{visit}', 'age_at_session': 60 + number + int(visit[1:]) // 12}
            for visit in visits[eid]
        ]
        write_sessions(root, f'UKB{eid}', rows)
    pairs = [
        {'ID1': ids[one], 'ID2': ids[other], 'HetHet': 0.06, 'IBS0': 0.002, 'Kinship': 0.24}
        for one, other in PAIRS
    ]
    write_rows(kitchen.root / 'ukb_rel.dat', pairs, ' ')
    return kitchen


def test_the_page(ukb, recipe) -> None:
    done = ukb.follow(recipe('ukb'))
    assert [(step.level, step.code) for step in done] == [
        ('train', 0),
        ('participant', 0),
        ('group', 0),
    ], [step.output for step in done if step.code]
    table = done[0].labels
    assert table.target.kind == 'regression'
    assert len(table.images) == COUNT
    assert not table.left_out
    # The age at the visit, not that of the recruitment.
    assert sorted(image.label for image in table.images) == list(range(60, 60 + COUNT))
    families = [image.family for image in table.images]
    assert len({families[number] for number in (0, 1, 2)}) == 1
    assert families[5] == families[6] != families[0]
    assert len(set(families)) == COUNT - len(PAIRS)
    group = done[2].group()
    assert len(group.included) == 8
    assert len({group.columns.of_family(scan.subject) for scan in group.included}) == 8 - 3
    # Second visits are explained, too.
    assert done[1].output.count('M024') >= COUNT // 4


def test_the_age_at_recruitment_is_the_same_for_both_visits(ukb) -> None:
    words = 'BIDS_DIR OUTPUT_DIR train --label age --regression --covariates sex'
    labels = {image.record.prefix: image.label for image in ukb.app(*words.split()).labels.images}
    assert labels['sub-UKB1000223_ses-M000'] == labels['sub-UKB1000223_ses-M024'] == 50
