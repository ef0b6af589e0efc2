"""A known structure stays where it is, whatever the native grid, from node to file."""

from __future__ import annotations

from functools import cache

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy.ndimage import binary_dilation, binary_erosion, map_coordinates

from bids_interp.bids.write.nifti import write_nifti
from bids_interp.interfaces.model_inputs import load_image, load_velocity
from bids_interp.interfaces.realise import Realise
from bids_interp.spatial import Grid

#: Left of the midline, in the world of the template, mm.
LEFT_SPOT = np.array([-32.0, -10.0, 6.0])
ORIENTATIONS = ['RAS', 'LAS', 'anisotropic PIR', 'oblique', 'oblique LPI']

on_every_grid = pytest.mark.parametrize('orientation', ORIENTATIONS)


def planted_velocity(grid: Grid, strength: float = 0.12, width: float = 11.0) -> np.ndarray:
    """Flow away from the left spot, mm: log-Jacobian there about 3 * strength."""
    offset = grid.world_coordinates() - LEFT_SPOT[:, None, None, None]
    bump = np.exp(-(offset**2).sum(axis=0) / (2 * width**2))
    return (strength * offset * bump).astype(np.float32)


@pytest.fixture(scope='module')
def velocity_files(tmp_path_factory):
    """Inject grows the left spot, remove shrinks it; in the template's world."""
    folder = tmp_path_factory.mktemp('velocity')
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = [-90.0, -126.0, -72.0]
    grid = Grid((31, 38, 32), affine, 'MNI152NLin2009aSym')
    field = planted_velocity(grid)
    return [
        str(write_nifti(folder / f'velocity_{name}.nii.gz', sign * field, affine, template=True))
        for name, sign in (('inject', 1.0), ('remove', -1.0))
    ]


@pytest.fixture(scope='module')
def realise(tmp_path_factory, velocity_files):
    """Run the node on an image, once for each."""

    @cache
    def run(image: str, mask: str, to_template: str | None = None):
        inputs = {'to_template': to_template} if to_template else {}
        node = Realise(velocity=velocity_files, doses=[1.0, 0.5], image=image, mask=mask, **inputs)
        return node.run(cwd=str(tmp_path_factory.mktemp('node'))).outputs

    return run


def world_of_peak(path: str) -> np.ndarray:
    """World coordinates (mm) of the centre of the strongest part of a map, from its header."""
    image = nib.load(path)
    data = image.get_fdata()
    strong = data > 0.5 * data.max()
    centre = np.average(np.argwhere(strong), axis=0, weights=data[strong])
    return apply_affine(image.affine, centre)


def test_a_velocity_field_survives_the_file(tmp_path):
    grid = Grid((4, 5, 6), np.diag([-2.0, 3.0, 4.0, 1.0]), 'T')
    field = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    path = write_nifti(tmp_path / 'v.nii.gz', field, grid.affine, template=True)
    again, its_grid = load_velocity(str(path))
    np.testing.assert_array_equal(again, field)
    assert its_grid.matches(grid)


@on_every_grid
def test_the_structure_stays_where_it_was_planted(make_subject, realise, orientation):
    subject = make_subject(orientation)
    native = realise(subject.brain, subject.brain_mask, subject.native_to_template)
    template = realise(subject.template_brain, subject.template_mask)
    at_template = world_of_peak(template.log_jacobian[0])
    at_native = world_of_peak(native.log_jacobian[0])
    np.testing.assert_allclose(at_template, LEFT_SPOT, atol=1.5)
    np.testing.assert_allclose(apply_affine(subject.matrix, at_native), LEFT_SPOT, atol=1.5)
    # Left of the middle of the brain in the scanner's world too.
    brain = nib.load(subject.brain)
    middle = apply_affine(brain.affine, np.argwhere(brain.get_fdata() > 0).mean(axis=0))
    assert at_native[0] < middle[0] - 20


@on_every_grid
def test_native_and_template_maps_agree_value_for_value(make_subject, realise, orientation):
    subject = make_subject(orientation)
    image = nib.load(
        realise(subject.brain, subject.brain_mask, subject.native_to_template).log_jacobian[0]
    )
    reference = nib.load(realise(subject.template_brain, subject.template_mask).log_jacobian[0])
    mask = nib.load(subject.brain).get_fdata() > 0
    points = apply_affine(image.affine, np.argwhere(mask))
    to_voxels = np.linalg.inv(reference.affine) @ subject.matrix
    voxels = apply_affine(to_voxels, points)
    expected = map_coordinates(reference.get_fdata(), voxels.T, order=1)
    found = image.get_fdata()[mask]
    assert np.corrcoef(found, expected)[0, 1] > 0.98
    assert 0.2 < found.max() < 0.45


@pytest.mark.parametrize('orientation', ['LAS', 'oblique LPI'])
def test_a_ball_gets_the_volume_that_the_map_tells(tmp_path, make_subject, realise, orientation):
    subject = make_subject(orientation)
    world = subject.grid.world_coordinates().reshape(3, -1)
    there = apply_affine(subject.matrix, world.T) - LEFT_SPOT
    radius = np.linalg.norm(there, axis=1).reshape(subject.grid.shape)
    ball = np.clip((14.0 - radius) / 4.0, 0, 1).astype(np.float32)
    path = write_nifti(tmp_path / 'ball.nii.gz', ball, subject.grid.affine, template=False)
    done = realise(str(path), subject.brain_mask, subject.native_to_template)
    for index, sign in ((0, 1), (2, -1)):
        moved, log_map = (
            nib.load(files[index]).get_fdata() for files in (done.simulated, done.log_jacobian)
        )
        told = (np.exp(log_map) * ball).sum() / ball.sum()
        assert np.sign(told - 1) == sign
        assert abs(told - 1) > 0.1
        assert moved.sum() / ball.sum() == pytest.approx(told, rel=0.05)


@on_every_grid
def test_headers_are_those_of_the_scan_and_background_stays_zero(
    make_subject, realise, orientation
):
    subject = make_subject(orientation)
    done = realise(subject.brain, subject.brain_mask, subject.native_to_template)
    brain, grid = load_image(subject.brain)
    far = ~binary_dilation(brain > 0, iterations=3)
    assert far.any()
    for path in (*done.simulated, *done.log_jacobian):
        image = nib.load(path)
        assert (image.header['sform_code'], image.header['qform_code']) == (1, 1)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        np.testing.assert_allclose(image.affine, grid.affine, atol=1e-4)
    for path in done.simulated:
        simulated = nib.load(path).get_fdata()
        assert (simulated[far] == 0).all()
        assert simulated.max() > 0.5 * brain.max()


@on_every_grid
def test_maps_are_zero_outside_the_mask(make_subject, realise, orientation):
    subject = make_subject(orientation)
    native = realise(subject.brain, subject.brain_mask, subject.native_to_template)
    template = realise(subject.template_brain, subject.template_mask)
    for files, mask_file in ((native, subject.brain_mask), (template, subject.template_mask)):
        outside = nib.load(mask_file).get_fdata() == 0
        for path in files.log_jacobian:
            values = nib.load(path).get_fdata()
            assert (values[outside] == 0).all()
            assert np.abs(values).max() > 0.1


@pytest.fixture(scope='module')
def lift_files(tmp_path_factory):
    """A flow that lifts the top of the brain by about 9 mm; remove lowers it."""
    folder = tmp_path_factory.mktemp('lift')
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = [-108.0, -144.0, -90.0]
    grid = Grid((37, 44, 38), affine, 'MNI152NLin2009aSym')
    height = grid.world_coordinates()[2]
    field = np.zeros((3, *grid.shape), np.float32)
    field[2] = 9.0 / (1 + np.exp(-(height - 40.0) / 8.0))
    return [
        str(write_nifti(folder / f'velocity_{name}.nii.gz', sign * field, affine, template=True))
        for name, sign in (('inject', 1.0), ('remove', -1.0))
    ]


@on_every_grid
def test_tissue_that_moves_beyond_the_mask_is_not_cut(
    tmp_path, make_subject, lift_files, orientation
):
    """The top of the brain leaves the mask of the scan; the mask moves with it."""
    subject = make_subject(orientation)
    mask = nib.load(subject.brain_mask).get_fdata() > 0
    # An even brightness makes cut, dark and smeared voxels visible.
    flat = write_nifti(tmp_path / 'flat.nii.gz', mask * 100.0, subject.grid.affine, template=False)
    node = Realise(
        velocity=lift_files,
        doses=[1.0],
        image=str(flat),
        mask=subject.brain_mask,
        to_template=subject.native_to_template,
    )
    done = node.run(cwd=str(tmp_path)).outputs
    height = apply_affine(subject.matrix, subject.grid.world_coordinates().reshape(3, -1).T)
    height = height[:, 2].reshape(mask.shape)
    spacing = float(subject.grid.spacing.max())
    # The flow is not cut at the border of the brain: the map is strong up to the last voxel.
    rim = mask & ~binary_erosion(mask) & (np.abs(height - 40) < 8)
    assert (np.abs(nib.load(done.log_jacobian[0]).get_fdata()[rim]) > 0.1).all()
    for path, map_path, shift in zip(done.simulated, done.log_jacobian, (9.0, -9.0), strict=True):
        values = nib.load(path).get_fdata()
        moved = values > 0
        np.testing.assert_allclose(values[moved], 100.0, rtol=1e-4)
        assert height[moved].max() - height[mask].max() == pytest.approx(shift, abs=spacing)
        told = np.exp(nib.load(map_path).get_fdata())[mask].sum()
        assert moved.sum() == pytest.approx(told, rel=0.01)
    assert (nib.load(done.simulated[0]).get_fdata()[~mask] > 0).sum() > 100
