from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import UsageError
from bids_interp.phantom.heads.head import embedded_brain, head_grid, synthetic_head
from bids_interp.spatial import Grid


@pytest.fixture(scope='module')
def head():
    image, mask = synthetic_head(spacing_mm=3.0)
    return np.asarray(image.dataobj), np.asarray(mask.dataobj), Grid.from_image(image)


def value(data, grid, *point):
    index = np.rint(np.linalg.inv(grid.affine) @ [*point, 1])[:3].astype(int)
    return float(data[tuple(index)])


def test_mask_is_the_brain(head):
    _, mask, grid = head
    brain = embedded_brain()
    expected = (np.asarray(brain.dataobj) > 0).sum() / 1e3
    assert mask.sum() * grid.voxel_volume / 1e3 == pytest.approx(expected, rel=0.03)
    assert value(mask, grid, 0, -20, 10) == 1
    assert value(mask, grid, 32, 59, -36) == 0  # the eye


def test_tissues_have_their_contrasts(head):
    data, mask, grid = head
    assert np.median(data[mask > 0]) == pytest.approx(0.8, abs=0.1)
    assert value(data, grid, 27, 10, 27) == pytest.approx(1.0, abs=0.1)  # white matter
    assert value(data, grid, 32, 59, -36) < 0.35  # eye
    assert value(data, grid, 27, 50, -60) < 0.15  # maxillary sinus
    assert value(data, grid, 0, -40, -110) > 0.5 or value(data, grid, 0, -46, -100) > 0.5  # cord
    assert data[0].max() < 0.5  # air at the side of the field of view


def test_profile_at_the_vertex_is_brain_fluid_bone_scalp_air(head):
    data, mask, grid = head
    column = data[tuple(np.rint(np.linalg.inv(grid.affine) @ [12, -20, 0, 1])[:2].astype(int))]
    inside = mask[tuple(np.rint(np.linalg.inv(grid.affine) @ [12, -20, 0, 1])[:2].astype(int))]
    top = np.flatnonzero(inside).max()
    outer = column[top + 1 :]
    bone, scalp = outer[:3].min(), outer[2:6].max()
    assert bone < 0.4
    assert scalp > 0.7
    assert outer[-1] < 0.15
    thickness = np.flatnonzero(outer > 0.3).max() * grid.spacing[2]
    assert 8 <= thickness <= 20


def test_head_is_symmetric(head):
    # The brain's template is symmetric, and so is what was built around it, up to the texture.
    data, mask, _ = head
    assert (mask == mask[::-1]).mean() > 0.995 or (mask[1:] == mask[:0:-1]).mean() > 0.995
    best = max(
        np.corrcoef(data.ravel(), data[::-1].ravel())[0, 1],
        np.corrcoef(data[1:].ravel(), data[:0:-1].ravel())[0, 1],
    )
    assert best > 0.97


def test_bad_requests_are_refused():
    with pytest.raises(UsageError, match=r'\b0\.2 mm.*\b0\.8\b.*\b4 mm'):
        head_grid(0.2)
    with pytest.raises(UsageError):
        synthetic_head(nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4)), 4.0)
