"""Left stays left, top stays top, whatever the voxel order of the file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import ImageError
from bids_interp.reports.common.palette import SignedScale, percent
from bids_interp.reports.common.volumes import (
    PLANES,
    grey,
    load_like,
    load_volume,
    peak,
    spread_slices,
)

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = [-19, -19, -19]


def blob_image(orientation: str) -> nib.Nifti1Image:
    """A bright ball to the right, in front and on top of the middle, in any voxel order."""
    data = np.zeros((20, 20, 20), np.float32)
    data[14:17, 15:18, 13:16] = 1
    image = nib.Nifti1Image(data, AFFINE)
    codes = nib.orientations.axcodes2ornt(tuple(orientation))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(AFFINE), codes))


@pytest.mark.parametrize('orientation', ['RAS', 'LAS', 'LPS', 'PSR', 'AIL'])
def test_right_front_top_is_drawn_there(tmp_path: Path, orientation: str) -> None:
    path = tmp_path / 'image.nii.gz'
    blob_image(orientation).to_filename(path)
    volume = load_volume(path)
    for plane, (column, row) in {
        'axial': (15, 19 - 16),
        'coronal': (15, 19 - 14),
        'sagittal': (16, 19 - 14),
    }.items():
        index = {'axial': 14, 'coronal': 16, 'sagittal': 15}[plane]
        picture = volume.cut(plane, index)
        rows, columns = np.nonzero(picture > 0.5)
        assert (columns.mean(), rows.mean()) == (column, row)
        assert volume.position(plane, index) == -19 + 2 * index


def test_oblique_image_is_drawn_upright(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = blob_image('RAS')
    path = tmp_path / 'oblique.nii.gz'
    nib.Nifti1Image(image.get_fdata(), turn @ AFFINE).to_filename(path)
    volume = load_volume(path, 2.0)
    found = np.array(np.nonzero(volume.data > 0.4)).mean(axis=1)
    place = volume.grid.affine[:3, :3] @ found + volume.grid.affine[:3, 3]
    expected = (turn @ AFFINE @ [15, 16, 14, 1])[:3]
    assert np.abs(place - expected).max() < 0.7


def test_map_on_another_grid_meets_the_brain(tmp_path: Path) -> None:
    brain, other = tmp_path / 'brain.nii.gz', tmp_path / 'map.nii.gz'
    blob_image('RAS').to_filename(brain)
    image = blob_image('LPS')
    image.to_filename(other)
    volume = load_volume(brain)
    assert np.allclose(load_like(other, volume).data, volume.data)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'broken.nii.gz'
    path.write_bytes(b'no image')
    with pytest.raises(ImageError, match=r'broken\.nii\.gz'):
        load_volume(path)


def test_values_that_are_not_finite_are_drawn_as_zero(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), np.nan, np.float32)
    data[1, 1, 1] = np.inf
    path = tmp_path / 'nan.nii.gz'
    nib.Nifti1Image(data, np.eye(4)).to_filename(path)
    loaded = load_volume(path).data
    assert np.isfinite(loaded).all()
    assert np.isfinite(grey(loaded)).all()


def test_slices_pass_through_the_peak() -> None:
    values = np.zeros((30, 30, 30), np.float32)
    values[9:12, 19:22, 4:7] = -1
    values[25, 25, 25] = 5  # a lone voxel is not a finding
    assert peak(values) == (10, 20, 5)
    mask = np.ones(values.shape, bool)
    for plane, axis in PLANES.items():
        chosen = spread_slices(mask, plane, 6, peak(values)[axis])
        assert peak(values)[axis] in chosen
        assert chosen == sorted(chosen)


def test_blue_shrinks_and_red_grows() -> None:
    scale = SignedScale(0.2)
    background = np.full((1, 3), 0.5)
    shrinks, same, grows = scale.over(background, np.array([[-0.2, 0.0, 0.2]]))[0]
    assert shrinks[2] > shrinks[0] + 0.2
    assert grows[0] > grows[2] + 0.2
    assert np.allclose(same, 0.5)


def test_scale_is_symmetric_and_shared() -> None:
    down, up = np.full((5, 5, 5), -0.3), np.full((5, 5, 5), 0.1)
    assert SignedScale.fit(down, up).limit == pytest.approx(0.3, abs=0.021)
    assert percent(np.log(1.25)) == pytest.approx(25.0)
