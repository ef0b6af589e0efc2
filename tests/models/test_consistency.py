"""Numbers of a simulation against cases that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from bids_interp.models.bundle.reader import FoldModels
from bids_interp.models.bundle.schema import IntensityStatistics
from bids_interp.models.explain.consistency import (
    composition_rmse,
    dose_monotonicity,
    identity_error,
    rms_length,
    transfer,
)
from bids_interp.models.explain.counterfactuals import counterfactual_metrics
from bids_interp.models.explain.explainer import Response, classify, simulate
from bids_interp.models.explain.realism import (
    brain_cubes,
    cube_means,
    distance_from_training,
    intensity_statistics,
)
from bids_interp.models.target import Target
from bids_interp.spatial import Grid, curl_free_part, exponential, warp

GRID = Grid((12, 10, 8), np.diag([2.0, 2.0, 2.0, 1.0]), 'made up')
Push = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Brightness(torch.nn.Module):
    """A classifier whose logit is a factor times the mean intensity of the left half."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * image[:, :, :6].mean(dim=(1, 2, 3, 4))[:, None]


@dataclass
class MadeUp:
    """What the functions need of a bundle, with fields and factors chosen by the test."""

    push: Push
    factors: tuple[float, ...] = (1.0,)
    gap: float = 0.5
    field_kind: str = 'velocity'
    grid: Grid = GRID
    full_target: Target = field(default_factory=lambda: Target('binary', 'g', ('a', 'b')))

    @property
    def brain_mask(self) -> np.ndarray:
        inside = np.zeros(GRID.shape, bool)
        inside[4:8, 3:7, 2:6] = True
        return inside

    def fold(self, index: int, device: str = 'cpu') -> FoldModels:
        def simulator(image, dose, contrast):
            return self.push(image, dose)

        classifier = Brightness(self.factors[index])
        return FoldModels(classifier, simulator, 1.0, self.gap, torch.ones(1))


def along_x(mm: float) -> torch.Tensor:
    constant = torch.zeros(1, 3, *GRID.shape)
    constant[:, 0] = mm
    return constant


def bright_left() -> torch.Tensor:
    image = torch.zeros(1, 1, *GRID.shape)
    image[:, :, :6] = 1.0
    return image


def rows_of(*logits: float, direction: str = 'inject') -> list[Response]:
    return [
        Response(direction if number else 'none', number / 4, 0, logit, 0.5, 0.0, 0.0)
        for number, logit in enumerate(logits)
    ]


def test_dose_monotonicity_by_hand() -> None:
    rows = rows_of(0.0, 1.0, 0.5, 2.0, 2.0)
    # Up, down, up, nothing.
    assert dose_monotonicity(rows, 'inject') == 0.5
    assert dose_monotonicity(rows_of(0.0, -1.0, -3.0, direction='remove'), 'remove') == 1.0
    assert np.isnan(dose_monotonicity(rows, 'remove'))
    # Means over the folds count, not single folds, and not the order of the rows.
    second = [replace(row, logit=-10.0 * row.dose) for row in rows_of(0.0, 1.0, 2.0)]
    assert dose_monotonicity([*second, *rows_of(0.0, 5.0, 9.0)], 'inject') == 1.0


def test_half_the_dose_twice_by_hand() -> None:
    same = MadeUp(lambda image, dose: along_x(2.0) * dose)
    image = bright_left()
    assert composition_rmse(same, image, along_x(2.0), 'inject', 1.0, (0,)) < 1e-5
    # The second half goes nowhere: 1 mm instead of 2.
    tired = MadeUp(lambda image, dose: along_x(0.0))
    assert composition_rmse(tired, image, along_x(2.0), 'inject', 1.0, (0,)) == pytest.approx(1.0)
    assert composition_rmse(tired, image, along_x(2.0), 'inject', 0.5, (0,)) == pytest.approx(0.5)
    # A displacement pulls back: moving on by 2 mm of 2 is again consistent.
    pulled = replace(same, field_kind='displacement')
    assert composition_rmse(pulled, image, along_x(2.0), 'inject', 1.0, (0,)) < 1e-5


def test_the_second_half_sees_the_half_simulated_image() -> None:
    seen = []

    def push(image: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        seen.append((image[0, 0, :, 0, 0].tolist(), float(dose)))
        return along_x(-4.0) * dose

    image = bright_left()
    composition_rmse(MadeUp(push), image, along_x(4.0), 'remove', 1.0, (0,))
    # Half of 4 mm is one voxel.
    assert seen == [(pytest.approx([0.0, *[1.0] * 6, *[0.0] * 5], abs=1e-5), -1.0)]


def test_dose_zero_gives_the_image() -> None:
    image = bright_left()
    assert identity_error(MadeUp(lambda image, dose: along_x(2.0) * dose), image, (0,)) < 1e-6
    ignores_the_dose = MadeUp(lambda image, dose: along_x(1.0))
    # Half a voxel: the edge is between 0 and 1.
    assert identity_error(ignores_the_dose, image, (0,)) == pytest.approx(0.5, abs=1e-5)


def test_rms_length_by_hand() -> None:
    vectors = torch.zeros(1, 3, 2, 1, 1)
    vectors[0, :, 0, 0, 0] = torch.tensor([3.0, 4.0, 0.0])
    assert rms_length(vectors, np.ones((2, 1, 1), bool)) == pytest.approx(np.sqrt(12.5))
    assert rms_length(vectors, np.array([True, False])[:, None, None]) == pytest.approx(5.0)


def test_transfer_by_hand() -> None:
    # The logits are 1, 2 and -1.5 times the brightness of the left half, which is 1.
    bundle = MadeUp(lambda image, dose: along_x(0.0), factors=(1.0, 2.0, -1.5), gap=0.5)
    image = bright_left()
    folds = (0, 1, 2)
    observed = {p.fold: p for p in classify(bundle, image, folds)}
    # Only the first fold moves: one voxel to the left, so that a sixth of the left half is dark.
    fields = [along_x(-2.0)[0].numpy(), along_x(0.0)[0].numpy(), along_x(0.0)[0].numpy()]
    shift, flipped = transfer(bundle, image, fields, folds, 'inject', 1.0, observed)
    # Judges of the first: 2 * -1/6 and -1.5 * -1/6, over a gap of 0.5; the others see no change.
    assert shift == pytest.approx((-1 / 3 + 1 / 4) / 0.5 / 2 / 3, rel=1e-4)
    # Logits of the judges afterwards: (1.67, -1.25), (1, -1.5) and (1, 2).
    assert flipped == pytest.approx(2 / 3)
    alone = transfer(bundle, image, fields[:1], (0,), 'inject', 1.0, observed)
    assert np.isnan(alone).all()
    assert np.isnan(transfer(bundle, image, (), folds, 'inject', 1.0, observed)).all()


def test_realism_by_hand() -> None:
    grid = Grid((4, 2, 2), np.diag([1.0, 1.0, 1.0, 1.0]), 'made up')
    mask = np.ones(grid.shape, bool)
    cubes = brain_cubes(grid, mask, edge_mm=2.0)
    assert cubes[0, 0, 0] == cubes[1, 1, 1] == 0
    assert cubes[2, 0, 0] == cubes[3, 1, 1] == 1
    mask[2:] = False
    mask[2, 0, 0] = True
    # One voxel of eight is too little of a cube.
    assert brain_cubes(grid, mask, edge_mm=2.0)[2, 0, 0] == -1
    image = torch.zeros(1, 1, 4, 2, 2)
    image[:, :, 2:] = 3.0
    np.testing.assert_allclose(cube_means(image, cubes), [[0.0, 3.0]])
    whole = np.ones(grid.shape, bool)
    statistics = IntensityStatistics(2.0, 2, [1.0, 1.0], [0.5, 1.0])
    # z of -2 and 2.
    assert distance_from_training(image, statistics, grid, whole) == pytest.approx(2.0)
    statistics = replace(statistics, sd=[0.0, 1.0])
    assert distance_from_training(image, statistics, grid, whole) == pytest.approx(2.0)
    assert np.isnan(distance_from_training(image, None, grid, whole))


def test_a_training_image_is_about_one_standard_deviation_away() -> None:
    grid = Grid((24, 24, 24), np.diag([4.0, 4.0, 4.0, 1.0]), 'made up')
    mask = np.ones(grid.shape, bool)
    rng = np.random.default_rng(0)
    cells = rng.normal(1, 0.1, (60, 1, 4, 4, 4)).astype(np.float32)
    images = torch.from_numpy(cells.repeat(6, 2).repeat(6, 3).repeat(6, 4))
    statistics = intensity_statistics(images, grid, mask)
    assert len(statistics.mean) == len(statistics.sd) == 64
    distances = [distance_from_training(i[None], statistics, grid, mask) for i in images[:20]]
    assert np.mean(distances) == pytest.approx(1.0, abs=0.1)
    odd = images[:1] + 0.5
    assert distance_from_training(odd, statistics, grid, mask) > 4
    assert intensity_statistics(images[:1], grid, mask) is None


def test_volume_share_is_that_of_the_mean_score_at_dose_1(tiny_bundle) -> None:
    image = tiny_bundle.mean_image
    simulation = simulate(tiny_bundle, image, (0, 1))
    rows = counterfactual_metrics(tiny_bundle, image, simulation, (0.5, 1.0))
    for direction, velocity in simulation.velocity.items():
        field = torch.from_numpy(velocity)[None]
        part = curl_free_part(field, tiny_bundle.grid)
        shifts = []
        for each in (torch.zeros_like(field), part, field):
            moved = warp(image, exponential(-each, tiny_bundle.grid), tiny_bundle.grid)
            logits = [answer.logit for answer in classify(tiny_bundle, moved, (0, 1))]
            shifts.append(np.mean(logits))
        expected = (shifts[1] - shifts[0]) / (shifts[2] - shifts[0])
        shares = [row.volume_share for row in rows if row.direction == direction]
        assert shares == pytest.approx([expected] * 2, rel=1e-3)


def test_all_numbers_of_a_bundle(tiny_bundle) -> None:
    image = tiny_bundle.mean_image
    simulation = simulate(tiny_bundle, image, (0, 1))
    rows = counterfactual_metrics(tiny_bundle, image, simulation, (0.5, 1.0))
    for row in rows:
        # The residual of this bundle is untrained and 0: one change for all images.
        assert row.composition_rmse_mm < 0.02 * row.displacement_max_mm
        assert row.identity_error < 1e-5
        assert 0 <= row.dose_monotonicity <= 1
        assert row.transfer_flipped in (0.0, 0.5, 1.0)
        assert np.isnan(row.realism_z)
    assert rows[0].transfer_shift_over_class_gap != rows[1].transfer_shift_over_class_gap
    described = replace(
        tiny_bundle,
        config=replace(
            tiny_bundle.config,
            training_intensities=intensity_statistics(
                torch.cat([image, 1.1 * image]), tiny_bundle.grid, tiny_bundle.brain_mask
            ),
        ),
    )
    alone = counterfactual_metrics(described, image, simulate(described, image, (1,)))
    for row in alone:
        assert np.isnan([row.transfer_flipped, row.transfer_shift_over_class_gap]).all()
        # Between the two training images, half their distance from the mean.
        assert row.realism_z_observed == pytest.approx(np.sqrt(0.5), rel=1e-3)
        assert row.realism_z != row.realism_z_observed
