"""From derivatives to effects on the scores and their changes."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.group.analysis import GroupAnalysis
from bids_interp.group.maps.responses import logit_rows, response_rows
from bids_interp.group.statistics.learned_labels import learned_directions
from bids_interp.group.statistics.score_effects import (
    NO_SPREAD,
    change_rows,
    model_change,
    model_scores,
    score_rows,
)
from helpers import cohorts


def test_the_planted_difference_is_found(patients, analysis_of) -> None:
    analysis = analysis_of(patients)
    rows, sd = score_rows(analysis)
    assert sd is not None
    assert 0.1 < sd < 0.4
    model = model_scores(analysis, rows)
    effect = next(e for e in model['effects'] if e['variable'] == 'group')
    assert effect['contrast'] == 'patient - control'
    assert effect['estimate'] > 1
    assert effect['p'] < 0.05
    # The other covariates explain little of the label, and what they share with it is taken out.
    assert 1.8**0.5 < effect['spread'] < 2**0.5
    others = [e['spread'] for e in model['effects'] if e['variable'] != 'group']
    assert others == pytest.approx([1, 1])
    assert list(model['left_out']) == ['brain_volume_ml']
    assert ' 20 ' in model['left_out']['brain_volume_ml']
    assert model['blocks'] == {'0': 10, '1': 10}
    controls = [row['score'] for row in rows if row['group'] == 'control']
    assert np.mean(controls) == pytest.approx(0, abs=1e-6)


def test_new_subjects_need_no_widening(make_cohort, analysis_of) -> None:
    analysis = analysis_of(make_cohort(['patient', 'control'] * 8, expression={'patient': 0.6}))
    model = model_scores(analysis, score_rows(analysis)[0])
    assert [effect['spread'] for effect in model['effects']] == [1.0] * 3


def test_the_label_of_training_subjects_that_the_tables_lack(patients, analysis_of) -> None:
    """Any covariate may follow it."""
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    lines = ['\t'.join(np.delete(line.split('\t'), 1)) for line in lines]
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients)
    model = model_scores(analysis, score_rows(analysis)[0])
    assert {e['variable'] for e in model['effects']} == {'age', 'sex'}
    assert [e['spread'] for e in model['effects']] == pytest.approx([2**0.5] * 2)


def test_new_subjects_are_not_in_the_learned_directions(patients, analysis_of) -> None:
    analysis = analysis_of(patients)
    subjects = [scan.subject for scan in analysis.included]
    direction = learned_directions(analysis, subjects)
    assert direction is not None
    side = np.where(np.array(patients.labels) == 'patient', 1.0, -1.0)
    assert abs(side @ direction[:, 0]) == pytest.approx(np.sqrt(20))
    path = next(patients.out.glob('sub-03/anat/*_prediction.json'))
    path.write_text(path.read_text().replace('"InTrainingSet": true', '"InTrainingSet": false'))
    direction = learned_directions(analysis_of(patients), subjects)
    assert direction is not None
    assert direction.shape == (20, 1)
    assert direction[2, 0] == pytest.approx(0)
    assert np.linalg.norm(direction) == pytest.approx(1)


def test_a_covariate_that_follows_the_label_is_widened(patients, analysis_of) -> None:
    """Whether or not the label is beside it."""
    rng = np.random.default_rng(1)
    lines = ['participant_id\tgroup\tother\tduration']
    for n, group in enumerate(patients.labels, 1):
        years = (4.0 if group == 'patient' else 0.0) + rng.normal()
        lines.append(f'sub-{n:02d}\t{group}\t{"ab"[n % 4 < 2]}\t{years}')
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    found = {}
    for column in ('group', 'other'):
        analysis = analysis_of(patients, group_by=column, covariates=('duration',))
        effects = model_scores(analysis, score_rows(analysis)[0])['effects']
        found[column] = {e['variable']: e['spread'] for e in effects}
    assert found['other']['duration'] > 1.3
    assert found['other']['other'] == pytest.approx(1, abs=0.05)
    assert found['group']['duration'] == pytest.approx(1)
    assert 1 < found['group']['group'] < 1.2


def test_scores_that_do_not_vary_are_not_tested(make_cohort, analysis_of) -> None:
    analysis = analysis_of(make_cohort(['patient', 'control'] * 6))
    rows, _ = score_rows(analysis)
    model = model_scores(analysis, [{**row, 'score': 0.0} for row in rows])
    assert (model['effects'], model['not_tested']) == ([], NO_SPREAD)


def test_the_plan_survives_json(patients, analysis_of, tmp_path) -> None:
    analysis = analysis_of(patients)
    again = GroupAnalysis.read(analysis.write(tmp_path / 'analysis.json'))
    assert again.included == analysis.included
    assert again.columns == analysis.columns
    assert again.groups == analysis.groups
    assert again.common() == analysis.common()


def test_change_over_sessions(make_cohort, analysis_of) -> None:
    analysis = analysis_of(make_cohort(['patient', 'control'] * 5, sessions=('a', 'b'), change=0.6))
    rows, sd = score_rows(analysis)
    changes = change_rows(analysis, rows)
    assert len(changes) == 10
    assert np.mean([row['change'] for row in changes]) == pytest.approx(0.6 / sd, rel=0.3)
    assert (changes[0]['from'], changes[0]['to']) == ('ses-a', 'ses-b')
    assert model_change(analysis, changes)['n'] == 10


def test_nothing_is_tested_with_subjects_that_the_model_has_seen(make_cohort, analysis_of) -> None:
    cohort = make_cohort(['patient', 'control'] * 8, in_training=True, expression={'patient': 0.6})
    analysis = analysis_of(cohort, include_training=True)
    assert analysis.trained_with
    assert analysis.common()['HeldOutOnly'] is False
    model = model_scores(analysis, score_rows(analysis)[0])
    assert model['effects'] == []
    assert '--include-training' in model['not_tested']


def test_few_subjects_are_described_but_not_tested(make_cohort, analysis_of) -> None:
    analysis = analysis_of(make_cohort(('patient', 'control')))
    model = model_scores(analysis, score_rows(analysis)[0])
    assert model['effects'] == []
    assert model['not_tested']


def test_dose_responses_and_logits(patients, analysis_of) -> None:
    analysis = analysis_of(patients)
    rows = response_rows(analysis)
    doses = [row['dose'] for row in rows if row['group'] == 'all']
    assert doses == [-1.0, 0.0, 1.0]
    mean = {(row['group'], row['dose']): row['logit'] for row in rows}
    assert mean['patient', 0.0] > mean['control', 0.0]
    assert {row['n'] for row in rows} == {10, 20}
    assert {'image', 'group', 'observed', 'inject100', 'remove100'} == set(logit_rows(analysis)[0])


def test_a_dose_response_without_probability(patients, analysis_of) -> None:
    """That of a regression: its answers are shown all the same."""
    analysis = analysis_of(patients)
    for path in patients.out.glob('sub-*/anat/*_desc-doseresponse_stats.tsv'):
        rows = [line.split('\t') for line in path.read_text().splitlines()]
        place = rows[0].index('probability')
        path.write_text('\n'.join('\t'.join(r[:place] + r[place + 1 :]) for r in rows) + '\n')
    rows = response_rows(analysis)
    assert [row['dose'] for row in rows if row['group'] == 'all'] == [-1.0, 0.0, 1.0]
    assert all(np.isfinite(row['logit']) and np.isnan(row['probability']) for row in rows)
