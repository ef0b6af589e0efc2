"""Any shift and scale of one scan gives one brain; frames, outliers and fields change nothing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain
from bids_interp.anatomical.raw.background import measure_background
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.raw.intensities import without_level
from bids_interp.anatomical.registration import winsorised
from bids_interp.anatomical.strip_evidence import is_stripped, stripped_evidence


@pytest.fixture(scope='module')
def brain(phantom_head):
    """A stripped brain at 3 mm with tissue of 100 to 2100 and noise, 0 outside, and its mask."""
    whole, mask = phantom_head
    inside = np.asarray(mask.dataobj) > 0.5
    data = np.asarray(whole.dataobj, np.float32)
    data = 100 + 2000 * data / np.percentile(data[inside], 99.5)
    data += np.random.default_rng(0).normal(0, 20, data.shape)
    return np.where(inside, np.clip(data, 20, 2300), 0).astype(np.float32), inside, whole.affine


def spiked(data, inside):
    out = data.copy()
    places = np.argwhere(inside)[::2000]
    out[tuple(places.T)] *= 1000
    out[2, 2, 2] = -1e7
    return out


def framed(data, inside):
    out = np.full_like(data, 4095)
    out[1:-1, 1:-1, 1:-1] = data[1:-1, 1:-1, 1:-1]
    return out


KINDS = {
    'shifted down': lambda d, _: d - 1024,
    'shifted up': lambda d, _: d + 5000,
    'scaled': lambda d, _: 1e-9 * d,
    'scaled and shifted': lambda d, _: 0.01 * d - 3,
    'z-scored, background too': lambda d, m: (d - d[m].mean()) / d[m].std(),
    'z-scored, background 0': lambda d, m: np.where(m, (d - d[m].mean()) / d[m].std(), 0),
    'no background level': lambda d, m: np.where(m, d, np.nan),
    'noise': lambda d, _: d + np.random.default_rng(1).normal(0, 20, d.shape),
    'spikes': spiked,
    'frame': framed,
}


@pytest.fixture(scope='module', autouse=True)
def without_n4():
    """No bias correction of brains; the decision that needs one still has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'bids_interp.anatomical.prepared_brain.correct_bias', lambda img, **options: img
        )
        yield


def prepared(data, affine, folder):
    path = folder / 'sub-01_T1w.nii'
    nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), path)
    img, report = conform(path)
    assert is_stripped(img)
    found = prepare_brain(img, BrainOptions())
    return np.asarray(found.brain.dataobj), np.asarray(found.mask.dataobj) > 0.5, report.warnings


@pytest.fixture(scope='module')
def clean_brain(brain, tmp_path_factory):
    return prepared(brain[0], brain[2], tmp_path_factory.mktemp('clean'))


@pytest.mark.parametrize('kind', KINDS)
def test_one_scan_gives_one_brain(brain, clean_brain, kind, tmp_path):
    data, inside, affine = brain
    clean, mask, warnings = clean_brain
    assert warnings == []
    other, its_mask, warnings = prepared(KINDS[kind](data, inside), affine, tmp_path)
    assert len(warnings) == (kind not in ('scaled', 'noise'))
    assert its_mask.sum() == pytest.approx(mask.sum(), rel=0.03)
    assert np.corrcoef(clean.ravel(), other.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(('shift', 'kept'), [(0, True), (-700, False), (400, False)])
def test_the_level_of_a_noisy_head_is_its_air(phantom_head, shift, kept):
    data = 1000 * np.asarray(phantom_head[0].dataobj) / np.asarray(phantom_head[0].dataobj).max()
    noise = np.random.default_rng(2).normal(0, 15, (2, *data.shape))
    data = np.hypot(data + noise[0], noise[1])
    out, note = without_level(data + shift)
    assert (note == '') == kept
    assert np.abs(out - data).max() < 25  # the noise itself


def test_a_strong_receive_field_is_not_taken_for_a_skull(brain):
    data, _, affine = brain
    field = np.exp(np.linspace(0, np.log(20), data.shape[1]))[None, :, None]
    img = nib.Nifti1Image((data * field).astype(np.float32), affine)
    assert not stripped_evidence(img).stripped
    assert is_stripped(img)


def test_a_soft_edge_is_cut(brain, clean_brain, tmp_path):
    """Outside, the brightness fades over 10 mm, as where a probability map was multiplied."""
    from scipy import ndimage

    data, inside, affine = brain
    outside = ndimage.gaussian_filter(inside.astype(np.float32), 1.5)
    mask = clean_brain[1]
    _, soft, _ = prepared(np.where(inside, data, 400 * outside), affine, tmp_path)
    assert soft.sum() == pytest.approx(mask.sum(), rel=0.05)


def test_registration_sees_no_outliers(brain):
    data, inside, affine = brain
    img = nib.Nifti1Image(spiked(data, inside), affine)
    assert np.asarray(winsorised(img).dataobj).max() < 1.1 * data.max()
    assert measure_background(data).level == 0


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize('subject', ['sub-17', 'sub-45'])
def test_a_real_brain_in_a_strong_field(shared_data, subject):
    path = next((shared_data / 'data/ds002748-2mm' / subject / 'anat').glob('*_T1w.nii.gz'))
    img, _ = conform(path)
    data = np.asarray(img.dataobj)
    field = np.exp(np.linspace(0, np.log(6), data.shape[1]))[None, :, None]
    biased = nib.Nifti1Image((data * field).astype(np.float32), img.affine)
    assert is_stripped(biased)
    mask = nib.Nifti1Image((data > 0).astype(np.float32), img.affine)
    clean, other = (np.asarray(correct_bias(image, mask=mask).dataobj) for image in (img, biased))
    assert np.corrcoef(clean.ravel(), other.ravel())[0, 1] > 0.98
