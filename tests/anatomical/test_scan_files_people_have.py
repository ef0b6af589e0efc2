"""Files, values and headers of scans that people really have: right, or refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.raw.headers import trusted_affine
from bids_interp.anatomical.raw.nan_background import fill_nan_background
from bids_interp.errors import ImageError
from bids_interp.interfaces.inject import load_scan
from bids_interp.models.bundle.fingerprint import image_fingerprint
from bids_interp.nifti import read_nifti
from helpers import skeletons


@pytest.fixture(scope='module')
def content() -> bytes:
    return skeletons.make_image().to_bytes()


def voxels(path: Path) -> np.ndarray:
    return np.asarray(conform(path)[0].dataobj)


def test_a_flipped_bit_of_the_checksum_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'sub-01_T1w.nii.gz'
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1  # of the CRC, behind the last voxel
    path.write_bytes(bytes(packed))
    for read in (conform, image_fingerprint):
        with pytest.raises(Exception, match='incorrect data check'):
            read(path)
    with pytest.raises(ImageError, match='sub-01_T1w'):
        conform(path)
    path.write_bytes(gzip.compress(content)[:-6])  # all voxels, half a trailer
    with pytest.raises(ImageError, match='sub-01_T1w'):
        conform(path)


def test_the_compression_is_that_of_the_content(tmp_path: Path, content: bytes) -> None:
    good = tmp_path / 'good.nii.gz'
    good.write_bytes(gzip.compress(content))
    assert conform(good)[1].warnings == []
    members = gzip.compress(content[:5000]) + gzip.compress(content[5000:]) + b'\x01garbage'
    odd = {'plain.nii.gz': content, 'packed.nii': gzip.compress(content), 'many.nii.gz': members}
    for name, stored in odd.items():
        path = tmp_path / name
        path.write_bytes(stored)
        img, report = conform(path)
        assert np.array_equal(np.asarray(img.dataobj), voxels(good))
        assert len(report.warnings) == (name != 'many.nii.gz')
        assert image_fingerprint(path) == image_fingerprint(good)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    img = skeletons.make_image()
    path = tmp_path / 'two.nii.gz'
    nib.save(nib.Nifti2Image(np.asarray(img.dataobj), img.affine), path)
    assert isinstance(read_nifti(path)[0], nib.Nifti2Image)
    assert conform(path)[0].shape == img.shape


def with_nan(path: Path, where: np.ndarray, shift: float = 0) -> Path:
    img = skeletons.make_image()
    data = np.asarray(img.dataobj, np.float32) + np.float32(shift)
    data[where] = np.nan
    nib.save(nib.Nifti1Image(data, img.affine), path)
    return path


def test_nan_outside_of_the_brain_is_background(tmp_path: Path) -> None:
    values = np.asarray(skeletons.make_image().dataobj, np.float32)
    outside = values < 100
    img, report = conform(with_nan(tmp_path / 'a.nii', outside))
    assert np.array_equal(np.asarray(img.dataobj), np.where(outside, 0, values))
    assert str(outside.sum()) in report.warnings[0]
    # A planted dataset is made of the same voxels, also where the scan was shifted below zero.
    scan, _, _ = load_scan(str(tmp_path / 'a.nii'))
    assert np.array_equal(scan, np.where(outside, 0, values))
    shifted = voxels(with_nan(tmp_path / 'b.nii', outside, -1000))
    darkest = values[~outside].min()
    assert np.allclose(shifted, np.where(outside, 0, values - darkest), atol=1e-3)


def test_nan_inside_of_the_brain_is_refused(tmp_path: Path) -> None:
    inside, air = np.zeros((2, 45, 50, 45), bool)
    inside[22, 25, 22:24] = True
    air[2, 2, 2] = air[0, 0, 0] = True
    with pytest.raises(ImageError, match=r'a\.nii has 2 voxel'):
        conform(with_nan(tmp_path / 'a.nii', inside))
    assert voxels(with_nan(tmp_path / 'b.nii', air))[2, 2, 2] == 0
    values = np.asarray(skeletons.make_image().dataobj, float)
    filled, n_filled, n_left = fill_nan_background(np.where(inside | air, np.nan, values))
    assert (n_filled, n_left) == (2, 2)
    assert np.array_equal(np.isnan(filled), inside)


def with_forms(sform: np.ndarray, qform: np.ndarray, spacing: float) -> nib.Nifti1Image:
    img = skeletons.make_image()
    img.set_qform(qform, 1)
    img.set_sform(sform, 2)
    raw = bytearray(img.to_bytes())
    raw[76:92] = struct.pack('<4f', 1, spacing, spacing, spacing)
    return nib.Nifti1Image.from_bytes(bytes(raw))


def test_a_form_that_pixdim_contradicts_loses() -> None:
    right = skeletons.make_image().affine
    affine, code, warnings = trusted_affine(with_forms(np.eye(4), right, 4.0), Path('x'))
    assert (affine.tolist(), code, len(warnings)) == (right.tolist(), 1, 1)
    mirrored = right * [[-1], [1], [1], [1]]
    affine, code, warnings = trusted_affine(with_forms(mirrored, right, 4.0), Path('x'))
    assert (affine.tolist(), code, len(warnings)) == (mirrored.tolist(), 2, 1)


@pytest.mark.parametrize('degrees', [0.2, 0.49])
def test_a_small_shear_is_rounding(degrees: float) -> None:
    right = skeletons.make_image().affine
    shear = np.eye(4)
    shear[0, 1] = np.tan(np.radians(degrees))
    affine, _, warnings = trusted_affine(with_forms(shear @ right, right, 4.0), Path('x'))
    axes = affine[:3, :3] / 4
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-4)
    assert len(warnings) == 1
    # Half of the shear at the border of the head, nothing in the middle.
    middle, border = (22, 24.5, 22, 1), (22, 49, 22, 1)
    wanted = shear @ right
    assert affine @ middle == pytest.approx(wanted @ middle, abs=1e-6)
    assert np.abs((affine - wanted) @ border).max() < 0.5 * 98 * np.tan(np.radians(degrees)) + 0.02


def test_a_true_shear_is_refused() -> None:
    right = skeletons.make_image().affine
    shear = np.eye(4)
    shear[0, 1] = np.tan(np.radians(0.6))
    with pytest.raises(ImageError, match=r'x\.nii.*0\.6'):
        trusted_affine(with_forms(shear @ right, right, 4.0), Path('x.nii'))


@pytest.mark.parametrize(('spacing', 'n_warnings'), [((1, 1, 5), 0), ((1, 1, 8), 1)])
def test_thick_slices_have_a_warning(tmp_path: Path, spacing: tuple, n_warnings: int) -> None:
    path = tmp_path / 'scan.nii'
    shape = (90, 90, 20)
    data = np.random.default_rng(0).uniform(1, 9, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([*spacing, 1])), path)
    assert len(conform(path)[1].warnings) == n_warnings
    for wrong in ((1, 1, 8.5), (1, 6, 6)):
        nib.save(nib.Nifti1Image(data, np.diag([*wrong, 1])), path)
        with pytest.raises(ImageError, match=r'scan\.nii has voxels'):
            conform(path)


def test_many_gzip_members_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As bgzip writes them, with members that end within and at the pieces that are read."""
    monkeypatch.setattr('bids_interp.nifti.CHUNK', 64)
    content = nib.Nifti1Image(np.arange(27, dtype=np.int16).reshape(3, 3, 3), np.eye(4)).to_bytes()
    packed = b''.join(gzip.compress(content[i : i + 50]) for i in range(0, len(content), 50))
    path = tmp_path / 'a.nii.gz'
    path.write_bytes(packed)
    image, is_compressed = read_nifti(path)
    assert is_compressed
    assert np.asarray(image.dataobj).sum() == 27 * 13
    path.write_bytes(packed[:-3])
    with pytest.raises(EOFError):
        read_nifti(path)
