"""The group level from the command line to the report."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.read.scan_files import read_table
from bids_interp.errors import BusyError, InputDatasetError, NothingToDoError, UsageError
from bids_interp.evaluation.scores import ncc
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.run import Run
from bids_interp.group.file_inclusion import lost_maps
from bids_interp.group.scans import GroupScan
from bids_interp.levels import group as grouping
from bids_interp.levels.group import run_group
from bids_interp.settings import Settings
from helpers import cohorts


def settings_of(cohort, work: Path, **options) -> Settings:
    defaults = {'work_dir': work, 'nprocs': 1, 'permutations': 200, 'offline': True}
    return Settings(cohort.bids, cohort.out, 'group', **{**defaults, **options})


@pytest.fixture(scope='module')
def done(tmp_path_factory: pytest.TempPathFactory):
    """One finished run: two sessions, two groups, one subject of another model."""
    root = tmp_path_factory.mktemp('group')
    cohort = cohorts.write_cohort(
        cohorts.Cohort(
            root,
            ['patient', 'control'] * 6,
            sessions=('a', 'b'),
            folds=[(0,), (0,), (1,), (1,)] * 3,
            in_training=True,
            expression={'patient': 0.6},
        )
    )
    cohorts.write_scan(cohort.out, 'other', ModelHash='another')
    code = run_group(settings_of(cohort, root / 'work', group_by='group', voxelwise=('age',)))
    folder = cohort.out / 'group' / f'{cohorts.MODEL}-{cohorts.DIGEST}'
    return cohort, folder, code


def test_everything_is_written(done) -> None:
    _, folder, code = done
    assert code == 0
    names = {path.name for path in folder.iterdir()}
    for name in (
        'inclusion.tsv',
        'regions_subjects.tsv',
        'regions_groups.tsv',
        'clusters.tsv',
        'scores.tsv',
        'scores_model.tsv',
        'confounds.tsv',
        'change.tsv',
        'change_model.tsv',
        'missing.tsv',
        'doseresponse.tsv',
        'report.html',
        'space-MNI152NLin2009aSym_desc-inject100_stat-mean_logjacobian.nii.gz',
        'space-MNI152NLin2009aSym_desc-inject100_stat-foldsamesign_logjacobian.nii.gz',
        'group-patient_space-MNI152NLin2009aSym_desc-remove100_stat-reliable_mask.nii.gz',
        'space-MNI152NLin2009aSym_desc-inject100Onage_stat-p_statmap.nii.gz',
    ):
        assert name in names


def test_every_file_is_described(done) -> None:
    _, folder, _ = done
    for path in folder.glob('*.tsv'):
        columns = json.loads(path.with_suffix('.json').read_text())
        header = path.read_text().splitlines()[0].split('\t')
        assert [name for name in header if name not in columns] == [], path
        assert columns['ModelHash'] == 'abcdef123456'
    for path in folder.glob('*.nii.gz'):
        content = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert content['Description']
        assert content['HeldOutOnly'] is True


def test_the_mean_map_is_the_truth(done) -> None:
    _, folder, _ = done
    image = nib.load(folder / f'space-{cohorts.SPACE}_desc-inject100_stat-mean_logjacobian.nii.gz')
    assert int(image.header['sform_code']) == 4
    _, inside = cohorts.brain()
    assert ncc(image.get_fdata(), cohorts.truth(), inside) > 0.98
    sidecar = json.loads(
        (folder / f'space-{cohorts.SPACE}_desc-inject100_stat-mean_logjacobian.json').read_text()
    )
    assert sidecar['NumberOfSubjects'] == 12
    assert len(sidecar['Sources']) == 12
    assert 'different folds' in sidecar['FoldAgreement']


def test_who_is_in_is_told(done) -> None:
    _, folder, _ = done
    rows = {row['image']: row for row in read_table(folder / 'inclusion.tsv')}
    assert rows['sub-01_ses-a']['included'] == 'true'
    assert rows['sub-01_ses-b']['included'] == 'false'
    assert 'another' in rows['sub-other']['reason']
    assert rows['sub-other']['model_hash'] == 'another'


def test_groups_differ_as_planted(done) -> None:
    _, folder, _ = done
    effect = read_table(folder / 'scores_model.tsv')[0]
    assert effect['variable'] == 'group'
    assert float(effect['estimate']) > 1
    assert len(read_table(folder / 'change.tsv')) == 12


def test_the_report_is_one_file_that_needs_no_network(done) -> None:
    _, folder, _ = done
    page = (folder / 'report.html').read_text()
    (frame,) = re.findall(r'data:text/html;charset=utf-8;base64,([^"]+)"', page)
    for text in (page, base64.b64decode(frame).decode()):
        assert re.findall(r'(?:src|href)="((?!data:|#)[^"]*)"', text) == []
    assert 'data-tone="yes"' in page
    assert {'who', 'maps', 'viewer', 'regions', 'scores', 'limits'} <= set(
        re.findall(r'id="([\w-]+)"', page)
    )
    assert 'tiny (another)' in page
    assert page.count('src="data:image/') >= 10
    assert 'not there.' not in page


def test_the_output_is_a_valid_dataset(done, validate_bids, tmp_path: Path) -> None:
    """The files of the group level; the made-up images beside them are not complete."""
    cohort, _, _ = done
    for name in ('dataset_description.json', '.bidsignore', 'README.md'):
        shutil.copy(cohort.out / name, tmp_path)
    shutil.copytree(cohort.out / 'group', tmp_path / 'group')
    assert validate_bids(tmp_path) == ''


def test_running_again_changes_nothing_and_takes_in_new_subjects(
    tmp_path: Path, in_process: Path
) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient', 'control'] * 2))
    settings = settings_of(cohort, tmp_path / 'work', use_plugin=in_process)
    folder = cohort.out / 'group' / f'{cohorts.MODEL}-{cohorts.DIGEST}'
    assert run_group(settings) == 0
    first = {p.name: p.stat().st_mtime_ns for p in folder.glob('*.nii.gz')}
    (folder / f'space-{cohorts.SPACE}_desc-inject100_stat-sd_logjacobian.nii.gz').unlink()
    assert run_group(settings) == 0
    second = {p.name: p.stat().st_mtime_ns for p in folder.glob('*.nii.gz')}
    assert set(first) == set(second)
    name = f'space-{cohorts.SPACE}_desc-inject100_stat-mean_logjacobian.nii.gz'
    assert first[name] == second[name]
    assert list(folder.glob('group-patient_*'))
    cohorts.write_scan(cohort.out, '05')
    (cohort.out / 'sub-06' / 'anat').mkdir(parents=True)
    assert run_group(settings.replace(group_by='sex')) == 0
    assert not list(folder.glob('group-patient_*'))
    assert list(folder.glob('group-[FM]_*'))
    rows = {row['image']: row['included'] for row in read_table(folder / 'inclusion.tsv')}
    assert (rows['sub-05'], rows['sub-06']) == ('true', 'false')


def test_models_at_chance_have_no_reliable_voxel(tmp_path: Path, in_process: Path) -> None:
    """However well their maps agree; with the same maps a model above chance has some."""
    counts = {}
    for warranted in (True, False):
        root = tmp_path / str(warranted)
        cohort = cohorts.write_cohort(cohorts.Cohort(root, ['patient', 'control'] * 2))
        for path in cohort.out.rglob('*_prediction.json'):
            content = json.loads(path.read_text())
            path.write_text(json.dumps({**content, 'ExplanationWarranted': warranted}))
        assert run_group(settings_of(cohort, root / 'work', use_plugin=in_process)) == 0
        mask = next(cohort.out.rglob('space-*_desc-inject100_stat-reliable_mask.nii.gz'))
        counts[warranted] = int(np.asarray(nib.load(mask).dataobj).sum())
        report = next((cohort.out / 'group').rglob('report.html')).read_text()
        assert ('data-tone="no"' in report) is not warranted
    assert counts[True] > 0
    assert counts[False] == 0


def test_maps_that_are_the_same_for_everybody(tmp_path: Path, in_process: Path) -> None:
    """No statement about people: no interval, no map of their standard deviation, no test."""
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['a', 'b'] * 2, names=('inject100',)))
    for path in cohort.out.glob('sub-*/anat/*desc-inject100_logjacobian.nii.gz'):
        cohorts.save(path, cohorts.truth(), cohorts.grid().affine)
    settings = settings_of(cohort, tmp_path / 'work', use_plugin=in_process)
    with pytest.raises(UsageError) as caught:
        run_group(settings.replace(voxelwise=('age',)))
    assert (caught.value.exit_code, '--covariates' in caught.value.advice) == (2, True)
    folder = cohort.out / 'group' / f'{cohorts.MODEL}-{cohorts.DIGEST}'
    assert not folder.exists()
    assert run_group(settings) == 0
    assert list(folder.glob('*_stat-mean_*'))
    assert not list(folder.glob('*_stat-sd_*'))
    rows = read_table(folder / 'regions_groups.tsv')
    for kind in ('logj', 'pct', 'mm3'):
        assert {row[f'{kind}_{end}'] for row in rows for end in ('low', 'high')} == {'n/a'}
    assert {row['logj_sd'] for row in rows} == {'n/a'}
    assert {float(row['personal_share']) < 1e-6 for row in rows} == {True}
    about = json.loads((folder / 'regions_groups.json').read_text())
    assert about['PersonalShare']['inject100']['PersonalShareNote']
    subjects = read_table(folder / 'regions_subjects.tsv')
    assert all(float(row['inject100_personal_share']) < 1e-6 for row in subjects)
    page = (folder / 'report.html').read_text()
    assert page.index('id="about"') < page.index('class="big"')


@pytest.mark.parametrize('way', ['a voxel', 'empty'])
def test_a_damaged_map_ends_with_code_one_and_is_named(
    tmp_path: Path, capsys, in_process: Path, way: str
) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['a', 'b', 'a'], names=('inject100',)))
    path = next(cohort.out.glob('sub-02/anat/*desc-inject100_logjacobian.nii.gz'))
    data = np.asarray(nib.load(path).dataobj).copy()
    data[10, 12, 10] = np.nan
    cohorts.save(path, data, cohorts.grid().affine)
    if way == 'empty':
        path.write_bytes(b'')
    (cohort.bids / 'participants.tsv').unlink()
    assert run_group(settings_of(cohort, tmp_path / 'work', use_plugin=in_process)) == 1
    assert re.search(r'\bsub-02: ', capsys.readouterr().out)
    folder = cohort.out / 'group' / f'{cohorts.MODEL}-{cohorts.DIGEST}'
    row = read_table(folder / 'inclusion.tsv')[1]
    assert row['included'] == 'false'
    assert path.name in row['reason']
    assert path.name in (folder / 'report.html').read_text()


def test_a_lost_map_ends_with_code_one_and_every_file_is_accounted_for(
    tmp_path: Path, capsys, in_process: Path
) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['a', 'b', 'a']))
    next(cohort.out.glob('sub-02/anat/*desc-remove100_logjacobian.nii.gz')).unlink()
    next(cohort.out.glob('sub-03/anat/*desc-anatomy_logjacobian.nii.gz')).unlink()
    (cohort.bids / 'participants.tsv').unlink()
    assert run_group(settings_of(cohort, tmp_path / 'work', use_plugin=in_process)) == 1
    assert re.search(r'\bsub-02: .*\bremove100\b', capsys.readouterr().out)
    folder = cohort.out / 'group' / f'{cohorts.MODEL}-{cohorts.DIGEST}'
    rows = read_table(folder / 'inclusion.tsv')
    assert [row['included'] for row in rows] == ['true'] * 3
    assert [row['maps'] for row in rows] == [
        'inject100 remove100',
        'inject100',
        'inject100 remove100',
    ]
    assert [row['missing'] for row in rows] == ['n/a', 'remove100', 'anatomy']
    assert [row['reason'] for row in rows][::2] == ['n/a', 'n/a']
    assert 'remove100' in rows[1]['reason']


def test_maps_are_lost_only_if_the_prediction_lists_them() -> None:
    listed = SimpleNamespace(simulated={'inject100': 0, 'inject050': 0})
    scan = GroupScan('sub-01', '01', '', Path(), listed)  # type: ignore[arg-type]
    assert lost_maps(scan) == []  # no output in template space was requested
    assert lost_maps(replace(scan, maps={'inject100': Path()})) == ['inject050']
    assert lost_maps(replace(scan, maps={'inject100': Path(), 'inject050': Path()})) == []


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys, in_process: Path) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient', 'control']))
    assert (
        run_group(settings_of(cohort, tmp_path / 'work', use_plugin=in_process, dry_run=True)) == 0
    )
    assert re.search(r'\b2 .*\btiny\b', capsys.readouterr().out)
    assert not (cohort.out / 'group').exists()


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path, in_process: Path) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient', 'control']))
    settings = settings_of(cohort, tmp_path / 'work', use_plugin=in_process)
    first = Run(settings, tmp_path / 'other', 'cpu', 1, 1, 4.0, 'first')
    with ResultLocks(first, [f'group-{cohorts.MODEL}-{cohorts.DIGEST}']):
        with pytest.raises(BusyError, match='first'):
            run_group(settings)
    assert not (cohort.out / 'group').exists()


def test_one_subject_is_no_group(tmp_path: Path, in_process: Path) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient']))
    cohorts.write_scan(cohort.out, 'other', ModelHash='another')
    settings = settings_of(cohort, tmp_path / 'work', use_plugin=in_process)
    with pytest.raises(InputDatasetError, match='^1 ') as caught:
        run_group(settings)
    assert 'sub-01' in str(caught.value) or 'sub-other' in str(caught.value)


def test_no_derivatives(tmp_path: Path) -> None:
    (tmp_path / 'bids').mkdir()
    settings = Settings(tmp_path / 'bids', tmp_path / 'out', 'group', work_dir=tmp_path / 'work')
    with pytest.raises(NothingToDoError, match=re.escape(str(tmp_path / 'out'))):
        run_group(settings)


def test_an_atlas_that_is_not_there(tmp_path: Path, in_process: Path) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient', 'control']))
    from bids_interp.errors import TemplateError

    with pytest.raises(TemplateError, match='--atlas nowhere'):
        run_group(settings_of(cohort, tmp_path / 'work', use_plugin=in_process, atlas='nowhere'))


def test_null_models_need_the_model_itself(tmp_path: Path, in_process: Path) -> None:
    cohort = cohorts.write_cohort(cohorts.Cohort(tmp_path, ['patient', 'control']))
    with pytest.raises(InputDatasetError, match=r'--null-models.*tiny \(abcdef123456\)'):
        run_group(settings_of(cohort, tmp_path / 'work', use_plugin=in_process, null_models=('x',)))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'permutations': 10}, '--permutations'),
        ({'atlas_labels': 'x.tsv'}, '--atlas-labels .*--atlas'),
        ({'tfce': True}, '--tfce .*--voxelwise'),
    ],
)
def test_choices_that_contradict_each_other(options, words) -> None:
    with pytest.raises(UsageError, match=words):
        Settings('/bids', '/out', 'group', **options)


def test_choices_survive_a_round_through_toml() -> None:
    settings = Settings(
        '/bids',
        '/out',
        'group',
        group_by='dx',
        voxelwise=('age',),
        null_models=('/a', '/b'),
        atlas='A',
        atlas_labels='/t.tsv',
    )
    assert Settings.from_toml(settings.to_toml()) == settings


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bids_interp.cli import app as main

    seen = []
    monkeypatch.setattr(grouping, 'run_group', lambda settings: seen.append(settings) or 0)
    with pytest.raises(SystemExit) as end:
        main.main(
            [
                *('in', 'out', 'group', '--group-by', 'sex', '--covariates', 'age', 'site'),
                *('--tfce', '--voxelwise', 'age', '--null-models', 'a', 'b'),
            ]
        )
    assert end.value.code == 0
    assert seen[0].covariates == ('age', 'site')
    assert seen[0].null_models == (str(Path.cwd() / 'a'), str(Path.cwd() / 'b'))
