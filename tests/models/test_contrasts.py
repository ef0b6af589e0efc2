"""Simulators of several contrasts, and ensembles of classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.constants import FREE_CAPACITIES
from bids_interp.models.networks.registry import Ensemble, build_classifier
from bids_interp.models.networks.simulator import Simulator, direction_code
from bids_interp.spatial import Grid

GRID = Grid((8, 10, 8), np.diag([8.0, 8.0, 8.0, 1.0]), 'template')
MASK = np.ones(GRID.shape, bool)


def wild(capacity: str) -> Simulator:
    """Three contrasts, random weights everywhere."""
    torch.manual_seed(1)
    simulator = Simulator(GRID, MASK, capacity, smoothing_mm=16.0, width=4, contrasts=3)
    torch.nn.init.normal_(simulator.template, std=0.5)
    if simulator.residual is not None:
        for name, parameter in simulator.residual.named_parameters():
            if 'film' in name or 'leave' in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return simulator.eval()


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    return torch.rand(2, 1, *GRID.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('capacity', FREE_CAPACITIES)
def test_each_contrast_has_a_field_of_its_own(capacity: str, images) -> None:
    simulator = wild(capacity)
    with torch.no_grad():
        fields = [simulator(images, torch.ones(2), number) for number in range(3)]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (fields[one] - fields[two]).abs().max() > 0.01


@pytest.mark.parametrize('capacity', FREE_CAPACITIES)
def test_the_template_of_a_contrast_moves_no_other(capacity: str, images) -> None:
    simulator = wild(capacity)
    with torch.no_grad():
        before = [simulator(images, torch.ones(2), number) for number in range(3)]
        simulator.template[1] += 1.0
        after = [simulator(images, torch.ones(2), number) for number in range(3)]
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[1], after[1])


def test_a_step_on_one_contrast_leaves_the_templates_of_the_others(images) -> None:
    simulator = wild('condconv')
    simulator(images, torch.ones(2), 2).square().mean().backward()
    moved = simulator.template.grad.abs().amax(dim=(1, 2, 3, 4))
    assert (moved > 0).tolist() == [False, False, True]


def test_exchanging_the_classes_is_a_negative_dose(images) -> None:
    """Antisymmetric: what one direction of a template does, the other undoes."""
    simulator = wild('template')
    with torch.no_grad():
        for number in range(3):
            there = simulator(images, torch.ones(2), number)
            back = simulator(images, -torch.ones(2), number)
            assert torch.equal(there, -back)
            assert there.abs().max() > 0.01


def test_codes_of_contrasts_and_directions_are_all_different() -> None:
    codes = [
        tuple(direction_code(torch.tensor([sign]), number, 3)[0].tolist())
        for number in range(3)
        for sign in (1.0, -1.0)
    ]
    assert len(set(codes)) == 6
    assert all(sum(code) == 1 for code in codes)


def test_an_ensemble_is_the_mean_of_its_members(images) -> None:
    torch.manual_seed(0)
    members = [
        build_classifier('robust', GRID.shape, channels=(4, 8), outputs=3).eval() for _ in range(3)
    ]
    with torch.no_grad():
        expected = sum(member(images) for member in members) / 3
        torch.testing.assert_close(Ensemble(members)(images), expected)
        assert (members[0](images) - expected).abs().max() > 1e-3


def test_the_registry_builds_ensembles_that_take_each_other_s_weights(images) -> None:
    torch.manual_seed(0)
    one, two = (
        build_classifier('sfcn', GRID.shape, members=2, channels=(4, 4)).eval() for _ in range(2)
    )
    assert isinstance(one, Ensemble)
    assert not torch.equal(one(images), two(images))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(images), two(images))


def test_the_velocity_ends_within_the_grid():
    grid = Grid((20, 24, 22), np.diag([4.0, 4.0, 4.0, 1.0]))
    simulator = Simulator(grid, np.ones(grid.shape, bool))
    with torch.no_grad():
        simulator.template.fill_(0.5)
        velocity = simulator(torch.zeros(1, 1, *grid.shape), torch.ones(1))[0]
    for axis in (1, 2, 3):
        for face in (0, -1):
            assert float(velocity.select(axis, face).abs().max()) == 0.0
    # From 8 mm inwards nothing is taken away: a constant stays one.
    inside = velocity[:, 4:-4, 4:-4, 4:-4]
    assert float(inside.std()) < 0.05 * float(inside.abs().mean())
    assert float(inside.abs().min()) > 0
