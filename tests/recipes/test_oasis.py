"""The recipe for OASIS: labels from ratings, several scans in a session."""

from __future__ import annotations

from helpers.studies import write_rows, write_sessions, write_study

# Rating at each clinical visit of OASIS-3.
NORMAL, IMPAIRED, CHANGED = (0.0, 0.0), (0.5, 1.0), (0.0, 0.5)
RATINGS = [NORMAL] * 6 + [IMPAIRED] * 5 + [CHANGED] * 2


def write_cross_sectional(root) -> None:
    """OASIS-1: ratings of 0, 0.5 and 1, and young people without one."""
    diagnoses = ['CN'] * 6 + ['AD'] * 5 + ['n/a'] * 4
    people, images = [], []
    for number, diagnosis in enumerate(diagnoses, 1):
        subject = f'OASIS1{number:04d}'
        people.append(
            {
                'participant_id': f'sub-{subject}',
                'alternative_id_1': f'OAS1_{number:04d}_MR1',
                'sex': 'FM'[number % 2],
                'education_level': 'n/a' if diagnosis == 'n/a' else 1 + number % 5,
                'age_bl': 22 if diagnosis == 'n/a' else 65 + number,
                'diagnosis_bl': diagnosis,
                'laterality': 'R',
            }
        )
        images.append(f'sub-{subject}_ses-M000')
    write_study(root, people, images, 'OASIS')
    for row in people:
        session = {
            'session_id': 'ses-M000',
            'cdr_global': 0.0,
            'MMS': 29.0,
            'diagnosis': 'CN' if row['diagnosis_bl'] == 'CN' else 'n/a',
        }
        write_sessions(root, row['participant_id'].removeprefix('sub-'), [session])


def write_longitudinal(root) -> None:
    """OASIS-3: two sessions of each person, the first one with two scans."""
    people, images, ratings = [], [], []
    for number, visits in enumerate(RATINGS, 1):
        subject = f'OAS3{number:04d}'
        people.append(
            {
                'participant_id': f'sub-{subject}',
                'age': 66.5 + number,
                'sex': 'FM'[number % 2],
                'handedness': 'R',
                'Education': 16.0,
                'apoe': 33,
            }
        )
        names = ('M000_run-01', 'M000_run-02', 'M036_run-01')
        images += [f'sub-{subject}_ses-{name}' for name in names]
        for visit, rating in enumerate(visits):
            row = {'OASISID': subject, 'days_to_visit': 400 * visit, 'age at visit': 67}
            ratings.append({**row, 'MMSE': 28, 'CDRSUM': rating, 'CDRTOT': rating})
    write_study(root, people, images, 'OASIS3')
    for row in people:
        sessions = [
            {'session_id': f'ses-M{month:03d}', 'source_session_id': 'd0000', 'age': 67, 'cdr': 0}
            for month in (0, 36)
        ]
        write_sessions(root, row['participant_id'].removeprefix('sub-'), sessions)
    write_rows(root.parent / 'OASIS3_UDSb4_cdr.csv', ratings, ',')


def test_the_first_part(kitchen, recipe, count) -> None:
    write_cross_sectional(kitchen.root / 'BIDS_DIR')
    page, _ = recipe('oasis').split('## OASIS-3')
    (train,) = kitchen.follow(page)
    assert train.code == 0, train.output
    table = train.labels
    assert count(table) == {'CN': 6, 'AD': 5}
    assert len(table.left_out) == 4
    # The column of the sessions would lose all patients.
    words = 'BIDS_DIR OUTPUT_DIR train --label diagnosis --positive AD --negative CN'
    assert kitchen.app(*words.split(), '--allow-unlabelled').code == 2


def test_the_second_part(kitchen, recipe, count, fold_of) -> None:
    write_longitudinal(kitchen.root / 'BIDS_DIR')
    _, page = recipe('oasis').split('## OASIS-3')
    done = kitchen.follow(page)
    assert [(step.level, step.code) for step in done] == [
        ('train', 0),
        ('participant', 0),
        ('group', 0),
    ], [step.output for step in done if step.code]
    table = done[0].labels
    # One scan of each of two sessions; people who changed are left out.
    assert count(table) == {'CN': 12, 'impaired': 10}
    assert {image.record.entities['run'] for image in table.images} == {'01'}
    assert len(table.left_out) == 2 * 2
    folds = fold_of(table, ('age', 'sex'))
    assert len({(name.split('_')[0], fold) for name, fold in folds.items()}) == 11
    ages = {image.record.subject: image.covariates['age'] for image in table.images}
    assert ages['OAS30001'] == '67.5'
