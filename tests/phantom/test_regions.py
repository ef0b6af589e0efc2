from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import UsageError
from bids_interp.phantom.regions.coarse import laterality, region_mask, region_names
from bids_interp.phantom.regions.tissue import TISSUE_REGIONS, tissue_mask
from bids_interp.spatial import Grid

GRID = Grid(
    (97, 115, 96), np.array([[2, 0, 0, -96], [0, 2, 0, -132], [0, 0, 2, -78], [0, 0, 0, 1.0]])
)


def test_every_region_lies_on_its_side():
    x = GRID.world_coordinates()[0]
    for name in region_names():
        mask = region_mask(name, GRID)
        assert mask.sum() > 20, name
        centre = float((x * mask).sum() / mask.sum())
        side = laterality(name)
        if side in ('left', 'right'):
            assert np.sign(centre) == {'left': -1, 'right': 1}[side], name
            assert (mask * (np.sign(x) == -np.sign(centre))).sum() <= 0.1 * mask.sum(), name
        else:
            assert abs(centre) < 0.2, name


def test_sides_are_mirror_images_and_make_up_the_whole():
    # The grid is symmetric about x = 0.
    for name in ('hippocampus', 'frontal_ribbon'):
        left, right = (region_mask(f'{name}_{side}', GRID) for side in ('left', 'right'))
        np.testing.assert_array_equal(left, right[::-1])
        np.testing.assert_array_equal(np.maximum(left, right), region_mask(name, GRID))


def test_soft_edge_is_half_on_the_surface_and_keeps_the_middle():
    hard, soft = region_mask('thalamus', GRID), region_mask('thalamus', GRID, sigma_mm=2.0)
    assert soft[hard > 0].min() >= 0.5
    assert soft[hard == 0].max() <= 0.5
    assert soft.max() > 0.99
    assert soft.dtype == np.float32


def test_masks_do_not_depend_on_the_orientation_of_the_grid():
    flipped = Grid(
        GRID.shape,
        GRID.affine @ np.array([[-1, 0, 0, 96], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )
    left = region_mask('amygdala_left', GRID, 1.0)
    np.testing.assert_allclose(region_mask('amygdala_left', flipped, 1.0), left[::-1], atol=1e-5)


def test_unknown_region_is_refused_with_the_list():
    with pytest.raises(UsageError, match="'hipocampus'.*hippocampus_left"):
        region_mask('hipocampus', GRID)
    with pytest.raises(UsageError, match=r'-1 mm'):
        region_mask('hippocampus', GRID, sigma_mm=-1)


@pytest.mark.real
@pytest.mark.parametrize(
    ('name', 'label', 'dice', 'distance'),
    [
        ('hippocampus', 'Hippocampus', 0.7, 4.0),
        ('amygdala', 'Amygdala', 0.65, 3.0),
        ('parahippocampal', 'ParaHippocampal', 0.65, 3.0),
        ('thalamus', 'Thalamus', 0.8, 2.0),
        ('caudate', 'Caudate', 0.75, 3.0),
        ('putamen', 'Putamen', 0.7, 3.0),
        ('pallidum', 'Pallidum', 0.7, 2.0),
    ],
)
@pytest.mark.parametrize('side', ['left', 'right'])
def test_regions_agree_with_an_atlas(shared_data, name, label, dice, distance, side):
    stem = shared_data / 'data' / 'atlases' / 'atlas-AAL_space-MNI152_dseg'
    image = nib.load(f'{stem}.nii.gz')
    with open(f'{stem}.tsv') as stream:
        codes = {row['name']: int(row['index']) for row in csv.DictReader(stream, delimiter='\t')}
    image = image.slicer[::2, ::2, ::2]
    atlas = np.asarray(image.dataobj) == codes[f'{label}_{side[0].upper()}']
    grid = Grid.from_image(image)
    mask = region_mask(f'{name}_{side}', grid) > 0
    assert 2 * (mask & atlas).sum() / (mask.sum() + atlas.sum()) > dice
    world = grid.world_coordinates()
    assert np.linalg.norm(world[:, mask].mean(1) - world[:, atlas].mean(1)) < distance


def test_tissue_regions_lie_where_the_template_has_them():
    grid = Grid(
        (66, 78, 63), np.array([[3.0, 0, 0, -98], [0, 3, 0, -134], [0, 0, 3, -72], [0, 0, 0, 1]])
    )
    points = grid.world_coordinates()
    sizes, centres = {}, {}
    for name in TISSUE_REGIONS:
        mask = tissue_mask(name, grid)
        sizes[name] = mask.sum() * 27 / 1000
        right = mask * (points[0] > 0)
        assert right.sum() == pytest.approx(mask.sum() / 2, rel=0.05)
        centres[name] = (points * right).sum(axis=(1, 2, 3)) / right.sum()
    # Millilitres; the ellipsoids of the other generator are not used.
    assert 25 < sizes['medial_temporal_grey'] < 38
    assert 13 < sizes['ventricular_fluid'] < 21
    assert centres['medial_temporal_grey'] == pytest.approx([26, -17, -19], abs=3)
    assert centres['ventricular_fluid'] == pytest.approx([14, -13, 15], abs=5)
