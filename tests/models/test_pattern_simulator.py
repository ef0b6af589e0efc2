"""Pattern simulator: mixes curl-free velocities by what a scan has of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bids_interp.models.networks.pattern_simulator import PatternSimulator
from bids_interp.models.networks.registry import load_weights
from bids_interp.models.networks.simulator import build_simulator
from bids_interp.spatial import Grid, VolumeFlow

GRID = Grid((12, 14, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
MASK = np.zeros(GRID.shape, bool)
MASK[2:-2, 2:-2, 2:-2] = True
IMAGE = torch.rand(1, 1, *GRID.shape, generator=torch.Generator().manual_seed(0))
INJECT, REMOVE = torch.tensor([1.0]), torch.tensor([-1.0])


def sources(count: int, contrasts: int = 1) -> torch.Tensor:
    drawn = np.random.default_rng(0).normal(size=(contrasts, count, *GRID.shape))
    return torch.from_numpy(0.05 * drawn * MASK).float()


def common() -> PatternSimulator:
    simulator = PatternSimulator(GRID, MASK)
    simulator.source.data.copy_(sources(1))
    simulator.update()
    return simulator.eval()


def personal(scores: tuple[float, float], spread: float = 0.2) -> PatternSimulator:
    """Two patterns; an image has given scores for them, and shares of 0.3 and 0.7."""
    simulator = PatternSimulator(GRID, MASK, patterns=2, personal=True)
    simulator.source.data.copy_(sources(2))
    simulator.update()
    # Without weights of the volumes, the score is minus that of the mean control.
    rows = [[-s for s in scores], [16.0, 9.0], [spread, spread], [0.3, 0.7]]
    simulator.mixture.data.copy_(torch.tensor(rows)[:, None])
    return simulator.eval()


def test_common_pattern_is_the_flow_of_its_source_in_both_directions():
    simulator = common()
    expected = VolumeFlow(GRID, MASK).velocity(simulator.source[0, 0].numpy())
    found = simulator(IMAGE.expand(2, -1, -1, -1, -1), torch.tensor([0.5, -1.0]))
    assert np.allclose(found[0], 0.5 * expected, atol=1e-6)
    assert np.allclose(found[1], -expected, atol=1e-6)
    simulator.gain.fill_(3.0)
    assert np.allclose(simulator(IMAGE, INJECT)[0], 3 * expected, atol=1e-5)


def test_the_skull_does_not_matter_for_the_amounts():
    simulator = personal((0.0, 0.0))
    simulator.readout.data.normal_(generator=torch.Generator().manual_seed(1))
    simulator.volumes.mean.copy_(IMAGE.roll(1, 2) * torch.from_numpy(MASK))
    brain = IMAGE * torch.from_numpy(MASK)
    amounts = simulator.amounts(brain, REMOVE)
    torch.testing.assert_close(simulator.amounts(IMAGE, REMOVE), amounts)
    assert not torch.allclose(simulator.amounts(0 * IMAGE, REMOVE), amounts)


def test_contrasts_have_their_own_patterns():
    simulator = PatternSimulator(GRID, MASK, contrasts=2)
    simulator.source.data.copy_(sources(1, 2))
    simulator.update()
    simulator.gain.copy_(torch.tensor([1.0, 2.0]))
    expected = VolumeFlow(GRID, MASK).velocity(simulator.source[1, 0].numpy())
    assert np.allclose(simulator(IMAGE, INJECT, 1)[0], 2 * expected, atol=1e-6)


@pytest.mark.parametrize(('scores', 'own'), [((16.0, 0.0), 0), ((0.0, 9.0), 1)])
def test_the_own_pattern_is_removed_and_the_other_injected(scores, own):
    simulator = personal(scores)
    removed = simulator.amounts(IMAGE, REMOVE)[0]
    injected = simulator.amounts(IMAGE, INJECT)[0]
    # An expected score is an amount of 1.
    assert removed[own] == pytest.approx(1, abs=0.03)
    assert removed[1 - own] < 0.03
    assert injected[1 - own] > 0.9
    assert float(injected.sum()) == pytest.approx(1)


def test_control_lacks_both_patterns():
    injected = personal((0.0, 0.0)).amounts(IMAGE, INJECT)[0]
    assert injected.tolist() == pytest.approx([0.3, 0.7], abs=0.02)


def test_amount_follows_the_scan_and_is_shrunk():
    """Posterior mean of the amount: (1 + t u) / (1 + t n)."""
    amount = personal((32.0, 0.0), spread=0.2).amounts(IMAGE, REMOVE)[0, 0]
    assert float(amount) == pytest.approx((1 + 0.2 * 32) / (1 + 0.2 * 16), rel=1e-3)


def test_scan_far_from_every_pattern():
    """No amount is negative, and what is injected stays finite."""
    simulator = personal((-300.0, -300.0))
    assert (simulator.amounts(IMAGE, REMOVE) >= 0).all()
    both = personal((300.0, 300.0)).amounts(IMAGE, INJECT)
    assert torch.isfinite(both).all()
    assert float(both.sum()) == pytest.approx(1)


def test_volumes_of_the_scan_are_weighed():
    """The score is the sum of the weighted log volumes minus that of the mean control."""
    simulator = personal((0.0, 0.0))
    assert simulator.volumes is not None
    simulator.volumes.mean.copy_(IMAGE.flip(2))
    weights = torch.rand(1, 2, *GRID.shape, generator=torch.Generator().manual_seed(1))
    simulator.readout.data.copy_(weights)
    maps = simulator.volumes.log_jacobian(IMAGE * torch.from_numpy(MASK))
    expected = (maps[0] * weights[0]).sum(dim=(1, 2, 3))
    simulator.mixture.data[0, 0] = expected - torch.tensor([16.0, 0.0])
    assert float(simulator.amounts(IMAGE, REMOVE)[0, 0]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize('made', [common, lambda: personal((16.0, 0.0))])
def test_weights_decide_the_number_of_patterns(made, tmp_path: Path):
    """A bundle does not say how many patterns each fold has."""
    simulator = made()
    save_file(simulator.state_dict(), tmp_path / 'weights.safetensors')
    again = build_simulator(GRID, MASK, {'capacity': 'pattern'}).eval()
    load_weights(again, tmp_path / 'weights.safetensors', 'the test')
    for dose in (INJECT, REMOVE):
        assert torch.equal(again(IMAGE, dose), simulator(IMAGE, dose))
