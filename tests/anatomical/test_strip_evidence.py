"""Extracted brains are told from heads."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.strip_evidence import stripped_evidence


def noisy(img, sd):
    data = np.asarray(img.dataobj, dtype=np.float32)
    noise = np.random.default_rng(2).normal(0, sd * np.percentile(data, 99), (2, *data.shape))
    return nib.Nifti1Image(np.hypot(data + noise[0], noise[1]).astype(np.float32), img.affine)


def test_a_brain_is_seen_to_be_stripped(phantom_head):
    whole, mask = phantom_head
    brain = np.asarray(whole.dataobj) * (np.asarray(mask.dataobj) > 0)
    assert stripped_evidence(nib.Nifti1Image(brain, whole.affine)).stripped


def test_a_constant_background_that_is_not_zero_is_background_too(phantom_head):
    whole, mask = phantom_head
    inside = np.asarray(mask.dataobj) > 0
    shifted = np.where(inside, np.asarray(whole.dataobj) + 100, 50)
    assert stripped_evidence(nib.Nifti1Image(shifted, whole.affine)).stripped


@pytest.mark.parametrize('sd', [0.0, 0.02])
def test_a_head_is_not(phantom_head, sd):
    assert not stripped_evidence(noisy(phantom_head[0], sd)).stripped


def test_a_head_without_background_noise_and_face_is_not(phantom_head):
    whole, _ = phantom_head
    data = np.asarray(whole.dataobj).copy()
    data[data < 0.1 * np.percentile(data, 99)] = 0
    data[:, data.shape[1] * 3 // 4 :, : data.shape[2] // 2] = 0
    assert not stripped_evidence(nib.Nifti1Image(data, whole.affine)).stripped


def test_an_empty_image_is_not():
    assert not stripped_evidence(nib.Nifti1Image(np.zeros((20, 20, 20)), np.eye(4) * 5)).stripped


@pytest.mark.real
@pytest.mark.parametrize(
    ('dataset', 'expected', 'count'),
    [('ds000011-heads', False, 6), ('ds002748-2mm', True, 35), ('ds002748-native', True, 2)],
)
def test_on_real_scans(shared_data, dataset, expected, count):
    paths = sorted((shared_data / 'data' / dataset).glob('sub-*/anat/*_T1w.nii.gz'))
    assert len(paths) == count
    for path in paths:
        assert stripped_evidence(nib.load(path)).stripped is expected, path


@pytest.mark.real
def test_on_real_heads_whose_background_was_set_to_zero(shared_data):
    for path in sorted((shared_data / 'data/ds000011-heads').glob('sub-*/anat/*.nii.gz'))[:2]:
        img = nib.load(path)
        data = np.asarray(img.dataobj, dtype=np.float32)
        data[data < 0.12 * np.percentile(data, 99)] = 0
        assert not stripped_evidence(nib.Nifti1Image(data, img.affine)).stripped
