"""An image on another grid: the right place, cubic, in the template's world; overlap by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.cubic_resampler import resample_to_template
from bids_interp.anatomical.registration import similarity

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
