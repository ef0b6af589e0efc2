from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bids_interp.constants import FREE_CAPACITIES
from bids_interp.errors import ModelError
from bids_interp.models.networks.condconv import CondConv3d
from bids_interp.models.networks.registry import CLASSIFIERS, build_classifier
from bids_interp.models.networks.simulator import Simulator, direction_code
from bids_interp.spatial import Grid, exponential, log_jacobian

GRID = Grid((18, 20, 16), np.diag([8.0, 8.0, 8.0, 1.0]), 'template')
MASK = np.ones(GRID.shape, bool)


@pytest.mark.parametrize('architecture', CLASSIFIERS)
def test_classifiers_answer_independently_of_the_batch(architecture: str):
    torch.manual_seed(0)
    network = build_classifier(architecture, GRID.shape).eval()
    images = torch.rand(3, 1, *GRID.shape)
    together = network(images)
    assert together.shape == (3, 1)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_paper_classifier_has_1024_features_at_64():
    head = build_classifier('ipmi2021', (64, 64, 64)).head
    assert head[2].in_features == 1024
    assert head[2].out_features == 64


def test_unknown_architecture_names_the_known_ones():
    with pytest.raises(ModelError, match='robust'):
        build_classifier('transformer', GRID.shape)
    with pytest.raises(ModelError, match="'sfcn'.*depth"):
        build_classifier('sfcn', GRID.shape, depth=3)


@pytest.mark.parametrize('stride', [1, 2])
def test_condconv_equals_a_loop_over_samples(stride: int):
    torch.manual_seed(0)
    layer = CondConv3d(4, 6, codes=2, experts=3, stride=stride)
    data, code = torch.randn(5, 4, 10, 9, 8), torch.eye(2)[[0, 1, 0, 1, 1]]
    weights = layer.routing_weights(data, code)
    loop = [
        F.conv3d(
            data[i : i + 1],
            torch.einsum('e,eoixyz->oixyz', weights[i], layer.kernels),
            layer.bias,
            stride=stride,
            padding=1,
        )
        for i in range(5)
    ]
    torch.testing.assert_close(layer(data, code), torch.cat(loop), atol=1e-4, rtol=1e-4)


def test_condconv_depends_on_the_code():
    torch.manual_seed(0)
    layer = CondConv3d(2, 2, codes=2)
    data = torch.randn(1, 2, 6, 6, 6)
    assert (layer(data, torch.eye(2)[:1]) - layer(data, torch.eye(2)[1:])).abs().max() > 1e-3


def _wild(capacity: str) -> Simulator:
    """A simulator with random weights everywhere."""
    torch.manual_seed(1)
    simulator = Simulator(GRID, MASK, capacity, smoothing_mm=16.0)
    torch.nn.init.normal_(simulator.template, std=0.5)
    if simulator.residual is not None:
        for name, parameter in simulator.residual.named_parameters():
            if 'film' in name or 'leave' in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return simulator.eval()


@pytest.mark.parametrize('capacity', FREE_CAPACITIES)
def test_simulator_is_the_identity_at_dose_zero(capacity: str):
    image = torch.rand(2, 1, *GRID.shape)
    assert _wild(capacity)(image, torch.zeros(2)).abs().max() == 0


@pytest.mark.parametrize('capacity', FREE_CAPACITIES)
def test_velocity_is_linear_in_the_dose_of_a_direction(capacity: str):
    simulator, image = _wild(capacity), torch.rand(1, 1, *GRID.shape)
    for sign in (1.0, -1.0):
        whole = simulator(image, torch.tensor([sign]))
        torch.testing.assert_close(simulator(image, torch.tensor([0.3 * sign])), 0.3 * whole)


def test_residual_starts_at_the_template():
    torch.manual_seed(0)
    image, dose = torch.rand(2, 1, *GRID.shape), torch.tensor([1.0, -1.0])
    fresh = Simulator(GRID, MASK, 'condconv')
    torch.nn.init.normal_(fresh.template)
    template = Simulator(GRID, MASK, 'template')
    template.load_state_dict({'template': fresh.template})
    torch.testing.assert_close(fresh(image, dose), template(image, dose))


@pytest.mark.parametrize('capacity', FREE_CAPACITIES)
def test_weights_of_the_first_version_have_no_gain(capacity: str):
    simulator = _wild(capacity)
    written = simulator.state_dict()
    assert ('gain' in written) == (capacity != 'template')
    written.pop('gain', None)
    again = Simulator(GRID, MASK, capacity, smoothing_mm=16.0).eval()
    again.load_state_dict(written)
    image, dose = torch.rand(2, 1, *GRID.shape), torch.tensor([1.0, -1.0])
    torch.testing.assert_close(again(image, dose), simulator(image, dose))


@pytest.mark.parametrize('capacity', ['residual', 'condconv'])
def test_residual_sees_image_and_direction(capacity: str):
    simulator = _wild(capacity)
    images = torch.rand(2, 1, *GRID.shape)
    one, other = simulator(images, torch.ones(2))
    assert (one - other).abs().max() > 1e-4
    with_minus = simulator(images, -torch.ones(2))[0]
    assert (one + with_minus).abs().max() > 1e-4


def test_random_simulator_does_not_fold():
    velocity = _wild('condconv')(torch.rand(1, 1, *GRID.shape), torch.ones(1))
    assert velocity.abs().max() > 1.0
    assert log_jacobian(exponential(velocity, GRID), GRID).min() > -5


def test_unknown_capacity():
    with pytest.raises(ModelError, match='condconv'):
        Simulator(GRID, MASK, 'huge')


@pytest.mark.parametrize('width', [12.0, 20.0])
def test_a_velocity_has_the_smoothness_asked_for(width: float):
    """A single coefficient becomes a Gaussian; the spline adds a third of a squared step."""
    grid = Grid((41, 41, 41), np.diag([4.0, 4.0, 4.0, 1.0]))
    simulator = Simulator(grid, np.ones(grid.shape, bool), smoothing_mm=width)
    step = float(simulator.lattice.spacing[0])
    with torch.no_grad():
        simulator.template[0, 0, 10, 10, 10] = 1.0
        velocity = simulator(torch.zeros(1, 1, *grid.shape), torch.ones(1))[0, 0].numpy()
    along = np.arange(41) * 4.0
    profile = velocity.sum(axis=(1, 2))
    centre = (along * profile).sum() / profile.sum()
    spread = np.sqrt(((along - centre) ** 2 * profile).sum() / profile.sum())
    assert spread == pytest.approx(np.sqrt(width**2 + step**2 / 3), rel=0.08)


def test_codes_of_the_two_directions():
    code = direction_code(torch.tensor([1.0, -1.0]), contrast=1, contrasts=2)
    assert code.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
