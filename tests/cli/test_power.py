from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bids_interp.bench.power.studies import PowerDesign
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.cli.tools.command import tools
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.levels import power as level
from bids_interp.settings import Settings


@pytest.fixture
def run(monkeypatch):
    """Parse a command line; what would be run is returned."""
    seen = []
    monkeypatch.setattr(level, 'run_power', lambda *given: seen.append(given) or 0)

    def call(*words: str):
        seen.clear()
        result = CliRunner().invoke(tools, ['power', *words])
        return result, *(seen[0] if seen else (None, None, None))

    return call


def test_the_choices_are_handed_on(run):
    words = '/in --out /out --regions thalamus_left caudate --losses 10 5 --n 30 20 --folds 4'
    words += ' --label group --control healthy --family kin --repeats 3 --resolution 4 --seed 7'
    result, settings, request, _ = run(*words.split())
    assert result.exit_code == 0, result.output
    assert (settings.bids_dir, settings.output_dir) == (Path('/in'), Path('/out/derivatives'))
    assert settings.family == 'kin'
    assert request.design == PowerDesign((0.0, -0.05, -0.1), (20, 30), 3, 4, 7)
    assert request.regions == ('thalamus_left', 'caudate')
    assert (request.label, request.control, request.spacing_mm) == ('group', 'healthy', 4.0)
    assert request.largest == -0.1


def test_the_hippocampus_is_the_default(run):
    result, _, request, _ = run('/in', '--out', '/out')
    assert result.exit_code == 0, result.output
    assert request.regions == ('hippocampus',)
    assert request.design.effects == (0.0, -0.05, -0.1, -0.15, -0.2, -0.3)
    assert not np.signbit(request.design.effects[0])
    assert request.design.numbers == ()


@pytest.mark.parametrize(
    'words',
    [
        '--regions hippocampi',
        '--label group',
        '--control healthy',
        '--losses 95',
        '--losses 0',
        '--n 21',
        '--n 6',
        '--resolution 0',
        '--folds 1',
    ],
)
def test_impossible_choices_are_refused(run, words):
    result, settings, *_ = run('/in', '--out', '/out', *words.split())
    assert result.exit_code == 2
    assert settings is None


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Five people: the first with two sessions, the last two siblings, one a patient."""
    names = ['01/ses-1', '01/ses-2', '02', '03', '04', '05']
    for name in names:
        parts = name.split('/')
        stem = '_'.join([f'sub-{parts[0]}', *parts[1:]])
        file = tmp_path.joinpath(f'sub-{parts[0]}', *parts[1:], 'anat', f'{stem}_T1w.nii.gz')
        file.parent.mkdir(parents=True)
        file.touch()
    rows = [
        '01\tcontrol\ta',
        '02\tpatient\tb',
        '03\tcontrol\tc',
        '04\tcontrol\td',
        '05\tcontrol\td',
    ]
    table = 'participant_id\tgroup\tkin\n' + ''.join(f'sub-{row}\n' for row in rows)
    (tmp_path / 'participants.tsv').write_text(table)
    description = {'Name': 'Made up', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (tmp_path / 'dataset_description.json').write_text(json.dumps(description))
    return tmp_path


def chosen(bids: Path, family: str | None = None, **request: str) -> list[T1wRecord]:
    settings = Settings(bids, bids.parent / 'out', family=family, skip_bids_validation=True)
    design = PowerDesign((-0.1,), ())
    return level.independent_images(
        settings, level.PowerRequest(design, **request), collect(settings)
    )


def test_one_image_of_each_person_is_used(bids):
    assert [(one.subject, one.session) for one in chosen(bids)][:2] == [('01', '1'), ('02', None)]
    assert len(chosen(bids)) == 5


def test_only_controls_and_one_of_each_family_are_used(bids):
    found = chosen(bids, label='group', control='control')
    assert [one.subject for one in found] == ['01', '03', '04', '05']
    found = chosen(bids, 'kin', label='group', control='control')
    assert [one.subject for one in found] == ['01', '03', '04']


def test_unknown_columns_and_values_are_refused(bids):
    with pytest.raises(InputDatasetError):
        chosen(bids, label='group', control='healthy')
    with pytest.raises(UsageError):
        chosen(bids, label='dx', control='control')
    with pytest.raises(UsageError):
        chosen(bids, 'house')


def test_studies_need_enough_people():
    design = PowerDesign((-0.1,), (20,))
    assert level.complete_design(design, 20) == design
    assert level.complete_design(PowerDesign((-0.1,), ()), 30).numbers == (20, 22, 30)
    with pytest.raises(InputDatasetError):
        level.complete_design(design, 19)
    with pytest.raises(InputDatasetError):
        level.complete_design(PowerDesign((-0.1,), ()), 19)
