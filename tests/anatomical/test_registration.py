"""A known affine is found again, whatever way the image is stored; ITK text says the same."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.cubic_resampler import resample_to_template
from bids_interp.anatomical.itk import itk_text, parse_itk_text
from bids_interp.anatomical.registration import (
    AffineResult,
    register_brain,
    similarity,
)
from bids_interp.errors import ImageError
from helpers import shapes

pytestmark = pytest.mark.usefixtures('coarse')
CENTRE = np.array([0.0, -20.0, 10.0])  # about the middle of the brain in MNI space


def known(tilt, scale, shift) -> np.ndarray:
    """Native-to-template affine that turns and scales about the middle of the brain."""
    matrix = np.eye(4)
    matrix[:3, :3] = shapes.rotation(tilt) @ np.diag(scale)
    matrix[:3, 3] = CENTRE - matrix[:3, :3] @ (CENTRE + np.asarray(shift))
    return matrix


@pytest.fixture
def coarse(monkeypatch):
    """Registration at 4 mm: a test looks for mistakes, not for the last tenth of a millimetre."""
    monkeypatch.setattr('bids_interp.anatomical.registration.WORK_MM', 4.0)


@pytest.fixture(scope='module')
def template(template_brain):
    """The brain at 3 mm with a dark ball in the left hemisphere, which makes it asymmetric."""
    shape = (68, 80, 66)
    img = shapes.seen_on(template_brain, shape, shapes.affine_for('RAS', (3, 3, 3), shape, CENTRE))
    points = nib.affines.apply_affine(img.affine, np.moveaxis(np.indices(shape), 0, -1))
    ball = np.exp(-((points - [-35.0, -20.0, 30.0]) ** 2).sum(axis=-1) / (2 * 9.0**2))
    return nib.Nifti1Image((np.asarray(img.dataobj) * (1 - ball)).astype(np.float32), img.affine)


@pytest.mark.parametrize(
    ('codes', 'spacing', 'tilt_of_grid', 'truth'),
    [
        ('RAS', (3.0, 3.0, 3.0), (0, 0, 0), ((8, 0, 5), (1.1, 1.05, 1.1), (12, -9, 15))),
        ('LAS', (2.5, 3.0, 4.0), (14, 0, 6), ((-12, 4, 0), (0.95, 1.1, 1.0), (-20, 5, 0))),
        ('PSR', (4.0, 3.0, 2.5), (0, 11, 0), ((5, 5, -6), (1.0, 0.95, 1.05), (0, 30, -25))),
    ],
)
def test_a_known_affine_is_recovered(template, codes, spacing, tilt_of_grid, truth):
    truth = known(*truth)
    shape = tuple(int(n) for n in np.ceil(230 / np.asarray(spacing)))
    centre = nib.affines.apply_affine(np.linalg.inv(truth), CENTRE)
    grid = shapes.affine_for(codes, spacing, shape, centre, tilt_of_grid)
    native = nib.as_closest_canonical(shapes.seen_on(template, shape, grid, truth))
    result = register_brain(native, template, seed=3, fast=True)
    inside = np.argwhere(np.asarray(template.dataobj) > 0.3 * np.asarray(template.dataobj).max())[
        ::200
    ]
    goal = nib.affines.apply_affine(template.affine, inside)
    native_points = nib.affines.apply_affine(np.linalg.inv(truth), goal)
    found = nib.affines.apply_affine(result.native_to_template, native_points)
    assert np.linalg.norm(found - goal, axis=1).max() < 1.5  # half a voxel
    assert result.sane
    placed = resample_to_template(native, template, result.native_to_template, order=1)
    correlation, dice, inside = similarity(np.asarray(placed.dataobj), np.asarray(template.dataobj))
    assert correlation > 0.9
    assert inside > 0.7
    assert dice > 0.95
    # The dark ball is on the left, and only there.
    inverse = np.linalg.inv(template.affine)
    left, right = (
        np.asarray(placed.dataobj)[
            tuple(nib.affines.apply_affine(inverse, [x, -20, 30]).round().astype(int))
        ]
        for x in (-35, 35)
    )
    assert left < 0.5 * right


def test_the_same_seed_and_threads_give_the_same_result(template):
    native = shapes.seen_on(
        template, (50, 56, 48), shapes.affine_for('RAS', (4, 4, 4), (50, 56, 48), CENTRE)
    )
    first, second = (register_brain(native, template, seed=3, fast=True) for _ in range(2))
    assert np.array_equal(first.native_to_template, second.native_to_template)


def test_what_is_no_brain_is_refused_by_name(template):
    shape = (40, 40, 40)
    block = np.zeros(shape, np.float32)
    block[5:35, 19:21, 5:35] = np.random.default_rng(0).uniform(1, 9, (30, 2, 30))
    plate = nib.Nifti1Image(block, shapes.affine_for('RAS', (4, 4, 4), shape, CENTRE))
    with pytest.raises(ImageError, match='sub-09_T1w'):
        register_brain(plate, template, name='sub-09_T1w.nii.gz', fast=True)


@pytest.mark.parametrize(
    ('scale', 'correlation', 'dice', 'sane'),
    [(1.0, 0.8, 0.95, True), (0.5, 0.8, 0.95, False), (1.5, 0.8, 0.95, False),
     (1.0, 0.2, 0.95, False), (1.0, 0.8, 0.5, False)],
)  # fmt: skip
def test_an_absurd_result_is_not_sane(scale, correlation, dice, sane):
    matrix = np.diag([scale, scale, scale, 1.0])
    assert AffineResult(matrix, correlation, dice).sane is sane


def test_itk_reads_our_text_as_we_mean_it(tmp_path):
    matrix = known((10, -7, 21), (1.1, 0.9, 1.2), (5, -8, 13))
    path = tmp_path / 'xfm.txt'
    path.write_text(itk_text(matrix))
    ants = ants_tools.load_ants(1)
    transform = ants.read_transform(str(path))
    point = np.array([11.0, -23.0, 42.0])  # RAS
    lps = np.asarray(transform.apply_to_point((point * [-1, -1, 1]).tolist()))
    assert lps * [-1, -1, 1] == pytest.approx(nib.affines.apply_affine(matrix, point), abs=1e-4)
    assert ants_tools.read_affine(str(path)) == pytest.approx(matrix)
    assert parse_itk_text(path.read_text()) == pytest.approx(matrix)


def test_a_centre_of_rotation_is_taken_into_account(tmp_path):
    ants = ants_tools.load_ants(1)
    matrix = shapes.rotation((20, 10, -15))
    transform = ants.create_ants_transform(
        'AffineTransform', matrix=matrix, translation=[4.0, 5.0, 6.0], center=[30.0, -40.0, 50.0]
    )
    path = str(tmp_path / 'centred.mat')
    ants.write_transform(transform, path)
    point = np.array([-17.0, 8.0, 33.0])
    lps = np.asarray(transform.apply_to_point((point * [-1, -1, 1]).tolist()))
    ours = nib.affines.apply_affine(ants_tools.read_affine(path), point)
    assert ours == pytest.approx(lps * [-1, -1, 1], abs=1e-4)


@pytest.mark.parametrize('text', ['', 'Parameters: 1 2 3\nFixedParameters: 0 0 0', 'Parameters: x'])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match='ITK'):
        parse_itk_text(text)


def test_ants_sees_the_same_voxels_at_the_same_places():
    shape = (10, 12, 14)
    affine = shapes.affine_for('LSP', (1.5, 2.0, 2.5), shape, (3, 4, 5), (12, -8, 30))
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = ants_tools.to_ants(nib.Nifti1Image(data, affine))
    assert np.array_equal(image.numpy(), data)
    voxel = (2, 7, 5)
    lps = image.origin + image.direction @ (np.asarray(image.spacing) * voxel)
    assert lps * [-1, -1, 1] == pytest.approx(nib.affines.apply_affine(affine, voxel), abs=1e-4)


def test_resampling_keeps_the_place_and_adds_no_negative_values(template):
    shape = (64, 64, 64)
    grid = shapes.affine_for('LPS', (4, 3.5, 4), shape, CENTRE, (10, 20, 0))
    native = shapes.seen_on(template, shape, grid)
    placed = resample_to_template(native, template, np.eye(4))
    assert placed.shape == template.shape
    assert np.asarray(placed.dataobj).min() >= 0
    correlation, *_ = similarity(np.asarray(placed.dataobj), np.asarray(template.dataobj))
    assert correlation > 0.93


def test_an_outline_alone_is_no_brain(template):
    """Noise in the shape of a brain goes with the template by its outline only."""
    brain = np.asarray(template.dataobj)
    noise = np.where(brain > 0, np.random.default_rng(0).uniform(0.5, 1.5, brain.shape), 0)
    # Outlines never match wholly; where one is and the other is not, the outline goes along.
    correlation, dice, inside = similarity(np.roll(noise, 2, axis=0), brain)
    assert correlation > 0.1
    assert dice > 0.9
    assert abs(inside) < 0.05
    assert AffineResult(np.eye(4), correlation, dice, inside).to_dict()['correlation_inside'] < 0.05
