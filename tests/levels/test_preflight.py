"""The preflight table: every bad image is named with its remedy, the others go on."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.read import validation
from bids_interp.bids.read.query import collect
from bids_interp.levels import preflight as preflights
from bids_interp.levels.preflight import preflight, render_table
from bids_interp.settings import Settings
from helpers import skeletons

BUNDLE = SimpleNamespace(name='tiny', demonstration=True)


def truncate(path: Path, img: nib.Nifti1Image) -> None:
    nib.save(img, path)
    path.write_bytes(path.read_bytes()[:-2000])


def flip_bits(path: Path, img: nib.Nifti1Image) -> None:
    content = gzip.compress(img.to_bytes())
    path.write_bytes(content[:9000] + bytes(b ^ 255 for b in content[9000:9100]) + content[9100:])


def with_data(change: Callable[[np.ndarray], np.ndarray]) -> Callable:
    def write(path: Path, img: nib.Nifti1Image) -> None:
        data = change(np.asarray(img.dataobj, dtype=np.float32))
        nib.save(nib.Nifti1Image(data, img.affine), path)

    return write


def with_hole(data: np.ndarray) -> np.ndarray:
    data[22, 25, 22] = np.nan
    return data


def without_forms(path: Path, img: nib.Nifti1Image) -> None:
    img = nib.Nifti1Image(np.asarray(img.dataobj), None)
    img.header['sform_code'] = img.header['qform_code'] = 0
    nib.save(img, path)


def claiming(**fields: object) -> Callable:
    """A header that claims something, before the voxels of a good image."""

    def write(path: Path, img: nib.Nifti1Image) -> None:
        content = bytearray(img.to_bytes())
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        path.write_bytes(gzip.compress(bytes(content)))

    return write


def with_few_bytes(path: Path, img: nib.Nifti1Image) -> None:
    """98 bytes that claim 24 GB."""
    header = img.header.copy()
    header.set_data_shape((600, 600, 740))
    header.set_data_dtype(np.float64)
    path.write_bytes(gzip.compress(bytes(header.binaryblock[:348])))


def bomb(path: Path, img: nib.Nifti1Image) -> None:
    """A small file that really holds much more than the memory allows."""
    header = img.header.copy()
    header.set_data_shape((620, 620, 620))
    header['magic'], header['vox_offset'] = b'n+1', 352
    header['pixdim'][1:4] = 0.3
    packer = zlib.compressobj(1, wbits=31)
    parts = [packer.compress(header.binaryblock + b'0' * 4)]
    parts += [packer.compress(bytes(2**20)) for _ in range(460)]
    path.write_bytes(b''.join([*parts, packer.flush()]))


def with_voxels_of(size: float) -> Callable:
    def write(path: Path, img: nib.Nifti1Image) -> None:
        nib.save(nib.Nifti1Image(np.asarray(img.dataobj), np.diag([size, size, size, 1])), path)

    return write


BAD = {
    'empty': lambda path, img: path.write_bytes(b''),
    'text': lambda path, img: path.write_bytes(b'no image at all'),
    'truncated': truncate,
    'corrupt': flip_bits,
    'link': lambda path, img: path.symlink_to('/nowhere/annex.nii.gz'),
    'fourD': with_data(lambda data: np.stack([data, data], -1)),
    'twoD': with_data(lambda data: data[..., 20]),
    'zero': with_data(np.zeros_like),
    'nan': with_data(with_hole),
    'inf': with_data(lambda data: np.where(data > 500, np.inf, data)),
    'noforms': without_forms,
    'huge': with_voxels_of(40.0),
    'mikro': with_voxels_of(0.004),
    'offsetinf': claiming(vox_offset=np.inf),
    'offset1e30': claiming(vox_offset=1e30),
    'offsetneg': claiming(vox_offset=-1e9),
    'claims': claiming(dim=[3, 3000, 3000, 3000, 1, 1, 1, 1]),
    'negative': claiming(dim=[3, -5, -5, -5, 1, 1, 1, 1]),
    'toomany': claiming(dim=[3, 90, 100, 90, 1, 1, 1, 1]),
    'ndim': claiming(dim=[9, 45, 50, 45, 1, 1, 1, 1]),
    'type': claiming(datatype=12345),
    'fewbytes': with_few_bytes,
    'bomb': bomb,
}


@pytest.fixture(scope='module')
def rows(tmp_path_factory: pytest.TempPathFactory):
    """The rows of a dataset with one good image and one of each bad kind."""
    root = skeletons.make_dataset(tmp_path_factory.mktemp('bids'), 'sub-good_T1w.nii.gz')
    img = skeletons.make_image()
    for label, write in BAD.items():
        anat = root / f'sub-{label}' / 'anat'
        anat.mkdir(parents=True)
        write(anat / f'sub-{label}_T1w.nii.gz', img)
    (root / 'sub-none' / 'func').mkdir(parents=True)
    settings = Settings(root, '/out', skip_bids_validation=True, mem_gb=2.0)
    found = preflight(collect(settings), settings, BUNDLE, n_threads=2)
    return {row.name: row for row in found}


@pytest.mark.parametrize('label', BAD)
def test_bad_images_are_named_with_a_remedy(rows, label: str) -> None:
    row = rows[f'sub-{label}']
    assert not row.usable
    assert len(row.problems) == 1
    assert f'sub-{label}_T1w.nii.gz' in row.problems[0]
    assert row.problems[0].count('.') >= 2  # what is wrong, and what to do


def test_the_memory_option_bounds_what_is_read(rows) -> None:
    assert '--mem' in rows['sub-bomb'].problems[0]


def test_claims_of_a_given_mask_are_checked(tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    anat = tmp_path / 'prep' / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    with_few_bytes(anat / 'sub-01_desc-brain_mask.nii.gz', skeletons.make_image())
    settings = Settings(
        root, '/out', derivatives=(('prep', tmp_path / 'prep'),), skip_bids_validation=True
    )
    (row,) = preflight(collect(settings), settings, BUNDLE)
    assert 'sub-01_desc-brain_mask.nii.gz' in row.problems[0]


@pytest.mark.parametrize(
    'error', [MemoryError(), OverflowError('x'), KeyError('y'), RecursionError()]
)
def test_any_error_is_the_row_of_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    root = skeletons.make_dataset(tmp_path, 'sub-01_T1w.nii.gz', 'sub-02_T1w.nii.gz')
    real = preflights.inspect_image

    def inspect(record, *given):
        if record.subject == '01':
            raise error
        return real(record, *given)

    monkeypatch.setattr(preflights, 'inspect_image', inspect)
    settings = Settings(root, '/out', skip_bids_validation=True)
    first, second = preflight(collect(settings), settings, BUNDLE)
    assert type(error).__name__ in first.problems[0]
    assert 'sub-01_T1w.nii.gz' in first.problems[0]
    assert second.usable


@pytest.mark.parametrize(('length', 'usable'), [(101, True), (102, False)])
def test_names_that_are_too_long_for_outputs(tmp_path: Path, length: int, usable: bool) -> None:
    root = skeletons.make_dataset(tmp_path, f'sub-{"a" * length}_acq-{"b" * 30}_T1w.nii.gz')
    settings = Settings(root, '/out', skip_bids_validation=True)
    (row,) = preflight(collect(settings), settings, BUNDLE)
    assert row.usable is usable


def test_the_good_image_goes_on(rows) -> None:
    row = rows['sub-good']
    assert row.usable
    assert row.summary.voxel_size == (4.0, 4.0, 4.0)
    assert row.summary.orientation == 'RAS'
    assert row.output_bytes > 0
    assert row.work_bytes > row.output_bytes


def test_a_participant_without_image_has_a_row(rows) -> None:
    row = rows['sub-none']
    assert not row.usable
    assert 'anat/sub-none[_...]_T1w.nii[.gz]' in row.problems[0]


def test_images_with_one_output_name_are_refused(tmp_path: Path) -> None:
    names = ('sub-09_T1w.nii', 'sub-10_T1w.nii', 'sub-10_T1w.nii.gz', 'sub-CTRL-01_T1w.nii')
    root = skeletons.make_dataset(tmp_path, *names)
    settings = Settings(root, '/out', skip_bids_validation=True)
    rows = preflight(collect(settings), settings, BUNDLE)
    assert [row.usable for row in rows] == [True, False, False, False]
    both = ('sub-10_T1w.nii', 'sub-10_T1w.nii.gz')
    for row in rows[1:3]:
        assert all(f'/{name} ' in row.problems[0] for name in both)
        assert '--bids-filter-file' in row.problems[0]
    assert ' CTRL-01 ' in rows[3].problems[0]
    text = ' '.join(render_table(rows, 120).split())
    assert all(problem in text for row in rows for problem in row.problems)


@pytest.mark.parametrize('width', [60, 80, 100, 200])
def test_the_table_fits_the_terminal(rows, width: int) -> None:
    text = render_table(list(rows.values()), width)
    long_words = max(len(word) for line in text.splitlines() for word in line.split())
    for line in text.splitlines():
        assert len(line) <= max(min(max(width, 80), 120), long_words + 6)
    states = [line.split()[-1] for line in text.splitlines()[2:] if line[0] != ' ']
    assert sorted(states) == ['NO'] * (len(BAD) + 1) + ['yes']
    assert 'tiny (demo)' in text
    assert '4x4x4' in text


def test_long_names_are_cut_not_wrapped(tmp_path: Path) -> None:
    name = (
        'sub-verylonglabel01_ses-screening_acq-mprageaccelerated_rec-normalised_run-01_T1w.nii.gz'
    )
    root = skeletons.make_dataset(tmp_path, name)
    settings = Settings(root, '/out', skip_bids_validation=True)
    text = render_table(preflight(collect(settings), settings, BUNDLE), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[2].endswith('yes')


def test_derivatives_are_told(tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz', 'sub-02_T1w.nii.gz')
    anat = tmp_path / 'prep' / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    nib.save(skeletons.make_image(), anat / 'sub-01_desc-preproc_T1w.nii.gz')
    mask = anat / 'sub-01_desc-brain_mask.nii.gz'
    mask.write_bytes(b'')
    settings = Settings(
        root, '/out', derivatives=(('prep', tmp_path / 'prep'),), skip_bids_validation=True
    )
    first, second = preflight(collect(settings), settings, BUNDLE)
    assert first.summary.brain == 'given'
    assert f'uses {mask}' in first.notes
    assert second.summary.brain != 'given'
    assert '--derivatives' in second.notes[0]


@pytest.mark.parametrize(('mode', 'brain'), [('skip', 'stripped'), ('force', 'extract')])
def test_modes_of_brain_extraction(tmp_path: Path, mode: str, brain: str) -> None:
    root = skeletons.make_dataset(tmp_path, 'sub-01_T1w.nii.gz')
    settings = Settings(root, '/out', skull_strip_t1w=mode, skip_bids_validation=True)
    assert preflight(collect(settings), settings, BUNDLE)[0].summary.brain == brain


def test_what_the_validator_finds_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if validation.find_validator() is None:
        pytest.skip('no BIDS validator is installed')
    root = skeletons.make_dataset(tmp_path, 'sub-01_T1w.nii.gz')
    (root / 'sub-01' / 'anat' / 'sub-01_wrongname.nii.gz').write_bytes(b'')
    settings = Settings(root, '/out')
    with caplog.at_level('WARNING'):
        rows = preflight(collect(settings), settings, BUNDLE)
    assert rows[0].usable
    assert 'sub-01_wrongname' in caplog.text


def test_no_validator_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(validation, 'find_validator', lambda: None)
    assert validation.validate_dataset(tmp_path) == {}
    monkeypatch.setattr(validation, 'find_validator', lambda: '/bin/false')
    assert validation.validate_dataset(tmp_path) == {}


def test_reports_of_the_old_validator() -> None:
    report = {
        'issues': {
            'errors': [
                {'reason': 'Bad.', 'files': [{'file': {'relativePath': '/sub-01/x_T1w.nii.gz'}}]},
                {'key': 'WORSE', 'files': []},
            ]
        }
    }
    assert validation._issues(report) == [('/sub-01/x_T1w.nii.gz', 'Bad.'), ('', 'WORSE')]
