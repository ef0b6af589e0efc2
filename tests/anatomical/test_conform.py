"""Every bad image ends in a clear error; a good one keeps its place in the world."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.raw.conform import conform
from bids_interp.bids.write.nifti import save_image
from bids_interp.errors import ImageError, OutputError

SHAPE = (40, 48, 44)
MARK = np.array([31.0, 12.0, 25.0])  # world RAS mm, on the right side


def turned(degrees: float, axis: int) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [a for a in range(3) if a != axis]
    matrix = np.eye(3)
    matrix[[first, first, second, second], [first, second, first, second]] = (
        cosine,
        -sine,
        sine,
        cosine,
    )
    return matrix


def scan(codes: str = 'RAS', spacing=(4.0, 4.0, 4.0), degrees: float = 0.0, fill=None):
    """A block of noise with a bright ball at MARK, stored with the given axes."""
    linear = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        world = 'LRPAIS'.index(code) // 2
        linear[world, axis] = spacing[axis] * (1 if code in 'RAS' else -1)
    linear = turned(degrees, 0) @ turned(degrees / 2, 2) @ linear
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ ((np.array(SHAPE) - 1) / 2)
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices(SHAPE), 0, -1))
    data = np.random.default_rng(1).uniform(0, 5, SHAPE)
    data += 200 * np.exp(-((points - MARK) ** 2).sum(axis=-1) / (2 * 12.0**2))
    if fill is not None:
        data = fill(data)
    return nib.Nifti1Image(data.astype(np.float32), affine)


def centre_of_ball(img) -> np.ndarray:
    data = np.asarray(img.dataobj, dtype=float)
    weight = np.clip(data - 30, 0, None)
    voxels = np.indices(img.shape).reshape(3, -1) @ weight.ravel() / weight.sum()
    return nib.affines.apply_affine(img.affine, voxels)


@pytest.mark.parametrize('codes', ['RAS', 'LAS', 'LPS', 'PSR', 'SAL', 'IPR'])
@pytest.mark.parametrize('degrees', [0, 17])
def test_a_known_structure_keeps_its_world_position(tmp_path, codes, degrees):
    original = scan(codes, spacing=(3.0, 4.0, 3.5), degrees=degrees)
    nib.save(original, tmp_path / 'scan.nii.gz')
    img, report = conform(tmp_path / 'scan.nii.gz')
    assert ''.join(nib.aff2axcodes(img.affine)) == 'RAS'
    assert centre_of_ball(img) == pytest.approx(MARK, abs=0.5)
    assert centre_of_ball(img)[0] > 0  # the right side stays right
    assert report.orientation == ''.join(nib.aff2axcodes(original.affine))
    assert sorted(report.voxel_sizes) == pytest.approx([3.0, 3.5, 4.0], abs=1e-3)
    assert (report.oblique_degrees > 5) == (degrees > 0)
    # Nothing is resampled: the same values, only in another order.
    assert np.array_equal(np.sort(np.ravel(img.dataobj)), np.sort(np.ravel(original.dataobj)))


def test_both_forms_and_the_type_are_written(tmp_path):
    original = scan('LAS', degrees=17)
    original.set_qform(None, 0)
    original.set_sform(original.affine, 1)
    nib.save(original, tmp_path / 'scan.nii.gz')
    img, _ = conform(tmp_path / 'scan.nii.gz')
    written = nib.load(save_image(img, tmp_path / 'out.nii.gz'))
    assert written.get_data_dtype() == np.float32
    assert np.allclose(written.get_qform(), written.get_sform(), atol=1e-3)
    assert int(written.header['qform_code']) == int(written.header['sform_code']) == 1
    assert written.header.get_xyzt_units()[0] == 'mm'
    assert list(tmp_path.glob('.*')) == []


def test_one_form_is_enough(tmp_path):
    for missing in ('sform', 'qform'):
        original = scan('LAS', degrees=17)
        affine = original.affine
        original.set_qform(affine, 0 if missing == 'qform' else 1)
        original.set_sform(*((None, 0) if missing == 'sform' else (affine, 1)))
        nib.save(original, tmp_path / f'{missing}.nii.gz')
        img, report = conform(tmp_path / f'{missing}.nii.gz')
        assert centre_of_ball(img) == pytest.approx(MARK, abs=0.5)
        assert report.warnings == []


def test_contradicting_forms_are_said_and_the_sform_is_used(tmp_path):
    original = scan('RAS')
    original.set_sform(original.affine, 1)
    mirrored = np.diag([-1.0, 1, 1, 1]) @ original.affine
    original.set_qform(mirrored, 1)
    nib.save(original, tmp_path / 'scan.nii.gz')
    img, report = conform(tmp_path / 'scan.nii.gz')
    assert centre_of_ball(img) == pytest.approx(MARK, abs=0.5)
    (warning,) = report.warnings
    assert 'qform' in warning
    assert 'sform' in warning


def test_a_damaged_sform_gives_way_to_the_qform(tmp_path):
    original = scan('LAS')
    original.set_qform(original.affine, 1)
    original.set_sform(np.diag([0.0, 0, 0, 1]), 1)
    nib.save(original, tmp_path / 'scan.nii.gz')
    img, report = conform(tmp_path / 'scan.nii.gz')
    assert centre_of_ball(img) == pytest.approx(MARK, abs=0.5)
    (warning,) = report.warnings
    assert 'sform' in warning


def test_one_volume_in_four_dimensions_is_made_three(tmp_path):
    original = scan()
    nib.save(
        nib.Nifti1Image(np.asarray(original.dataobj)[..., None], original.affine),
        tmp_path / 'scan.nii.gz',
    )
    img, report = conform(tmp_path / 'scan.nii.gz')
    assert img.shape == SHAPE
    (warning,) = report.warnings
    assert '4-D' in warning


def with_nan(data):
    data[3, 3, 3] = np.nan
    return data


def without_forms(img):
    img.set_sform(None, 0)
    img.set_qform(None, 0)
    return img


def four_volumes(img):
    return nib.Nifti1Image(np.stack([np.asarray(img.dataobj)] * 4, axis=-1), img.affine)


def overflowed(img):
    data = np.asarray(img.dataobj)
    wide = (data / data.max() * 60000).astype(np.int64)
    return nib.Nifti1Image(wide.astype(np.int16), img.affine)


def huge_slope(img):
    out = nib.Nifti1Image(np.asarray(img.dataobj).astype(np.int16), img.affine)
    out.header.set_slope_inter(1e38, 0)
    return out


def upside_down(img):
    out = nib.Nifti1Image(np.asarray(img.dataobj).astype(np.int16), img.affine)
    out.header.set_slope_inter(-1, 0)
    return out


def sheared(img):
    affine = img.affine.copy()
    affine[0, 1] = 1.0
    out = nib.Nifti1Image(np.asarray(img.dataobj), affine)
    out.set_sform(affine, 1)
    return out


def complex_values(img):
    return nib.Nifti1Image(np.asarray(img.dataobj).astype(np.complex64), img.affine)


def scaled_affine(factor):
    def scale(img):
        return nib.Nifti1Image(np.asarray(img.dataobj), img.affine * [factor, factor, factor, 1])

    return scale


def single_slice(img):
    return nib.Nifti1Image(np.asarray(img.dataobj)[:, :, :1], img.affine)


def flat(img):
    return nib.Nifti1Image(np.asarray(img.dataobj)[:, :, 0], img.affine)


BAD = {
    'nan': (lambda img: scan(fill=with_nan), r' 1 voxels?\b.*NaN'),
    'zero': (lambda img: scan(fill=np.zeros_like), r'\bzero\b'),
    'constant': (lambda img: scan(fill=np.ones_like), r'\b1\b(?!_)'),
    'forms': (without_forms, r'sform.*qform'),
    'volumes': (four_volumes, r'\(\d+, \d+, \d+, 4\)'),
    'slice': (single_slice, r'\(\d+, \d+, 1\)'),
    'flat': (flat, r'shape \(\d+, \d+\)'),
    'overflow': (overflowed, r'int16.*-\d+.*\d+'),
    'slope': (huge_slope, r'scl_slope 1e\+38'),
    'negative': (upside_down, r'scl_slope \(-1\)'),
    'shear': (sheared, r'\d\.\d{3}'),
    'complex': (complex_values, 'complex64'),
    'tiny': (scaled_affine(0.01), r'0\.04 x 0\.04 x 0\.04 mm'),
    'huge': (scaled_affine(2.0), '8 x 8 x 8 mm'),
    'mouse': (scaled_affine(0.1), r'\d+ x \d+ x \d+ mm'),
}


@pytest.mark.parametrize('kind', BAD)
def test_a_bad_image_is_refused_by_name(tmp_path, kind):
    make, words = BAD[kind]
    path = tmp_path / 'sub-01_T1w.nii'
    made = make(scan())
    if made.header.get_slope_inter()[0] is not None:
        # nibabel chooses its own scaling when it saves: keep ours by writing the header again.
        slope = made.header.get_slope_inter()[0]
        nib.save(nib.Nifti1Image(np.asarray(made.dataobj), made.affine), path)
        raw = bytearray(path.read_bytes())
        raw[112:116] = np.float32(slope).tobytes()
        path.write_bytes(bytes(raw))
    else:
        nib.save(made, path)
    with pytest.raises(ImageError, match='sub-01_T1w') as caught:
        conform(path)
    message = caught.value.message.replace(str(path), '')
    assert re.search(words, message), message
    assert caught.value.advice


@pytest.mark.parametrize('keep', [0, 100, 5000])
@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep, suffix):
    path = tmp_path / f'sub-01_T1w{suffix}'
    nib.save(scan(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageError, match='sub-01_T1w'):
        conform(path)


def test_a_file_with_flipped_bytes_is_refused_by_name(tmp_path):
    path = tmp_path / 'sub-01_T1w.nii.gz'
    nib.save(scan(), path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 500] = bytes(500)
    path.write_bytes(bytes(raw))
    with pytest.raises(ImageError, match='sub-01_T1w'):
        conform(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ImageError, match='gone_T1w'):
        conform(tmp_path / 'gone_T1w.nii.gz')


def test_integers_are_scaled_as_the_header_says(tmp_path):
    path = tmp_path / 'scan.nii'
    original = scan()
    nib.save(nib.Nifti1Image(np.asarray(original.dataobj).astype(np.int16), original.affine), path)
    raw = bytearray(path.read_bytes())
    raw[112:116], raw[116:120] = np.float32(0.5).tobytes(), np.float32(10).tobytes()
    path.write_bytes(bytes(raw))
    img, report = conform(path)
    whole = np.asarray(original.dataobj).astype(np.int16)
    # The air is at 10 then, and this level is subtracted.
    shift = np.asarray(img.dataobj) - whole * 0.5
    assert np.allclose(shift, shift[0, 0, 0])
    assert abs(shift[0, 0, 0]) <= 1
    level = 10 - shift[0, 0, 0]
    assert f'{level:g}' in report.warnings[0]


def test_no_half_file_is_left_where_nothing_can_be_written(tmp_path):
    folder = tmp_path / 'file'
    folder.write_text('in the way')
    with pytest.raises(OutputError):
        save_image(scan(), folder / 'out.nii.gz')
