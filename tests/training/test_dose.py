"""A template is scaled until dose 1 is the gap between the classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.validity import validity
from bids_interp.models.simulator import Simulator
from bids_interp.training.dose import CLOSE, FACTORS, scale_to_dose
from bids_interp.training.simulator import Opponent

from .balls import BINARY, GRID, binary_cohort


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
    torch.testing.assert_close(simulator.template, factor * pattern)
    (row,) = validity(Mass(), simulator, cohort.images, cohort.labels, BINARY, [gap], cohort.grid)
    reached = np.mean([row[side]['effectiveness'] for side in ('inject', 'remove')])
    assert factor != 1
    assert reached == pytest.approx(1, abs=4 * CLOSE) or factor in FACTORS


def test_a_template_that_goes_the_wrong_way_stays_as_it_is() -> None:
    cohort = binary_cohort()
    simulator = shrinking(cohort, 0.02)
    pattern = simulator.template.clone()
    opponent = Opponent((Mass(sign=1.0),), ((2.0,),))
    assert scale_to_dose(simulator, opponent, cohort, np.arange(8)) == [1.0]
    assert torch.equal(simulator.template, pattern)
