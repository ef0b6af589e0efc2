"""The command from start to end: what it writes, and that it is right."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.slow

EXPECTED = Path(__file__).with_name('expected_outputs.txt')
TEMPLATE = 'MNI152NLin2009aSym'


@dataclass(frozen=True)
class Run:
    """A finished run of the command."""

    bids: Path
    out: Path
    work: Path
    arguments: tuple[str, ...]
    code: int
    words: str


def _digests(out: Path) -> dict[str, str]:
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob('sub-*/**/*'))
        if file.is_file() and file.name.endswith(('.nii.gz', '.tsv', '.txt'))
    }


def _world_turn() -> np.ndarray:
    """Rotation by 8 degrees about the left-right axis and a shift: where the head lies."""
    turn = np.eye(4)
    cosine, sine = np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
    turn[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    turn[:3, 3] = [4.0, -6.0, 9.0]
    return turn


@pytest.fixture(scope='module')
def dataset(template_brain: nib.Nifti1Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stripped brain at 3 mm, oblique and stored in LAS order, in a BIDS dataset."""
    root = tmp_path_factory.mktemp('bids')
    data = np.asarray(template_brain.dataobj)[1::3, 1::3, 1::3]
    affine = template_brain.affine.copy()
    affine[:3, 3] = (affine @ [1, 1, 1, 1])[:3]
    affine[:3, :3] *= 3
    noise = np.random.default_rng(0).normal(0, 0.02, data.shape) * (data > 0)
    values = np.clip(data / data.max() + noise, 0, None) * (data > 0) * 1000
    stored = nib.Nifti1Image(values.astype(np.int16), _world_turn() @ affine)
    las = nib.orientations.axcodes2ornt('LAS')
    stored = stored.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(stored.affine), las)
    )
    stored.header.set_xyzt_units('mm', 'sec')
    (root / 'sub-01' / 'anat').mkdir(parents=True)
    nib.save(stored, root / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz')
    description = {'Name': 'One brain', 'BIDSVersion': '1.9.0', 'DatasetType': 'raw'}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    (root / 'README').write_text('The brain of a template, turned; made by the tests.\n')
    return root


@pytest.fixture(scope='module')
def first(dataset: Path, tiny_bundle, command, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp('run') / 'out'
    work = out.with_name('work')
    arguments = (
        *('--model', str(tiny_bundle.path), '--work-dir', str(work)),
        *('--nprocs', '2', '--omp-nthreads', '2', '--offline'),
    )
    done = command(dataset, out, 'participant', *arguments)
    return Run(dataset, out, work, arguments, done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope='module')
def anat(first: Run) -> Path:
    return first.out / 'sub-01' / 'anat'


def _sidecar(file: Path) -> dict[str, Any]:
    return json.loads((file.parent / (file.name.split('.')[0] + '.json')).read_text())


def test_the_run_succeeds(first: Run) -> None:
    assert first.code == 0, first.words[-4000:]


def test_every_expected_file_is_there_and_no_other(first: Run) -> None:
    expected = EXPECTED.read_text().split()
    run = re.compile(r'\d{8}-\d{6}_[0-9a-f-]{36}')
    found = [
        run.sub('RUN', str(file.relative_to(first.out)))
        for file in first.out.rglob('*')
        if file.is_file()
    ]
    assert sorted(found) == sorted(expected)


def test_the_validator_finds_no_error(first: Run, validate_bids) -> None:
    assert validate_bids(first.out) == ''


def test_every_image_says_what_it_is(anat: Path, tiny_bundle) -> None:
    files = sorted(anat.glob('*.nii.gz'))
    assert files
    for file in files:
        fields = _sidecar(file)
        assert all(source.startswith('bids:') for source in fields['Sources']), file.name
        if file.name.endswith('_T1w.nii.gz'):
            assert fields['SkullStripped'] is True, file.name
        if 'inject' in file.name or 'remove' in file.name:
            assert fields['ModelName'] == tiny_bundle.name
            assert fields['ModelHash'] == tiny_bundle.version_hash
            assert fields['Demonstration'] is True
            assert isinstance(fields['RandomSeed'], int)
        if file.name.endswith('_logjacobian.nii.gz'):
            is_observed = '_desc-anatomy_' in file.name
            meaning = 'larger in the subject' if is_observed else 'local expansion'
            assert f'positive = {meaning}' in fields['Sign']


def test_headers_agree(anat: Path) -> None:
    for file in anat.glob('*.nii.gz'):
        image = nib.load(file)
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4), file.name
        assert image.header['sform_code'] == image.header['qform_code'] > 0, file.name
        assert image.header.get_xyzt_units()[0] == 'mm', file.name


def test_the_brain_is_found_in_the_template(anat: Path) -> None:
    """The head was turned by a known matrix; ITK's text is in LPS."""
    text = (anat / f'sub-01_from-{TEMPLATE}_to-T1w_mode-image_xfm.txt').read_text()
    values = [
        np.array(line.split(':')[1].split(), float)
        for line in text.splitlines()
        if line.startswith(('Parameters', 'FixedParameters'))
    ]
    linear, shift, centre = values[0][:9].reshape(3, 3), values[0][9:], values[1]
    lps_to_ras = np.diag([-1.0, -1, 1])
    points = np.array([[0.0, 0, 0], [40, 0, 10], [-40, -60, 20], [0, 50, -20], [20, -20, 60]])
    # The image transform to T1w takes points of the T1w image to the template.
    native = nib.affines.apply_affine(_world_turn(), points) @ lps_to_ras
    mapped = ((native - centre) @ linear.T + shift + centre) @ lps_to_ras
    assert np.abs(mapped - points).max() < 2.0


def test_native_images_lie_on_the_grid_of_the_input(first: Run, anat: Path) -> None:
    """Left stays left: the simulated brain correlates with the input in world coordinates."""
    given = nib.as_closest_canonical(nib.load(first.bids / 'sub-01/anat/sub-01_T1w.nii.gz'))
    brain = given.get_fdata()
    for desc in ('preproc', 'inject100', 'remove100'):
        image = nib.load(anat / f'sub-01_desc-{desc}_T1w.nii.gz')
        assert image.shape == given.shape
        assert np.allclose(image.affine, given.affine, atol=1e-3)
        inside = brain > 0
        straight = np.corrcoef(image.get_fdata()[inside], brain[inside])[0, 1]
        assert straight > 0.7, desc


def test_maps_agree_between_spaces(anat: Path) -> None:
    """The native map is the template's map seen through the affine."""
    from nilearn.image import resample_img

    template = nib.load(anat / f'sub-01_space-{TEMPLATE}_res-1_desc-inject100_logjacobian.nii.gz')
    native = nib.load(anat / 'sub-01_desc-inject100_logjacobian.nii.gz')
    turned = nib.Nifti1Image(template.get_fdata(), _world_turn() @ template.affine)
    seen = resample_img(
        turned, native.affine, native.shape, force_resample=True, copy_header=True
    ).get_fdata()
    mask = nib.load(anat / 'sub-01_desc-brain_mask.nii.gz').get_fdata() > 0
    ours = native.get_fdata()
    assert ours[mask].std() > 0
    assert np.corrcoef(seen[mask], ours[mask])[0, 1] > 0.9


def test_prediction_answers_by_fold(anat: Path, tiny_bundle) -> None:
    fields = json.loads((anat / 'sub-01_desc-explain_prediction.json').read_text())
    logits = [fold['Logit'] for fold in fields['Observed']['Folds']]
    assert len(logits) == tiny_bundle.n_folds
    assert fields['Observed']['LogitMean'] == pytest.approx(np.mean(logits))
    assert set(fields['Simulated']) == {'inject100', 'remove100'}
    assert fields['ModelHash'] == tiny_bundle.version_hash


def test_the_report_is_small_and_says_demonstration(first: Run) -> None:
    report = first.out / 'sub-01.html'
    assert report.stat().st_size < 5e6
    assert 'demonstration' in report.read_text().lower()


def test_other_places_are_no_reason_to_compute_again(
    first: Run, command, tiny_bundle, tmp_path: Path
) -> None:
    """Input, output, work and model elsewhere, as in another container: only files are written."""
    places = {first.bids: 'in', first.out: 'to', first.work: 'w', tiny_bundle.path: 'model'}
    places = {old: tmp_path / 'elsewhere' / new for old, new in places.items()}
    for old, new in places.items():
        shutil.copytree(old, new, symlinks=True)
        old.rename(f'{old}-hidden')
    try:
        made = {file: file.stat().st_mtime_ns for file in tmp_path.rglob('result_*.pklz')}
        arguments = [str(places.get(Path(word), word)) for word in first.arguments]
        done = command(places[first.bids], places[first.out], 'participant', *arguments)
        again = {file.parent.name for file, time in made.items() if file.stat().st_mtime_ns != time}
    finally:
        for old in places:
            Path(f'{old}-hidden').rename(old)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert len(made) > 10
    # These write into the output, which could be another one.
    assert not {name for name in again if not name.startswith(('ds_', 'figures', 'report'))}, again


def test_again_with_a_broken_neighbour(first: Run, command) -> None:
    """Finished work is kept, a corrupt image is named, and the code says that one failed."""
    before = _digests(first.out)
    made = {file: file.stat().st_mtime_ns for file in first.work.rglob('result_*.pklz')}
    folder = first.bids / 'sub-02' / 'anat'
    folder.mkdir(parents=True)
    whole = (first.bids / 'sub-01' / 'anat' / 'sub-01_T1w.nii.gz').read_bytes()
    (folder / 'sub-02_T1w.nii.gz').write_bytes(whole[: len(whole) // 2])
    done = command(first.bids, first.out, 'participant', *first.arguments)
    words = done.stdout + done.stderr
    assert done.returncode == 1, words[-4000:]
    assert 'sub-02_T1w.nii.gz' in words
    assert _digests(first.out) == before
    again = {file.parent.name for file, time in made.items() if file.stat().st_mtime_ns != time}
    assert not {name for name in again if not name.startswith(('ds_', 'report'))}, again


@pytest.mark.real
def test_a_real_head(shared_data: Path, command, validate_bids, tmp_path: Path) -> None:
    """A whole head with the packaged model: mask of a brain's size, a warp without folds."""
    done = command(
        *(shared_data / 'data' / 'ds000011-heads', tmp_path / 'out', 'participant'),
        *('--participant-label', '01', '--work-dir', tmp_path / 'work', '--nprocs', '2', '--fast'),
        '--offline',
        TEMPLATEFLOW_HOME=str(shared_data / 'templateflow'),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    anat = tmp_path / 'out' / 'sub-01' / 'anat'
    mask = nib.load(anat / 'sub-01_desc-brain_mask.nii.gz')
    litres = mask.get_fdata().sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1e6
    assert 1.0 < litres < 2.0
    jacobian = nib.load(anat / 'sub-01_desc-inject100_logjacobian.nii.gz').get_fdata()
    assert np.isfinite(jacobian).all()
    assert 0.01 < np.abs(jacobian).max() < 3
    assert validate_bids(tmp_path / 'out') == ''
