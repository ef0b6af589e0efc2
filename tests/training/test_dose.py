"""A simulator is scaled until dose 1 is the gap between the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.validity import image_scores, simulated_scores, validity
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.dose import CLOSE, FACTORS, balanced_subset, scale_to_dose
from bids_interp.training.simulator import Opponent
from helpers.balls import BINARY, GRID, SEVERAL, binary_cohort, regression_cohort, several_cohort


class Mass(nn.Module):
    """Answers with the sum of an image: smaller balls have less."""

    def __init__(self, sign: float = -1.0) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.sign * image.sum(dim=(1, 2, 3, 4))[:, None] / 100


def shrinking(cohort, strength: float) -> Simulator:
    """A template that shrinks the middle at dose 1."""
    simulator = Simulator(GRID, cohort.mask)
    lattice = simulator.lattice
    points = torch.from_numpy(lattice.world_coordinates()).float()
    near = torch.exp(-0.5 * points.square().sum(dim=0) / 12.0**2)
    with torch.no_grad():
        simulator.template.copy_(-strength * (points * near)[None])
    return simulator.requires_grad_(False)


@pytest.mark.parametrize('strength', [0.002, 0.05])
def test_dose_1_becomes_the_gap(strength: float) -> None:
    cohort = binary_cohort()
    simulator = shrinking(cohort, strength)
    pattern = simulator.template.clone()
    gap = 2.0
    opponent = Opponent((Mass(),), ((gap,),))
    (factor,) = scale_to_dose(simulator, opponent, cohort, np.arange(16))
    assert simulator.gain.tolist() == [pytest.approx(factor)]
    torch.testing.assert_close(simulator.template, pattern)
    (row,) = validity(Mass(), simulator, cohort.images, cohort.labels, BINARY, [gap], cohort.grid)
    reached = np.mean([side.effectiveness for side in row.sides])
    assert factor != 1
    assert reached == pytest.approx(1, abs=4 * CLOSE) or factor in FACTORS


def test_each_contrast_has_a_gain_that_scales_the_residual_too() -> None:
    cohort = several_cohort()
    simulator = Simulator(GRID, cohort.mask, capacity='residual', width=4, contrasts=3)
    strong = shrinking(cohort, 0.05).template
    with torch.no_grad():
        simulator.template.copy_(strong * torch.tensor([0.3, 1.0, 0.5]).view(3, 1, 1, 1, 1))
        # A residual along the x axis in every image and direction.
        simulator.residual.leave.bias.copy_(torch.tensor([0.01, 0.0, 0.0]))
    simulator.requires_grad_(False).eval()
    image, dose = cohort.images[:1], torch.ones(1)
    before = [simulator(image, dose, number) for number in range(3)]

    class Several(Mass):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) * torch.tensor([-1.0, 0.0, 1.0])

    gaps, chosen = (0.5, 1.0, 0.25), np.arange(12)
    gains = scale_to_dose(simulator, Opponent((Several(),), (gaps,)), cohort, chosen)
    assert gains == simulator.gain.tolist()
    assert len(set(gains)) == 3
    for number, gain in enumerate(gains):
        torch.testing.assert_close(simulator(image, dose, number), gain * before[number])
        contrast, images = SEVERAL.contrasts[number], cohort.images[chosen]
        observed = image_scores(Several(), images, contrast)
        shifts = [
            sign
            * (
                simulated_scores(Several(), simulator, images, sign, contrast, number, GRID)
                - observed
            )
            for sign in (1.0, -1.0)
        ]
        assert np.median(shifts) == pytest.approx(gaps[number], rel=CLOSE)


def test_a_gain_is_absorbed_by_the_template() -> None:
    simulator = Simulator(GRID, np.ones(GRID.shape, bool), contrasts=2).requires_grad_(False)
    torch.nn.init.normal_(simulator.template)
    simulator.gain.copy_(torch.tensor([0.5, 3.0]))
    image, dose = torch.zeros(1, 1, *GRID.shape), torch.ones(1)
    before = [simulator(image, dose, number) for number in (0, 1)]
    simulator.absorb_gain()
    assert simulator.gain.tolist() == [1, 1]
    for number in (0, 1):
        torch.testing.assert_close(simulator(image, dose, number), before[number])


def test_a_table_sorted_by_class_is_scaled_like_another() -> None:
    cohort = binary_cohort()
    images = np.arange(len(cohort))
    opponent = Opponent((Mass(),), ((1.0,),))
    mixed, ordered, controls = (
        scale_to_dose(shrinking(cohort, 0.05), opponent, cohort, order)[0]
        for order in (images, np.argsort(cohort.labels, kind='stable'), images[::2])
    )
    assert ordered == pytest.approx(mixed, rel=1e-3)
    # Large balls lose more when the middle shrinks: controls alone would ask for less.
    assert controls < 0.9 * mixed


def test_images_are_drawn_evenly_and_in_their_order() -> None:
    cohort = several_cohort()
    order = np.argsort(cohort.labels, kind='stable')
    chosen = balanced_subset(cohort, order, 16)
    assert np.bincount(cohort.labels[chosen]).tolist() == [6, 5, 5]
    places = [order.tolist().index(image) for image in chosen]
    assert places == [*range(6), *range(12, 17), *range(24, 29)]
    # The whole set where it is small; more of the others where a class is rare.
    assert balanced_subset(cohort, order[:9], 16).tolist() == order[:9].tolist()
    assert np.bincount(cohort.labels[balanced_subset(cohort, order[:14], 8)]).tolist() == [6, 2]
    numbers = regression_cohort()
    assert balanced_subset(numbers, np.arange(40), 16).tolist() == list(range(16))


def test_a_template_that_goes_the_wrong_way_stays_as_it_is() -> None:
    cohort = binary_cohort()
    simulator = shrinking(cohort, 0.02)
    pattern = simulator.template.clone()
    opponent = Opponent((Mass(sign=1.0),), ((2.0,),))
    assert scale_to_dose(simulator, opponent, cohort, np.arange(8)) == [1.0]
    assert torch.equal(simulator.template, pattern)
    assert simulator.gain.tolist() == [1.0]
