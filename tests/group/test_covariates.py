"""Groups and covariates: who lacks what, and what cannot be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.group.covariates import OWN_COLUMNS, missing_rows, read_group_variables
from bids_interp.group.statistics.covariate_balance import balance_rows
from bids_interp.group.statistics.score_effects import (
    CHANGE_COLUMNS,
    SCORE_COLUMNS,
    model_scores,
    score_rows,
)
from bids_interp.settings import Settings
from helpers import cohorts


def test_missing_covariates_are_told_and_complete_cases_used(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    lines[3] = 'sub-03\tpatient\tn/a\tF'
    lines[4] = 'sub-04\tcontrol\t50\t'
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients)
    assert missing_rows(analysis.columns, analysis.scans) == [
        {'image': 'sub-03', 'lacks': 'age'},
        {'image': 'sub-04', 'lacks': 'sex'},
    ]
    model = model_scores(analysis, score_rows(analysis)[0])
    assert (model['n'], model['missing']) == (18, {'age': 1, 'sex': 1})


def test_a_collinear_design_that_was_asked_for(patients, analysis_of) -> None:
    lines = ['participant_id\tgroup\tsite']
    lines += [f'sub-{n:02d}\t{g}\tsite {g}' for n, g in enumerate(patients.labels, 1)]
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, group_by='group', covariates=('site',))
    rows, _ = score_rows(analysis)
    with pytest.raises(UsageError, match=r'\bsite\b.*\bgroup\b.* 20 '):
        model_scores(analysis, rows)
    by_itself = analysis_of(patients)
    left_out = model_scores(by_itself, rows)['left_out']
    assert left_out['site'].endswith(' group')


def test_a_group_with_one_member(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().replace('sub-02\tcontrol', 'sub-02\tx')
    cohorts.write_table(patients, lines)
    analysis = analysis_of(patients)
    model = model_scores(analysis, score_rows(analysis)[0])
    assert 'group = x' in model['left_out']
    assert model['n'] == 19


def test_a_group_with_one_complete_member(patients, analysis_of) -> None:
    """An effect that rests on one patient is none, whoever else lacks a covariate."""
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    for row in range(1, len(lines)):
        cells = lines[row].split('\t')
        if cells[1] == 'patient' and row > 1:
            cells[2] = 'n/a'
        lines[row] = '\t'.join(cells)
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients)
    model = model_scores(analysis, score_rows(analysis)[0])
    assert ' 10 ' in model['left_out']['group = patient']
    assert 'group' not in {effect['variable'] for effect in model['effects']}
    assert model['n'] == 10


def test_sites_and_groups_that_are_written_as_numbers(patients, analysis_of) -> None:
    cohorts.write_column(patients, 'site', {'patient': '1', 'control': '2'})
    columns = analysis_of(patients, group_by='site', covariates=('group',)).columns
    assert columns.levels == ('site', 'group')
    cohorts.write_column(patients, 'batch', {'patient': '1', 'control': '2'})
    assert analysis_of(patients, covariates=('batch',)).columns.levels == ('group',)
    (patients.bids / 'participants.json').write_text('{"batch": {"Levels": {"1": "first"}}}')
    assert analysis_of(patients, covariates=('batch',)).columns.levels == ('group', 'batch')
    with pytest.raises(UsageError, match='--voxelwise batch'):
        analysis_of(patients, voxelwise=('batch',))


def test_one_age_that_is_no_number(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    lines[3] = 'sub-03\tpatient\t89+\tF'
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    assert analysis_of(patients).columns.values['age']['sub-03'] == '89'
    lines[3] = 'sub-03\tpatient\told\tF'
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    with pytest.raises(InputDatasetError, match="age .*sub-03 .*'old'") as caught:
        analysis_of(patients)
    assert 'participants.json' in caught.value.advice


def test_a_level_called_none_is_a_value(patients, analysis_of) -> None:
    cohorts.write_column(patients, 'medication', {'patient': 'none', 'control': 'SSRI'})
    values = analysis_of(patients, covariates=('medication',)).columns.values['medication']
    assert set(values.values()) == {'none', 'SSRI'}


def test_a_covariate_with_a_name_that_our_tables_have(patients, analysis_of) -> None:
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tdiagnosis\tscore']
    lines += [
        f'sub-{n:02d}\t{"ab"[n % 3 == 0]}\t{group}\t{rng.integers(100)}'
        for n, group in enumerate(patients.labels, 1)
    ]
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, group_by='diagnosis', covariates=('group', 'score'))
    rows, _ = score_rows(analysis)
    assert {row['group'] for row in rows} == {'patient', 'control'}
    assert {row['covariate_group'] for row in rows} == {'a', 'b'}
    effects = {effect['variable']: effect for effect in model_scores(analysis, rows)['effects']}
    assert set(effects) == {'diagnosis', 'group', 'score'}
    assert effects['diagnosis']['p'] < 0.05
    assert set(SCORE_COLUMNS) | set(CHANGE_COLUMNS) == set(OWN_COLUMNS)


def test_a_table_that_names_nobody_present(patients, analysis_of) -> None:
    cohorts.write_table(patients, 'participant_id\tgroup\nsub-elsewhere\tpatient\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv .*\b20\b.*sub-01') as caught:
        analysis_of(patients)
    assert '--labels' in caught.value.advice


def test_no_table_at_all(patients, analysis_of) -> None:
    (patients.bids / 'participants.tsv').unlink()
    assert analysis_of(patients).columns.group == ''
    with pytest.raises(InputDatasetError, match=r'participants\.tsv'):
        analysis_of(patients, group_by='group')


def test_columns_that_do_not_fit(patients, analysis_of) -> None:
    with pytest.raises(UsageError, match="--group-by.*'groups'.*'group'"):
        analysis_of(patients, group_by='groups')
    with pytest.raises(UsageError, match='--voxelwise sex'):
        analysis_of(patients, voxelwise=('sex',))
    lines = ['participant_id\tcode'] + [f'sub-{n:02d}\tc{n}' for n in range(1, 25)]
    many = '\n'.join(lines) + '\n'
    cohorts.write_table(patients, many)
    assert analysis_of(patients, group_by='code').columns.group == 'code'
    cohorts.write_table(patients, many + 'sub-01\tother\n')
    with pytest.raises(InputDatasetError, match=r'code .*sub-01: c1, other'):
        analysis_of(patients, group_by='code')


def test_too_many_groups_are_no_groups(patients, chosen) -> None:
    from bids_interp.group.covariates import _check_groups

    values = {f'sub-{n}': str(n) for n in range(30)}
    with pytest.raises(UsageError, match='--group-by age .*30'):
        _check_groups(values, 'age', True)


def test_what_a_regression_was_trained_for_is_a_covariate(patients, chosen) -> None:
    settings = Settings(patients.bids, patients.out, 'group')
    target = ExplainedTarget(kind='regression', label='age')
    columns = read_group_variables(settings, chosen(patients.out), target)
    assert columns.group == ''
    assert columns.chosen[0] == 'age'


def test_confounds_in_the_groups() -> None:
    rows = [
        {'group': g, 'age': a, 'sex': s, 'score': x}
        for g, a, s, x in (
            ('p', '70', 'F', 2.0),
            ('p', '72', 'F', 2.5),
            ('p', '74', 'M', 3.0),
            ('c', '60', 'M', 0.0),
            ('c', '62', 'M', 0.5),
            ('c', None, 'M', 0.2),
        )
    ]
    found = {(row['covariate'], row['group']): row for row in balance_rows(rows, ['age', 'sex'])}
    assert found['age', 'p']['summary'] == '72 (SD 2)'
    assert found['age', 'all']['n'] == 5
    assert found['age', 'all']['imbalance'] == pytest.approx(11 / np.sqrt(3))
    assert found['age', 'p']['r_score'] == pytest.approx(1)
    assert found['sex', 'p']['summary'] == 'F: 2, M: 1'
    assert found['sex', 'all']['imbalance'] == pytest.approx(2 / 3)
