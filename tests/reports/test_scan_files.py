"""Files that reports use: those of the model and the doses of the prediction."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.read.scan_files import ScanFiles, is_made_with
from bids_interp.errors import ImageError
from bids_interp.reports import build_report, draw_figures
from bids_interp.reports.scan.region_changes import measure_regions
from bids_interp.reports.scan.saliency_figure import listed_methods

PREFIX = 'sub-01_run-1'
SPACED = f'{PREFIX}_space-MNI152NLin2009aSym_res-1_'
OTHER = 'd3b8b08dda3b'
ANSWER = {
    'LogitMean': 1.0,
    'LogitSD': 0.0,
    'ProbabilityMean': 0.7,
    'ProbabilitySD': 0.0,
    'Folds': [],
}


def change_json(path: Path, **fields: object) -> None:
    """Overwrite fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def age(files: ScanFiles) -> None:
    """A second run, of another model, with maps in the space of the scan and the other sign."""
    for path in files.anatomical.glob(f'{SPACED}desc-*100_*.nii.gz'):
        native = files.anatomical / path.name.replace(SPACED, f'{PREFIX}_')
        shutil.copy(path, native)
        change_json(sidecar_of(path), ModelHash='abc123def456')
        sidecar_of(native).write_text(json.dumps({'ModelHash': OTHER}))
    for path in files.anatomical.glob('*_velocity.nii.gz'):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(-np.asarray(image.dataobj), image.affine), path)
        change_json(sidecar_of(path), ModelHash=OTHER)
    change_json(files.prediction, ModelHash=OTHER)


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name.replace('.nii.gz', '.json'))


def test_who_made_it(tmp_path: Path) -> None:
    path = tmp_path / 'map.nii.gz'
    assert is_made_with(path, 'b')
    sidecar_of(path).write_text('{}')
    assert is_made_with(path, 'b')
    sidecar_of(path).write_text('{"ModelHash": "a"}')
    assert is_made_with(path, 'a')
    assert not is_made_with(path, 'b')
    assert is_made_with(path, None)


def test_maps_of_another_model_are_not_taken(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    before = {(r.label, r.direction): r.volume_change_percent for r in measure_regions(files)}
    age(files)
    for suffix in ('logjacobian', 'T1w'):
        assert files.doses('inject', suffix) == {
            100: files.anatomical / f'{PREFIX}_desc-inject100_{suffix}.nii.gz'
        }
    assert files.shown_brain == files.native('desc-preproc_T1w.nii.gz')
    # From the velocity, whose sign is the other one.
    after = {(r.label, r.direction): r.volume_change_percent for r in measure_regions(files)}
    name = ('left hippocampus', 'inject')
    assert before[name] < -5
    assert after[name] > 5
    velocity = files.field('inject')
    change_json(sidecar_of(velocity), ModelHash='abc123def456')
    assert files.field('inject') is None


def test_the_brain_is_the_same_for_every_model(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    old = files.anatomical / f'{SPACED}desc-brain_T1w.nii.gz'
    change_json(sidecar_of(old), ModelHash=OTHER)
    assert files.template('desc-brain_T1w.nii.gz') == old
    # That of the model's own template goes before: the template of its input.
    for path in files.anatomical.glob('*_res-model_*.nii.gz'):
        change_json(sidecar_of(path), ModelHash=OTHER)
    own_input = files.anatomical / f'{PREFIX}_space-Other_res-model_desc-input_T1w.nii.gz'
    own_input.touch()
    new = files.anatomical / f'{PREFIX}_space-Other_res-1_desc-brain_T1w.nii.gz'
    shutil.copy(old, new)
    assert files.template('desc-brain_T1w.nii.gz') == new


def test_figures_of_an_earlier_run_do_not_stay(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    age(files)
    neighbour = files.figures / 'sub-01_run-10_desc-grid_T1w.png'
    shutil.copy(files.figure('grid', '.png'), neighbour)
    drawn = draw_figures(derivatives, PREFIX)
    assert not {files.figure('grid', '.png'), files.figure('player', '.html')} & set(drawn)
    assert set(files.figures.iterdir()) == {*drawn, neighbour}


def test_doses_of_the_prediction_are_shown(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    full = files.full_dose('inject')[1]
    half = full.with_name(full.name.replace('100', '050'))
    shutil.copy(full, half)
    assert set(files.doses('inject')) == {50, 100}
    change_json(files.prediction, Simulated={'inject050': ANSWER, 'remove050': ANSWER})
    assert files.doses('inject') == {50: half}
    assert files.full_dose('remove') is None


def test_saliency_of_another_model_is_not_listed(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    path = files.anatomical / f'{PREFIX}_desc-methods_saliency.json'
    path.write_text(json.dumps({'Methods': ['gradient'], 'ModelHash': 'abc123def456'}))
    assert listed_methods(files)['Methods'] == ['gradient']
    change_json(files.prediction, ModelHash=OTHER)
    assert listed_methods(files) == {}


@pytest.mark.parametrize(
    ('ending', 'content'),
    [
        ('desc-explain_prediction.json', b'{"ModelName": '),
        ('desc-explain_prediction.json', b'[]'),
        ('desc-counterfactual_stats.tsv', b'direction\tdose\tprobability\ninject\t1\n'),
        ('desc-counterfactual_stats.tsv', b''),
        ('desc-doseresponse_stats.tsv', b'\xff\xfe\x00'),
    ],
)
def test_a_damaged_text_is_named(derivatives: Path, ending: str, content: bytes) -> None:
    files = ScanFiles(derivatives, PREFIX)
    files.native(ending).write_bytes(content)
    with pytest.raises(ImageError, match=re.escape(f'{PREFIX}_{ending}')):
        build_report(derivatives, PREFIX)
    # Where the caller tells of errors, the others are shown.
    page = build_report(derivatives, PREFIX, errors=[{'node': 'x', 'message': 'told so'}])
    assert 'told so' in page.read_text(encoding='utf-8')
