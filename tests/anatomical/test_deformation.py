"""Local volumes of an observed brain: the right sign, place and size, however voxels are stored."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.anatomical.deformation import measure_anatomy
from bids_interp.constants import ANATOMY_MM
from bids_interp.spatial import Grid, exponential, log_jacobian, resample, warp

pytestmark = pytest.mark.slow

CENTRE = np.array([-12.0, -18.0, 8.0])


@pytest.fixture(scope='module')
def changed(template_brain) -> tuple[nib.Nifti1Image, np.ndarray, Grid]:
    """The template with a smaller left thalamus, at 2 mm, and its log-Jacobian."""
    fine = Grid.from_image(template_brain, 'MNI152NLin2009aSym')
    grid = fine.with_spacing(2.0)
    data = torch.from_numpy(np.asarray(template_brain.dataobj, np.float32))[None, None]
    brain = resample(data, fine, grid, antialias=True)
    away = grid.world_coordinates() - CENTRE[:, None, None, None]
    velocity = -0.25 * away * np.exp(-(away**2).sum(axis=0) / 2 / 12.0**2)
    field = torch.from_numpy(velocity).float()[None]
    smaller = warp(brain, exponential(-field, grid), grid)
    truth = log_jacobian(exponential(field, grid), grid)[0, 0].numpy()
    return grid.to_image(smaller[0, 0].numpy()), truth, grid


def flipped(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same image with its first axis stored from right to left."""
    affine = image.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (image.affine @ [image.shape[0] - 1, 0, 0, 1])[:3]
    return nib.Nifti1Image(np.ascontiguousarray(np.asarray(image.dataobj)[::-1]), affine)


def at(image: nib.Nifti1Image, point: np.ndarray) -> float:
    """Value at the voxel next to a point in mm."""
    index = np.linalg.inv(image.affine) @ [*point, 1.0]
    return float(np.asarray(image.dataobj)[tuple(index[:3].round().astype(int))])


def test_what_is_smaller_is_negative_where_it_lies(changed, template_brain) -> None:
    brain, truth, grid = changed
    found = measure_anatomy(brain, template_brain)
    coarse = Grid.from_image(found)
    np.testing.assert_allclose(coarse.spacing, ANATOMY_MM)
    values = np.asarray(found.dataobj)
    wanted = resample(torch.from_numpy(truth)[None, None], grid, coarse, antialias=True)[0, 0]
    inside = values != 0
    assert 0.1 < inside.mean() < 0.6  # the template's brain in its field of view
    assert np.corrcoef(values[inside], wanted.numpy()[inside])[0, 1] > 0.6
    assert at(found, CENTRE) < -0.2
    assert abs(at(found, CENTRE * [-1, 1, 1])) < -at(found, CENTRE) / 2


def test_the_order_of_voxels_does_not_matter(changed, template_brain) -> None:
    brain, _, _ = changed
    found = measure_anatomy(flipped(brain), flipped(template_brain))
    assert at(found, CENTRE) < -0.2
    assert abs(at(found, CENTRE * [-1, 1, 1])) < -at(found, CENTRE) / 2
    assert found.affine[0, 0] == -ANATOMY_MM


def test_a_registration_that_gives_up_costs_the_score_only(
    changed, tmp_path, monkeypatch, caplog
) -> None:
    from bids_interp.anatomical import deformation
    from bids_interp.bids.write.atomic import is_no_map
    from bids_interp.errors import ImageError
    from bids_interp.interfaces.anatomical import MeasureAnatomy

    def give_up(*_args, **_options):
        raise ImageError('A brain could not be registered to the template: no.')

    monkeypatch.setattr(deformation, 'register_log_jacobian', give_up)
    monkeypatch.chdir(tmp_path)
    nib.save(changed[0], tmp_path / 'brain.nii.gz')
    node = MeasureAnatomy(
        template_brain=str(tmp_path / 'brain.nii.gz'), template='MNI152NLin2009aSym'
    )
    assert is_no_map(node.run().outputs.anatomy)
    assert [r.levelname for r in caplog.records if r.name.startswith('bids_interp')] == ['WARNING']
