"""An image on another grid: the right place, cubic, in the template's world; overlap by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bids_interp.anatomical.cubic_resampler import brain_in_template, resample_to_template
from bids_interp.anatomical.registration import similarity
from helpers import shapes

SHAPE = (24, 26, 22)


def image_of(data: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(data.astype(np.float32), affine)


def waves(points: np.ndarray) -> np.ndarray:
    """A pattern with a period of five voxels along each axis, above 0."""
    return 2 + np.sin(2 * np.pi * points / 5).prod(axis=0)


def test_the_interpolation_is_cubic() -> None:
    """Half a voxel away a linear one loses a third of these waves, a cubic one nearly nothing."""
    shifted = np.eye(4)
    shifted[:3, 3] = 0.5
    places = np.indices(SHAPE).astype(float)
    native = image_of(waves(places), np.eye(4))
    placed = resample_to_template(native, image_of(np.zeros(SHAPE), shifted), np.eye(4))
    wanted = waves(places + 0.5)
    inner = (slice(4, -4),) * 3
    error = np.abs(np.asarray(placed.dataobj) - wanted)[inner]
    assert error.max() < 0.15
    linear = resample_to_template(native, image_of(np.zeros(SHAPE), shifted), np.eye(4), order=1)
    assert np.abs(np.asarray(linear.dataobj) - wanted)[inner].max() > 0.3


def test_a_point_lands_where_the_affine_maps_it() -> None:
    """The affine stretches, turns by 90 degrees and shifts; the inverse lands elsewhere."""
    data = np.zeros(SHAPE)
    data[9:12, 6:9, 10:13] = 100.0
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = [-20.0, -24.0, -22.0]
    to_template = np.array(
        [[0.0, -1.1, 0.0, 3.0], [0.9, 0.0, 0.0, -2.0], [0.0, 0.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
    )
    template = image_of(np.zeros((30, 30, 30)), np.diag([2.0, 2.0, 2.0, 1.0]))
    template.affine[:3, 3] = -30.0
    placed = resample_to_template(image_of(data, grid), template, to_template)
    values = np.asarray(placed.dataobj)
    voxels = np.indices(values.shape).reshape(3, -1)
    centre = (voxels * values.ravel()).sum(axis=1) / values.sum()
    wanted = to_template @ grid @ [10, 7, 11, 1]
    np.testing.assert_allclose(template.affine @ [*centre, 1], wanted, atol=0.3)


def test_a_brain_has_no_negative_brightness_and_lies_in_the_template() -> None:
    block = np.zeros(SHAPE)
    block[8:16, 8:16, 8:16] = 100.0
    shifted = np.eye(4)
    shifted[:3, 3] = 0.4
    template = image_of(np.zeros(SHAPE), shifted)
    placed = resample_to_template(image_of(block, np.eye(4)), template, np.eye(4))
    assert np.asarray(placed.dataobj).min() == 0
    assert placed.get_data_dtype() == np.float32
    assert (int(placed.header['sform_code']), int(placed.header['qform_code'])) == (4, 4)
    # What is below 0 before, such as a map, stays so.
    signed = resample_to_template(image_of(block - 50, np.eye(4)), template, np.eye(4))
    assert np.asarray(signed.dataobj).min() < -50


@pytest.mark.parametrize(
    ('codes', 'spacing', 'tilt'),
    [
        ('RAS', (1.0, 1.0, 1.0), (0, 0, 0)),
        ('LPS', (0.9, 0.9, 1.2), (0, 0, 0)),
        ('PIR', (1.0, 3.0, 1.0), (0, 0, 0)),
        ('RAS', (1.2, 1.0, 2.0), (14, -9, 20)),
        ('LAI', (1.0, 2.5, 1.0), (-10, 8, 5)),
    ],
)
def test_a_brain_in_the_template_is_0_outside_its_mask(codes, spacing, tilt) -> None:
    """A ball with a sharp edge, at which cubic splines ring, and a separate smaller ball."""
    to_template = np.eye(4)
    to_template[:3, :3] = shapes.rotation((5, 0, -4)) @ np.diag([1.1, 0.95, 1.0])
    to_template[:3, 3] = [3.0, -2.0, 1.0]
    shape = tuple(int(size) for size in np.ceil(80 / np.array(spacing)))
    affine = shapes.affine_for(codes, spacing, shape, (0, 0, 0), tilt)
    points = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    sizes = {(0.0, 0.0, 0.0): 20.0, (0.0, 30.0, 0.0): 6.0}
    inside = np.zeros(shape, bool)
    for centre, radius in sizes.items():
        inside |= np.linalg.norm(points - centre, axis=-1) < radius
    mask = inside.copy()
    mask[3, 3, 3] = True  # dust
    noise = np.random.default_rng(0).uniform(60, 140, shape)
    template = image_of(np.zeros((90, 90, 90)), shapes.affine_for('RAS', (1, 1, 1), (90, 90, 90)))
    brain, placed = brain_in_template(
        image_of(noise * mask, affine), image_of(mask, affine), template, to_template
    )
    values, found = np.asarray(brain.dataobj), np.asarray(placed.dataobj)
    assert found.dtype == np.uint8
    assert ndimage.label(found)[1] == len(sizes)
    assert (values[found == 0] == 0).all()
    assert (values[found == 1] > 0).mean() > 0.99
    volume = inside.sum() * np.prod(spacing) * np.linalg.det(to_template[:3, :3])
    assert found.sum() == pytest.approx(volume, rel=0.03)
    for centre, radius in sizes.items():
        middle = nib.affines.apply_affine(np.linalg.inv(template.affine) @ to_template, centre)
        voxels = np.argwhere(found)
        own = voxels[np.linalg.norm(voxels - middle, axis=1) < 1.2 * radius]
        np.testing.assert_allclose(own.mean(axis=0), middle, atol=0.5)


def test_likeness_of_two_brains_by_hand() -> None:
    """Two rows of voxels, of which one is shared."""
    first, second = np.zeros((6, 6, 6)), np.zeros((6, 6, 6))
    first[1, 2, 1:5], first[2, 2, 1:5] = [4, 5, 6, 7], [8, 9, 8, 9]
    second[2, 2, 1:5], second[3, 2, 1:5] = [9, 8, 9, 8], [6, 7, 5, 4]
    correlation, dice, inside = similarity(first, second)
    assert dice == pytest.approx(0.5)
    assert inside == pytest.approx(-1)
    either = (first > 0) | (second > 0)
    assert correlation == pytest.approx(np.corrcoef(first[either], second[either])[0, 1])
    assert correlation > -0.9
