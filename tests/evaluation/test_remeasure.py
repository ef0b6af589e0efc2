"""Re-measured volume change: slope and correlation by hand, and what the registration is given."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.evaluation import remeasure as remeasurement
from bids_interp.evaluation.remeasure import (
    regional_changes,
    remeasure,
    remeasured_agreement,
)
from bids_interp.phantom.regions.coarse import shown_masks
from bids_interp.spatial import Grid, exponential, log_jacobian, resample, warp

GRID = Grid((6, 5, 4), np.diag([3.0, 2.0, 4.0, 1.0]), 'MNI')


def test_slope_is_that_of_remeasured_on_claimed_and_an_offset_does_not_matter() -> None:
    claimed = np.array([-0.3, -0.1, 0.02, 0.05, 0.4])
    measured = np.array([-0.1, -0.09, 0.0, 0.06, 0.2]) + 0.07
    slope, r = remeasured_agreement(claimed, measured)
    assert slope == pytest.approx(np.polyfit(claimed, measured, 1)[0])
    assert r == pytest.approx(np.corrcoef(claimed, measured)[0, 1])
    assert slope < 0.6 < 0.9 < r  # neither the inverse slope nor one through the origin
    assert remeasured_agreement(claimed, -2 * claimed) == pytest.approx((-2, -1))


def test_regions_that_were_not_measured_are_left_out() -> None:
    claimed = [0.1, -0.2, np.nan, 0.3, 0.2]
    measured = [0.05, -0.1, 5.0, np.nan, 0.1]
    assert remeasured_agreement(claimed, measured) == pytest.approx((0.5, 1))


@pytest.mark.parametrize(
    ('claimed', 'measured'),
    [
        ([], []),
        ([0.1, 0.2], [0.1, 0.2]),
        ([0.1, 0.1, 0.1], [0.1, 0.2, 0.3]),
        ([0.1, 0.2, 0.3], [0.0, 0.0, 0.0]),
        ([0.1, 0.2, 0.3, 0.4], [np.nan] * 4),
    ],
)
def test_what_is_not_defined_is_nan(claimed, measured) -> None:
    assert np.isnan(remeasured_agreement(claimed, measured)).all()


def test_a_regional_change_is_the_mean_change_of_volume() -> None:
    """Half of the region doubles and half of it is halved: a quarter more, not nothing."""
    values = np.zeros(GRID.shape)
    mask = np.zeros(GRID.shape, bool)
    mask[1:3, 1:3, 1:3] = True
    values[1], values[2] = np.log(2), -np.log(2)
    regions = {'a': mask, 'empty': np.zeros(GRID.shape, bool)}
    np.testing.assert_allclose(regional_changes(values, regions), [0.25, np.nan])


def test_the_scan_is_registered_to_its_simulation(monkeypatch) -> None:
    """The registration gives the change from its second image to its first one."""
    seen = {}

    def register(image, template, grid, **options):
        seen.update(image=image, template=template, options=options)
        return np.full(grid.shape, np.log(0.9))

    monkeypatch.setattr(remeasurement, 'register_log_jacobian', register)
    scan, simulated = np.ones(GRID.shape), np.full(GRID.shape, 2.0)
    whole = np.ones(GRID.shape, bool)
    found = remeasure(
        scan, simulated, np.full(GRID.shape, np.log(0.8)), GRID, {'a': whole}, threads=2, seed=3
    )
    assert seen['image'] is simulated
    assert seen['template'] is scan
    assert seen['options'] == {'threads': 2, 'seed': 3}
    assert found.regions == ('a',)
    assert (found.claimed, found.measured) == (pytest.approx(-0.2), pytest.approx(-0.1))
    assert np.isnan(found.agreement).all()


@pytest.mark.slow
def test_a_real_change_is_found_again(template_brain: nib.Nifti1Image) -> None:
    """The left thalamus shrinks and the right ventricle grows; SyN finds both."""
    fine = Grid.from_image(template_brain, 'MNI152NLin2009aSym')
    grid = fine.with_spacing(4.0)
    data = torch.from_numpy(np.asarray(template_brain.dataobj, np.float32))[None, None]
    brain = resample(data, fine, grid, antialias=True)
    velocity = np.zeros((3, *grid.shape))
    for centre, strength in (((-12, -18, 8), -0.2), ((14, 0, 20), 0.15)):
        away = grid.world_coordinates() - np.array(centre)[:, None, None, None]
        velocity += strength * away * np.exp(-(away**2).sum(axis=0) / 2 / 12.0**2)
    field = torch.from_numpy(velocity).float()[None]
    simulated = warp(brain, exponential(-field, grid), grid)[0, 0].numpy()
    claimed = log_jacobian(exponential(field, grid), grid)[0, 0].numpy()
    found = remeasure(brain[0, 0].numpy(), simulated, claimed, grid, shown_masks(grid))
    assert found.agreement.r > 0.9
    assert 0.5 < found.agreement.slope < 1.5
