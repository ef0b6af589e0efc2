"""The recipe for ADNI: visits with diagnoses of their own, and people who convert."""

from __future__ import annotations

import pytest

from helpers.studies import write_sessions, write_study

# Diagnosis at screening, and at each visit.
CN = ('CN', {'M000': 'CN', 'M012': 'CN'})
AD = ('AD', {'M000': 'AD', 'M006': 'AD'})
MCI = ('LMCI', {'M000': 'MCI'})
MEMORY_CONCERN = ('SMC', {'M000': 'CN'})
CONVERTER = ('CN', {'M000': 'CN', 'M024': 'MCI', 'M060': 'AD'})
WITHOUT = ('AD', {'M000': 'AD', 'M003': 'n/a'})
PEOPLE = [CN] * 5 + [AD] * 5 + [MCI] * 5 + [MEMORY_CONCERN, CONVERTER, WITHOUT]


@pytest.fixture
def adni(kitchen):
    people, images, visits = [], [], {}
    for number, (screening, diagnoses) in enumerate(PEOPLE):
        subject = f'ADNI{(2, 5)[number % 2]:03d}S{295 + number:04d}'
        people.append(
            {
                'participant_id': f'sub-{subject}',
                'alternative_id_1': f'{subject[4:7]}_S_{subject[8:]}',
                'sex': 'FM'[number // 2 % 2],
                'education_level': 12 + number % 5,
                'age_bl': 65.0 + number,
                'site': (2, 5)[number % 2],
                'original_study': 'ADNI1',
                'diagnosis_sc': screening,
                'apoe4': number % 3,
            }
        )
        images += [f'sub-{subject}_ses-{visit}' for visit in diagnoses]
        # Visits without a scan have rows, too.
        visits[subject] = [
            {
                'RID': f'{295 + number:04d}',
                'session_id': f'ses-{visit}',
                'age': 65.0 + number + int(visit[1:]) / 12,
                'diagnosis': diagnosis,
                'MMSE': 'n/a',
            }
            for visit, diagnosis in {**diagnoses, 'M120': 'n/a'}.items()
        ]
    write_study(kitchen.root / 'BIDS_DIR', people, images, 'ADNI')
    for subject, rows in visits.items():
        write_sessions(kitchen.root / 'BIDS_DIR', subject, rows)
    return kitchen


def test_the_page(adni, recipe, count, fold_of) -> None:
    done = adni.follow(recipe('adni'))
    assert [(step.level, step.code) for step in done] == [
        *[('train', 0)] * 3,
        ('participant', 0),
        ('group', 0),
    ], [step.output for step in done if step.code]
    baseline, three, visits = (step.labels for step in done[:3])
    assert count(baseline) == {'CN': 7, 'AD': 6}
    assert {image.record.session for image in baseline.images} == {'M000'}
    assert sorted(baseline.left_out.values()) == ['diagnosis is MCI'] * 5
    assert count(three) == {'CN': 7, 'MCI': 5, 'AD': 6}
    # A memory concern is neither class; the scan without a diagnosis has the label of the person.
    assert count(visits) == {'CN': 10 + 3, 'AD': 10 + 2}
    assert len(visits.left_out) == 6
    folds = fold_of(visits, ('age', 'sex', 'site'))
    people = {name.split('_')[0] for name in folds}
    assert len(people) == 12
    assert len({(name.split('_')[0], fold) for name, fold in folds.items()}) == 12
    # The age is that of the visit.
    ages = {image.record.prefix: image.covariates['age'] for image in visits.images}
    converter = next(name for name in ages if name.endswith('M060'))
    assert float(ages[converter]) == float(ages[converter.replace('M060', 'M000')]) + 5
    group = done[4].group()
    assert sorted(group.groups.values()) == ['AD'] * 2 + ['CN'] * 3 + ['MCI'] * 3
    assert {scan.session for scan in group.included} == {'M000'}
    (scripts,) = adni.tools
    assert scripts.exit_code == 0, scripts.output
    folder = adni.root / 'bids_interp-jobs'
    assert len((folder / 'participants.txt').read_text().split()) == len(PEOPLE)
    for job in ('train', 'participant', 'group'):
        assert '--session-label M000' in (folder / f'{job}.sbatch').read_text()
    assert '--allow-unlabelled' in (folder / 'train.sbatch').read_text()


def test_a_converter_is_refused_as_a_label_of_all_visits(adni) -> None:
    words = 'BIDS_DIR OUTPUT_DIR train --label diagnosis --positive AD --negative CN'
    refused = adni.app(*words.split(), '--allow-unlabelled')
    assert refused.code == 4
    (line,) = [line for line in refused.output.splitlines() if line.startswith('  sub-')]
    assert 'S0311' in line
    # Without an answer, the scan of the visit without a diagnosis is refused as well.
    refused = adni.app(*words.split())
    assert refused.code == 4
    assert 'S0312_ses-M003' in refused.output
