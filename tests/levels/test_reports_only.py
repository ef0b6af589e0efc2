"""``--reports-only``: one image that cannot be read fails, with its name, and the others go on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.execution.outcome import Outcome, RunOutcome
from bids_interp.levels.participant import run_participant
from bids_interp.settings import Settings
from helpers import skeletons

SUBJECTS = ('01', '02')
SPACED = 'space-MNI152NLin2009aSym_res-1'
ANSWER = {
    'LogitMean': -1.0,
    'LogitSD': 0.0,
    'ProbabilityMean': 0.27,
    'ProbabilitySD': 0.0,
    'Folds': [],
}
RESPONSE = ('direction\tdose\tfold\tlogit\tprobability', 'none\t0\t0\t-1\t0.27')


@pytest.fixture
def settings(tiny_bundle, tmp_path: Path) -> Settings:
    """Two subjects with what the participant level writes, as small as can be."""
    names = [f'sub-{subject}_T1w.nii.gz' for subject in SUBJECTS]
    bids, out = skeletons.make_dataset(tmp_path / 'bids', *names), tmp_path / 'out'
    prepare_output(out, {'raw': bids})
    for subject in SUBJECTS:
        stem = f'{out}/sub-{subject}/anat/sub-{subject}'
        Path(stem).parent.mkdir(parents=True)
        brain = skeletons.make_image()
        change = nib.Nifti1Image(0.1 * brain.get_fdata(dtype=np.float32), brain.affine)
        nib.save(brain, f'{stem}_{SPACED}_desc-brain_T1w.nii.gz')
        nib.save(change, f'{stem}_{SPACED}_desc-inject100_logjacobian.nii.gz')
        prediction = {
            'ModelName': 'tiny',
            'Target': {'negative': 'young', 'positive': 'old'},
            'ExplanationWarranted': True,
            'InTrainingSet': False,
            'FoldsUsed': [0],
            'Observed': ANSWER,
            'Simulated': {'inject100': ANSWER},
        }
        Path(f'{stem}_desc-explain_prediction.json').write_text(json.dumps(prediction))
        Path(f'{stem}_desc-doseresponse_stats.tsv').write_text('\n'.join(RESPONSE) + '\n')
        rows = 'direction\tdose\tprobability\ninject\t1\t0.8\n'
        Path(f'{stem}_desc-counterfactual_stats.tsv').write_text(rows)
    return Settings(
        bids,
        out,
        model=tiny_bundle.path,
        work_dir=tmp_path / 'work',
        skip_bids_validation=True,
        nprocs=1,
        reports_only=True,
    )


def test_derivatives_that_are_whole_make_all_reports(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_participant(settings) == 0
    head = RunOutcome([Outcome(f'sub-{subject}') for subject in SUBJECTS]).lines()[0]
    assert head in capsys.readouterr().out
    for subject in SUBJECTS:
        name = f'sub-{subject}_desc-injectLogJacobian_T1w.png'
        assert (settings.output_dir / f'sub-{subject}' / 'figures' / name).is_file()


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        (f'sub-01_{SPACED}_desc-inject100_logjacobian.nii.gz', None),
        ('sub-01_desc-explain_prediction.json', b'{"ModelName": "tiny", '),
        ('sub-01_desc-explain_prediction.json', b'{"Target": "old"}'),
        ('sub-01_desc-counterfactual_stats.tsv', b'direction\tdose\tprobability\ninject\n'),
    ],
    ids=['map', 'torn prediction', 'other prediction', 'table'],
)
def test_a_damaged_derivative_fails_its_image_alone(
    settings: Settings,
    in_process: Path,
    name: str,
    content: bytes | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings.replace(use_plugin=in_process)
    path = settings.output_dir / 'sub-01' / 'anat' / name
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    assert run_participant(settings) == 1
    told = capsys.readouterr().out
    assert re.search(r'\b1 of 2 .*\b1\.$', told, re.MULTILINE)
    line = next(line for line in told.splitlines() if 'sub-01: failed' in line)
    assert name in line
    assert sum(name in line for line in told.splitlines()) == 1
    assert 'Traceback' not in told
    assert name in (settings.output_dir / 'sub-01.html').read_text(encoding='utf-8')
    assert name not in (settings.output_dir / 'sub-02.html').read_text(encoding='utf-8')


def test_an_image_whose_page_cannot_be_made_fails_alone(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    anat = settings.output_dir / 'sub-01' / 'anat'
    brain = next(anat.glob('*_desc-brain_T1w.nii.gz'))
    shutil.copy(brain, anat / 'sub-01_desc-preproc_T1w.nii.gz')
    (anat / 'sub-01_desc-preproc_T1w.json').write_text('{"Conformation": "old"}')
    assert run_participant(settings.replace(verbose=1)) == 1
    told = capsys.readouterr().out
    assert 'sub-01: failed: AttributeError: ' in told
    assert 'Traceback' in told
    assert (settings.output_dir / 'sub-02.html').is_file()
