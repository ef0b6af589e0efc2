"""From derivatives to effects; the further tests; who lacks what."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.errors import InputDatasetError, ModelError, UsageError
from bids_interp.group.analysis import AnalysisChoices, GroupAnalysis, folder_name, training_folds
from bids_interp.group.covariates import OWN_COLUMNS, missing_rows, read_group_variables
from bids_interp.group.maps.map_reader import find_masked_grid
from bids_interp.group.maps.responses import logit_rows, response_rows
from bids_interp.group.statistics import null
from bids_interp.group.statistics.covariate_balance import balance_rows
from bids_interp.group.statistics.score_effects import (
    CHANGE_COLUMNS,
    SCORE_COLUMNS,
    change_rows,
    model_change,
    model_scores,
    score_rows,
)
from bids_interp.group.statistics.voxelwise import (
    NO_DIFFERENCE,
    coarsen,
    max_t,
    voxelwise_glm,
)
from bids_interp.settings import Settings
from helpers import cohorts


@pytest.fixture
def analysis_of(chosen):
    """Return the analysis of a cohort, as the group level prepares it."""

    def make(cohort, **options) -> GroupAnalysis:
        settings = Settings(cohort.bids, cohort.out, 'group', **options)
        scans = chosen(cohort.out, include_training=settings.include_training)
        target = scans[0].prediction.target
        columns = read_group_variables(settings, scans, target)
        choices = AnalysisChoices(
            random_seed=1,
            include_training=settings.include_training,
            permutations=300,
            tfce=settings.tfce,
            group_asked=settings.group_by is not None,
        )
        model = (cohorts.MODEL, cohorts.DIGEST)
        folder = cohort.out / 'group' / folder_name(model)
        return GroupAnalysis(cohort.out, folder, scans, columns, model, choices)

    return make


@pytest.fixture
def patients(make_cohort):
    return make_cohort(
        ['patient', 'control'] * 10,
        folds=[(0,), (0,), (1,), (1,)] * 5,
        in_training=True,
        expression={'patient': 0.6},
    )


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
    assert effect['spread'] == pytest.approx(2**0.5)
    assert all(e['spread'] == 1 for e in model['effects'] if e['variable'] != 'group')
    assert list(model['left_out']) == ['brain_volume_ml']
    assert ' 20 ' in model['left_out']['brain_volume_ml']
    assert model['blocks'] == {'0': 10, '1': 10}
    controls = [row['score'] for row in rows if row['group'] == 'control']
    assert np.mean(controls) == pytest.approx(0, abs=1e-6)


def test_new_subjects_need_no_widening(make_cohort, analysis_of) -> None:
    analysis = analysis_of(make_cohort(['patient', 'control'] * 8, expression={'patient': 0.6}))
    model = model_scores(analysis, score_rows(analysis)[0])
    assert [effect['spread'] for effect in model['effects']] == [1.0] * 3


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


def table(cohort, text: str) -> None:
    (cohort.bids / 'participants.tsv').write_text(text)


def test_missing_covariates_are_told_and_complete_cases_used(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    lines[3] = 'sub-03\tpatient\tn/a\tF'
    lines[4] = 'sub-04\tcontrol\t50\t'
    table(patients, '\n'.join(lines) + '\n')
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
    table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, group_by='group', covariates=('site',))
    rows, _ = score_rows(analysis)
    with pytest.raises(UsageError, match=r'\bsite\b.*\bgroup\b.* 20 '):
        model_scores(analysis, rows)
    by_itself = analysis_of(patients)
    left_out = model_scores(by_itself, rows)['left_out']
    assert left_out['site'].endswith(' group')


def test_a_group_with_one_member(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().replace('sub-02\tcontrol', 'sub-02\tx')
    table(patients, lines)
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
    table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients)
    model = model_scores(analysis, score_rows(analysis)[0])
    assert ' 10 ' in model['left_out']['group = patient']
    assert 'group' not in {effect['variable'] for effect in model['effects']}
    assert model['n'] == 10


def coded(cohort, column: str, values: dict[str, str], more: str = '') -> None:
    """Write a table with a further column that follows the groups."""
    lines = [f'participant_id\tgroup\t{column}']
    lines += [f'sub-{n:02d}\t{group}\t{values[group]}' for n, group in enumerate(cohort.labels, 1)]
    table(cohort, '\n'.join(lines) + '\n' + more)


def test_sites_and_groups_that_are_written_as_numbers(patients, analysis_of) -> None:
    coded(patients, 'site', {'patient': '1', 'control': '2'})
    columns = analysis_of(patients, group_by='site', covariates=('group',)).columns
    assert columns.levels == ('site',)
    coded(patients, 'batch', {'patient': '1', 'control': '2'})
    assert analysis_of(patients, covariates=('batch',)).columns.levels == ('group',)
    (patients.bids / 'participants.json').write_text('{"batch": {"Levels": {"1": "first"}}}')
    assert analysis_of(patients, covariates=('batch',)).columns.levels == ('group', 'batch')
    with pytest.raises(UsageError, match='--voxelwise batch'):
        analysis_of(patients, voxelwise=('batch',))


def test_one_age_that_is_no_number(patients, analysis_of) -> None:
    lines = (patients.bids / 'participants.tsv').read_text().splitlines()
    lines[3] = 'sub-03\tpatient\t89+\tF'
    table(patients, '\n'.join(lines) + '\n')
    assert analysis_of(patients).columns.values['age']['sub-03'] == '89'
    lines[3] = 'sub-03\tpatient\told\tF'
    table(patients, '\n'.join(lines) + '\n')
    with pytest.raises(InputDatasetError, match="age .*sub-03 .*'old'") as caught:
        analysis_of(patients)
    assert 'participants.json' in caught.value.advice


def test_a_level_called_none_is_a_value(patients, analysis_of) -> None:
    coded(patients, 'medication', {'patient': 'none', 'control': 'SSRI'})
    values = analysis_of(patients, covariates=('medication',)).columns.values['medication']
    assert set(values.values()) == {'none', 'SSRI'}


def test_a_covariate_with_a_name_that_our_tables_have(patients, analysis_of) -> None:
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tdiagnosis\tscore']
    lines += [
        f'sub-{n:02d}\t{"ab"[n % 3 == 0]}\t{group}\t{rng.integers(100)}'
        for n, group in enumerate(patients.labels, 1)
    ]
    table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, group_by='diagnosis', covariates=('group', 'score'))
    rows, _ = score_rows(analysis)
    assert {row['group'] for row in rows} == {'patient', 'control'}
    assert {row['covariate_group'] for row in rows} == {'a', 'b'}
    effects = {effect['variable']: effect for effect in model_scores(analysis, rows)['effects']}
    assert set(effects) == {'diagnosis', 'group', 'score'}
    assert effects['diagnosis']['p'] < 0.05
    assert set(SCORE_COLUMNS) | set(CHANGE_COLUMNS) == set(OWN_COLUMNS)


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


def test_a_table_that_names_nobody_present(patients, analysis_of) -> None:
    table(patients, 'participant_id\tgroup\nsub-elsewhere\tpatient\n')
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
    table(patients, many)
    assert analysis_of(patients, group_by='code').columns.group == 'code'
    table(patients, many + 'sub-01\tother\n')
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


def test_voxelwise_model_has_the_group_in_it(patients, analysis_of) -> None:
    """Maps that differ by group alone do not follow a number that differs by group, too."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tmmse']
    analysis = analysis_of(patients)
    for index, scan in enumerate(analysis.included):
        group = patients.labels[index]
        lines.append(f'sub-{scan.subject}\t{group}\t{28 - 4 * (group == "patient") + rng.normal()}')
        values = cohorts.truth() * (1.5 if group == 'patient' else 1.0)
        values = values + 0.02 * rng.standard_normal(values.shape)
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
    table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, voxelwise=('mmse',))
    facts, _, _ = voxelwise_glm(analysis, 'inject100', 'mmse', find_masked_grid(analysis.included))
    assert facts['beside'] == ['group']
    assert facts['least_p'] > 0.05
    coded(patients, 'dose', {'patient': '1', 'control': '0'})
    analysis = analysis_of(patients, voxelwise=('dose',))
    facts, _, _ = voxelwise_glm(analysis, 'inject100', 'dose', find_masked_grid(analysis.included))
    assert re.fullmatch(r'dose: .* group', facts['not_tested'])


def test_voxelwise_model_on_a_number(patients, analysis_of) -> None:
    """Where the maps follow a number the model finds it, and only there."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tduration']
    analysis = analysis_of(patients)
    where = (slice(4, 8), slice(8, 12), slice(8, 12))
    for index, scan in enumerate(analysis.included):
        lines.append(f'sub-{scan.subject}\t{patients.labels[index]}\t{index}')
        values = cohorts.truth() + 0.02 * rng.standard_normal(cohorts.truth().shape)
        values[where] += 0.02 * index
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
    table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, voxelwise=('duration',))
    masked = find_masked_grid(analysis.included)
    facts, maps, coarse = voxelwise_glm(analysis, 'inject100', 'duration', masked)
    assert facts['not_tested'] == ''
    p = np.ones(coarse.grid.shape)
    p[coarse.inside] = maps['p']
    assert p[where].min() < 0.05
    outside = np.ones(p.shape, bool)
    outside[where] = False
    assert (p[outside] < 0.05).mean() < 0.02
    assert set(maps) == {'t', 'p'}


def test_max_t_is_that_of_nilearn() -> None:
    from nilearn.mass_univariate import permuted_ols

    rng = np.random.default_rng(0)
    values = rng.standard_normal((30, 40)).astype(np.float32)
    tested, age = rng.standard_normal((2, 30))
    values[:, 3] += 0.9 * tested
    confounds = np.column_stack([np.ones(30), age])
    t, p = max_t(values, tested, confounds, np.zeros(30), draws=999, seed=0)
    found = permuted_ols(
        tested[:, None],
        values,
        confounding_vars=confounds,
        model_intercept=False,
        n_perm=999,
        random_state=0,
        output_type='dict',
    )
    np.testing.assert_allclose(t, found['t'][0], rtol=1e-4)
    np.testing.assert_allclose(p, 10.0 ** -found['logp_max_t'][0], atol=0.06)
    assert p[3] < 0.05


def test_max_t_keeps_its_level_and_its_blocks() -> None:
    """Fold means differ, maps are noise: a false voxel in about one of twenty."""
    rng = np.random.default_rng(1)
    blocks = np.repeat(['0', '1'], 12)
    intercepts = (blocks[:, None] == ['0', '1']).astype(float)
    false = 0
    for _ in range(60):
        values = rng.standard_normal((24, 30)) + 5.0 * (blocks == '1')[:, None]
        tested = rng.standard_normal(24)
        false += max_t(values, tested, intercepts, blocks, draws=99, seed=0)[1].min() <= 0.05
    assert false <= 9


def test_clusters_can_be_enhanced(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',), tfce=True)
    analysis = replace(analysis, choices=replace(analysis.choices, permutations=5))
    _, maps, coarse = voxelwise_glm(
        analysis, 'inject100', 'age', find_masked_grid(analysis.included)
    )
    assert set(maps) == {'t', 'p', 'tfce', 'tfcep'}
    assert maps['tfcep'].shape == (int(coarse.inside.sum()),)
    # Of five exchanges and the observed order.
    assert maps['tfcep'].min() >= 1 / 6 - 1e-6
    assert maps['tfcep'].max() <= 1
    assert maps['tfcep'][np.abs(maps['tfce']).argmax()] == pytest.approx(maps['tfcep'].min())


def test_maps_that_do_not_differ_are_not_tested(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',))
    for scan in analysis.included:
        cohorts.save(scan.maps['inject100'], cohorts.truth(), cohorts.grid().affine)
    facts, maps, _ = voxelwise_glm(
        analysis, 'inject100', 'age', find_masked_grid(analysis.included)
    )
    assert facts['not_tested'] == NO_DIFFERENCE
    assert maps == {}


def test_fine_maps_are_tested_on_a_coarse_grid() -> None:
    from bids_interp.group.maps.map_reader import MaskedGrid

    grid = cohorts.grid().with_spacing(1.0)
    coarse, step = coarsen(MaskedGrid(grid, np.ones(grid.shape, bool)))
    assert step == 3
    np.testing.assert_allclose(coarse.grid.spacing, 3)
    np.testing.assert_allclose(coarse.grid.affine[:3, 3], grid.affine[:3, 3])


def fake_bundle(maps: np.ndarray, digest: str, grid) -> SimpleNamespace:
    mask = np.ones(grid.shape, bool)
    return SimpleNamespace(
        version_hash=digest, grid=grid, brain_mask=mask, maps=maps, path=Path(digest)
    )


def test_a_pattern_that_the_folds_share_is_beyond_chance(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    grid = cohorts.grid()
    size = int(np.prod(grid.shape))
    shared = 0.3 * (np.arange(size) < 200)
    bundles = {
        f'null{n}': fake_bundle(rng.normal(0, 0.1, (4, size)), f'null{n}', grid) for n in range(19)
    }
    bundles['true'] = fake_bundle(shared + rng.normal(0, 0.01, (4, size)), 'true', grid)
    monkeypatch.setattr(null, 'load_bundle', lambda path, contrast: bundles[str(path)])
    monkeypatch.setattr(null, 'fold_maps', lambda bundle: bundle.maps)
    names = [f'null{n}' for n in range(19)]
    facts, volume, _ = null.compare_with_null_models(Path('true'), names)
    assert facts['p'] == pytest.approx(0.05)
    assert (volume.ravel()[:200] <= 0.05).mean() > 0.9
    assert (volume.ravel()[200:] <= 0.05).mean() < 0.01
    chance, _, _ = null.compare_with_null_models(Path('null0'), names[1:])
    assert chance['p'] > 0.05
    assert not chance['enough']
    with pytest.raises(ModelError, match='--null-models true '):
        null.compare_with_null_models(Path('true'), ['true'])


def test_fold_maps_of_a_bundle(tiny_bundle) -> None:
    maps = null.fold_maps(tiny_bundle)
    assert maps.shape == (2, int(tiny_bundle.brain_mask.sum()))
    assert np.isfinite(maps).all()
    assert np.abs(maps[0] - maps[1]).max() > 0.01


def test_maps_of_folds_are_those_of_this_very_model(tmp_path) -> None:
    import hashlib

    (tmp_path / 'models' / 'm').mkdir(parents=True)
    (tmp_path / 'training' / 'm').mkdir(parents=True)
    config = tmp_path / 'models' / 'm' / 'config.json'
    config.write_text('{}')
    digest = hashlib.sha256(b'{}').hexdigest()[:12]
    assert training_folds(tmp_path, ('m', digest)) == tmp_path / 'training' / 'm'
    assert training_folds(tmp_path, ('m', 'another')) is None
