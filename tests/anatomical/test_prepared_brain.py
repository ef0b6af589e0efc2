"""From a conformed image to a brain, by every way that there is."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.given_mask import load_mask
from bids_interp.anatomical.mask_border import MaskSettings, refine
from bids_interp.anatomical.prepared_brain import (
    NOT_BACKGROUND,
    BrainOptions,
    prepare_brain,
)
from bids_interp.anatomical.raw.conform import conform
from bids_interp.errors import ImageError
from helpers import shapes


@pytest.fixture(scope='module')
def head(phantom_head):
    """A synthetic head at 3 mm with some noise, and its brain mask."""
    whole, mask = phantom_head
    data = np.asarray(whole.dataobj, dtype=np.float32)
    noise = np.random.default_rng(5).normal(0, 0.01 * data.max(), data.shape)
    img = nib.Nifti1Image(np.abs(data + noise).astype(np.float32), whole.affine)
    return img, np.asarray(mask.dataobj) > 0.5


def as_brain(head):
    img, mask = head
    out = nib.Nifti1Image(np.asarray(img.dataobj) * mask, img.affine)
    out.set_sform(img.affine, 1)
    return out


def dice(first, second):
    first, second = np.asarray(first) > 0.5, np.asarray(second) > 0.5
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture(autouse=True)
def without_n4(monkeypatch):
    """N4 has its own test, which calls it by its own name."""
    monkeypatch.setattr(
        'bids_interp.anatomical.prepared_brain.correct_bias', lambda img, **options: img
    )


@pytest.mark.parametrize('skull_strip', ['auto', 'skip'])
def test_a_stripped_brain_is_taken_as_it_is(head, skull_strip):
    brain = as_brain(head)
    prepared = prepare_brain(brain, BrainOptions(skull_strip))
    assert prepared.stripped_input
    assert dice(prepared.mask.dataobj, head[1]) > 0.97
    assert np.array_equal(
        np.asarray(prepared.brain.dataobj), np.asarray(brain.dataobj) * prepared.mask.dataobj
    )
    assert prepared.facts['BrainMask'] == NOT_BACKGROUND


def test_a_head_that_is_said_to_be_a_brain_is_refused(head):
    with pytest.raises(ImageError, match='sub-04_T1w') as caught:
        prepare_brain(head[0], BrainOptions('skip'), name='sub-04_T1w.nii.gz')
    assert '--skull-strip-t1w' in caught.value.advice


def test_a_given_mask_is_used(head, tmp_path):
    img, mask = head
    # Stored with other axes than the conformed image: it must be turned the same way.
    flipped = nib.as_closest_canonical(nib.Nifti1Image(mask.astype(np.uint8), img.affine))
    flipped = flipped.as_reoriented([[0, -1], [2, 1], [1, 1]])
    nib.save(flipped, tmp_path / 'mask.nii.gz')
    prepared = prepare_brain(img, BrainOptions(), given_mask=tmp_path / 'mask.nii.gz')
    assert np.array_equal(np.asarray(prepared.mask.dataobj) > 0.5, mask)
    assert not prepared.stripped_input
    assert prepared.facts['BrainMask'] == 'given'
    brain, image = (np.asarray(part.dataobj) for part in (prepared.brain, prepared.image))
    assert not brain[~mask].any()
    assert image[~mask].max() > 0
    np.testing.assert_array_equal(brain[mask], np.clip(image[mask], 0, None))


def test_a_given_mask_loses_dust_and_keeps_separate_parts(head, tmp_path):
    """Two blocks, the smaller one like a cerebellum that was cut off, and crumbs in the corners."""
    img, mask = head
    parts = np.zeros_like(mask)
    parts[10:50, 10:60, 30:60] = parts[20:40, 15:30, 15:25] = True
    given = parts.copy()
    given[1, 1, 1] = given[-3:-1, -3, -3] = True
    given[30, 30, 40] = False
    nib.save(nib.Nifti1Image(given.astype(np.uint8), img.affine), tmp_path / 'mask.nii.gz')
    found = load_mask(tmp_path / 'mask.nii.gz', img)
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0.5, parts)


@pytest.mark.parametrize('fault', ['grid', 'empty', 'damaged'])
def test_a_mask_that_does_not_fit_is_refused_by_name(head, tmp_path, fault):
    img, mask = head
    path = tmp_path / 'sub-01_desc-brain_mask.nii.gz'
    affine = img.affine.copy()
    if fault == 'grid':
        affine[0, 3] += 60
    values = np.zeros_like(mask) if fault == 'empty' else mask
    nib.save(nib.Nifti1Image(values.astype(np.uint8), affine), path)
    if fault == 'damaged':
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match='sub-01_desc-brain_mask'):
        prepare_brain(img, BrainOptions(), given_mask=path)


def test_a_preprocessed_image_is_not_corrected_again(head, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError('N4 was run on a preprocessed image')

    monkeypatch.setattr('bids_interp.anatomical.prepared_brain.correct_bias', refuse)
    prepared = prepare_brain(as_brain(head), BrainOptions(), corrected=True)
    assert 'BiasCorrection' not in prepared.facts


def test_a_bias_field_is_taken_out(head, monkeypatch):
    monkeypatch.setattr('bids_interp.anatomical.bias.FIT_MM', 8.0)
    brain = as_brain(head)
    ramp = np.linspace(0.7, 1.3, brain.shape[1])[None, :, None]
    biased = nib.Nifti1Image((np.asarray(brain.dataobj) * ramp).astype(np.float32), brain.affine)
    biased.set_sform(brain.affine, 1)
    mask = nib.Nifti1Image(head[1].astype(np.float32), brain.affine)
    before = np.asarray(biased.dataobj) / np.where(head[1], np.asarray(brain.dataobj), 1)
    # The brain itself is not even: with and without the field it must come out the same.
    images = [np.asarray(correct_bias(img, mask=mask).dataobj) for img in (biased, brain)]
    inside = head[1] & (images[1] > 0.3 * images[1].max())
    after = images[0][inside] / images[1][inside]
    assert after.std() / after.mean() < 0.25 * before[inside].std() / before[inside].mean()


def test_the_border_is_found_from_a_warped_mask_that_is_off(head):
    img, mask = head
    prior = np.roll(mask, (1, -1, 1), axis=(0, 1, 2)).astype(np.float32)
    refined = refine(img, prior, MaskSettings.tight())
    assert dice(refined, mask) > 0.94
    outside = refined & ~mask
    assert outside.sum() < 0.03 * mask.sum()  # neither skull nor scalp


@pytest.mark.slow
def test_the_brain_of_a_turned_oblique_head_is_found(head, tmp_path, monkeypatch):
    """The whole way with the embedded template, from a head with other axes and another pose."""
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path / 'nothing'))
    monkeypatch.setattr('bids_interp.anatomical.alignment.WORK_MM', 4.0)
    img, mask = head
    pose = np.eye(4)
    pose[:3, :3] = shapes.rotation((12, 4, -9)) @ np.diag([1.05, 0.96, 1.0])
    pose[:3, 3] = (4, -12, 9)
    shape = (80, 64, 90)
    centre = nib.affines.apply_affine(np.linalg.inv(pose), [0, -10, -20])
    grid = shapes.affine_for('LSA', (3.0, 4.0, 3.0), shape, centre, (9, 0, 5))
    scan = shapes.seen_on(img, shape, grid, pose)
    nib.save(scan, tmp_path / 'scan.nii.gz')
    truth = shapes.seen_on(nib.Nifti1Image(mask.astype(np.float32), img.affine), shape, grid, pose)
    conformed, _ = conform(tmp_path / 'scan.nii.gz')
    prepared = prepare_brain(conformed, BrainOptions(), corrected=True)
    assert prepared.facts['HeadTemplateSource'] == 'synthetic'
    assert dice(prepared.mask.dataobj, nib.as_closest_canonical(truth).dataobj) > 0.93
    assert not prepared.stripped_input
