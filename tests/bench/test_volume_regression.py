"""Regression of regional volumes: targets, maps and peaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.bench.planted_cohort import TARGET
from bids_interp.bench.records import Score
from bids_interp.bench.volume_regression import (
    brain_volumes,
    correlation_map,
    find_peak,
    image_volumes,
    mean_growth,
    region_scores,
    regression_cohort,
)
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.regions.coarse import region_distance, region_mask
from bids_interp.spatial import Grid, exponential, log_jacobian
from bids_interp.training.cohort.cohort import Cohort

GRID = Grid(
    (40, 46, 38), np.array([[4.0, 0, 0, -78], [0, 4, 0, -106], [0, 0, 4, -70], [0, 0, 0, 1]])
)
POINTS = GRID.world_coordinates()
REGIONS = ('thalamus', 'cerebellum_left')
MASK = np.linalg.norm(POINTS - np.array([0, -17, 5])[:, None, None, None], axis=0) < 70


def test_the_volume_of_a_brain_is_that_after_its_deformation() -> None:
    larger = brain_volumes(np.full(GRID.shape, np.log(1.2)), REGIONS, GRID)
    same = brain_volumes(np.zeros(GRID.shape), REGIONS, GRID)
    assert larger - same == pytest.approx([np.log(1.2)] * 2)
    assert np.exp(same[0]) == pytest.approx(region_mask('thalamus', GRID, 2.0).sum() * 64, rel=1e-6)


def test_the_volume_of_an_image_is_that_of_its_brain_and_its_own_anatomy() -> None:
    """A pull-back outwards by a tenth about the thalamus shows it a tenth shorter."""
    centre = np.array([0, -18, 8])[:, None, None, None]
    near = np.exp(-((np.linalg.norm(POINTS - centre, axis=0) / 45) ** 4))
    outwards = (0.1 * near * (POINTS - centre)).astype(np.float32)
    fields = np.stack([0 * outwards, outwards, outwards])
    brains = np.array([[9.0, 11.0], [10.0, 12.0]])
    found = image_volumes(fields, np.array([0, 0, 1]), brains, REGIONS, GRID)
    assert found[0] == pytest.approx(brains[0])
    assert found[2] - found[1] == pytest.approx([1, 1])
    assert found[1, 0] - 9.0 == pytest.approx(-3 * np.log(1.1), abs=0.05)


@pytest.fixture
def cohort() -> Cohort:
    count = 6
    return Cohort(
        torch.zeros((count, 1, *GRID.shape)), np.arange(count) % 2, np.arange(count) // 2,
        tuple((f'image:{i}',) for i in range(count)), GRID, MASK, Preprocessing(), TARGET,
    )  # fmt: skip


def test_the_target_is_a_standardised_volume(cohort) -> None:
    values = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 9.0])
    made = regression_cohort(cohort, values, 'thalamus')
    assert (made.target.kind, made.target.label) == ('regression', 'thalamus')
    assert made.standardised() == pytest.approx((values - 4) / values.std())


def test_the_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    values, wanted = rng.normal(size=(12, 3)), rng.normal(size=12)
    found = correlation_map(values, wanted)
    assert found == pytest.approx([np.corrcoef(part, wanted)[0, 1] for part in values.T])


@pytest.mark.parametrize(('place', 'is_found'), [((12, -18, 8), True), ((-40, 10, 30), False)])
def test_a_peak_is_looked_for_in_its_own_region(place, is_found) -> None:
    away = np.linalg.norm(POINTS - np.array(place)[:, None, None, None], axis=0)
    # Its largest value is negative: shrinking counts as much as growing.
    values = (-np.exp(-((away / 8) ** 2)))[MASK]
    peak = find_peak(values, MASK, GRID, 'thalamus', 'ours')
    assert (peak.x, peak.y, peak.z) == pytest.approx(place, abs=2.1)
    assert peak.found is is_found
    point = np.array([[peak.x], [peak.y], [peak.z]])
    assert peak.distance_mm == pytest.approx(max(0, float(region_distance('thalamus', point)[0])))
    assert find_peak(values, MASK, GRID, 'thalamus_left', 'ours').found is False


def test_regions_are_counted_by_method() -> None:
    values = np.zeros(MASK.sum())
    peak = find_peak(values, MASK, GRID, 'thalamus', 'ours')
    peaks = [
        replace(peak, method=method, found=found)
        for method, found in (('ours', True), ('ours', True), ('ours', False), ('tbm', False))
    ]
    assert region_scores(peaks, [0.5, 0.7]) == [
        Score('ours', 'ours', 'regions_found', 'both', 2.0),
        Score('tbm', '', 'regions_found', 'both', 0.0),
        Score('ours', 'ours', 'prediction_r', 'both', pytest.approx(0.6)),
    ]


class Growing(nn.Module):
    """Every image grows outwards from the origin, by its own brightness."""

    field = 'velocity'

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int) -> torch.Tensor:
        place = torch.from_numpy(POINTS)[None].float()
        return image.mean() * dose.view(-1, 1, 1, 1, 1) * place


def test_the_map_is_the_mean_growth_of_the_explained_images(cohort) -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1, 1).expand(6, 1, *GRID.shape) / 50
    found = mean_growth(Growing(), replace(cohort, images=images), np.array([1, 4]))
    place = torch.from_numpy(POINTS)[None].float()
    wanted = [
        log_jacobian(exponential(size * place, GRID), GRID)[0, 0].numpy()[MASK]
        for size in (1 / 50, 4 / 50)
    ]
    assert found == pytest.approx(np.mean(wanted, axis=0), abs=1e-5)
    assert found.mean() > 0.05
