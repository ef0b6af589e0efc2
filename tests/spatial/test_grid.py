from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.spatial import Grid
from helpers.grids import GRIDS


@pytest.mark.parametrize('name', GRIDS)
def test_image_keeps_geometry(name: str, tmp_path):
    grid = GRIDS[name]
    nib.save(grid.to_image(np.ones(grid.shape)), tmp_path / 'image.nii.gz')
    image = nib.load(tmp_path / 'image.nii.gz')
    assert Grid.from_image(image).matches(grid)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    assert int(image.header['sform_code']) == 1
    assert image.header.get_xyzt_units()[0] == 'mm'


def test_template_space_says_so():
    grid = Grid((4, 4, 4), np.eye(4), 'MNI152NLin2009aSym')
    assert int(grid.to_image(np.zeros((4, 4, 4))).header['qform_code']) == 4


@pytest.mark.parametrize('name', GRIDS)
def test_half_keeps_the_corner_voxel_centres(name: str):
    grid, half = GRIDS[name], GRIDS[name].half()
    for corner in np.ndindex(2, 2, 2):
        fine = grid.affine @ [*(np.array(corner) * (np.array(grid.shape) - 1)), 1]
        coarse = half.affine @ [*(np.array(corner) * (np.array(half.shape) - 1)), 1]
        np.testing.assert_allclose(fine, coarse, atol=1e-9)


@pytest.mark.parametrize('name', GRIDS)
def test_with_spacing_keeps_the_centre(name: str):
    grid = GRIDS[name]
    other = grid.with_spacing(4.0)
    np.testing.assert_allclose(other.spacing, 4.0)
    for one in (grid, other):
        middle = one.affine @ [*((np.array(one.shape) - 1) / 2), 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-9)


def test_crop_moves_the_origin():
    grid = GRIDS['oblique']
    part = grid.crop(np.array([3, 4, 5]), np.array([10, 12, 14]))
    assert part.shape == (7, 8, 9)
    np.testing.assert_allclose(part.affine[:, 3], grid.affine @ [3, 4, 5, 1])


def test_world_coordinates():
    grid = GRIDS['PSR']
    world = grid.world_coordinates()
    np.testing.assert_allclose(world[:, 3, 7, 2], (grid.affine @ [3, 7, 2, 1])[:3], atol=1e-4)


def test_round_trip_through_plain_types():
    grid = GRIDS['oblique']
    again = Grid.from_dict(grid.to_dict())
    assert again.matches(grid, 1e-12)
    assert again.space == grid.space


@pytest.mark.parametrize(
    ('shape', 'affine'),
    [((4, 4), np.eye(4)), ((4, 4, 0), np.eye(4)), ((4, 4, 4), np.zeros((4, 4)))],
)
def test_impossible_grids_are_refused(shape, affine):
    with pytest.raises(ValueError, match=r'grid|affine'):
        Grid(shape, affine)
