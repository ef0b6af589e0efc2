"""The published simulator: its numbers, and that its known bugs are not there."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.networks.condconv import CondConv3d
from bids_interp.models.networks.ipmi2021 import PaperNetwork, PaperSimulator
from bids_interp.models.networks.registry import PaperClassifier
from bids_interp.models.networks.simulator import build_simulator
from bids_interp.spatial import Grid

GRID = Grid((16, 32, 16), np.diag([4.0, 3.0, 2.0, 1.0]), 'template')
MASK = np.ones(GRID.shape, bool)


@pytest.fixture(scope='module')
def simulator() -> PaperNetwork:
    torch.manual_seed(0)
    return PaperNetwork(GRID).eval()


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    return torch.rand(2, 1, *GRID.shape, generator=torch.Generator().manual_seed(0))


def test_it_puts_out_a_displacement_in_mm(simulator: PaperNetwork, images) -> None:
    with torch.no_grad():
        voxels = simulator.displacement(images, torch.ones(2, 1))
        field = simulator(images, torch.ones(2))
    assert field.shape == (2, 3, *GRID.shape)
    assert PaperSimulator.field == 'displacement'
    spacing = torch.tensor([4.0, 3.0, 2.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(field, voxels * spacing)


def test_the_published_stages_have_their_shapes() -> None:
    """Channels and sizes of all stages on the published grid of 64 voxels."""
    cube = Grid((64, 64, 64), np.eye(4), 'template')
    network = PaperNetwork(cube).eval()
    seen: list[tuple[str, int, int]] = []
    names = {module: name for name, module in network.named_modules()}

    def note(module: nn.Module, _: object, output: torch.Tensor) -> None:
        seen.append((names[module], output.shape[1], output.shape[-1]))

    for module in network.modules():
        if isinstance(module, CondConv3d | nn.Linear) and 'routing' not in names[module]:
            module.register_forward_hook(note)
    with torch.no_grad():
        network.displacement(torch.zeros(1, 1, 64, 64, 64), torch.ones(1, 1))
    assert seen == [
        ('enter', 16, 64),
        ('downs.0', 32, 32),
        ('downs.1', 64, 16),
        ('downs.2', 16, 8),
        ('downs.3', 16, 4),
        ('squeeze', 512, 512),
        ('expand', 1024, 1024),
        ('bridge', 16, 4),
        # Convolution before upsampling; the first stage upwards has none of its own.
        ('ups.0', 64, 8),
        ('ups.1', 32, 16),
        ('ups.2', 16, 32),
        ('leave', 3, 64),
    ]
    assert [norm.num_features for norm in network.down_norms] == [16, 32, 64, 16]
    assert [norm.num_features for norm in network.up_norms] == [16, 64, 32, 16]
    # The authors' 2,729,666 without a layer of 1,049,600 that they never call.
    assert sum(part.numel() for part in network.parameters()) == 2_729_666 - 1_049_600
    classifier = PaperClassifier((64, 64, 64))
    assert sum(part.numel() for part in classifier.parameters()) == 163_249


def test_the_skip_at_full_resolution_is_added_to_upsampled_features(images) -> None:
    """Without what comes from below, the output is that of the first convolution."""
    torch.manual_seed(0)
    network = PaperNetwork(GRID).eval()
    nn.init.zeros_(network.ups[-1].kernels)
    code = torch.ones(2, 1)
    with torch.no_grad():
        first = network.enter(images, code)
        torch.testing.assert_close(network.displacement(images, code), network.leave(first, code))


def test_dropout_falls_on_the_pooled_features_and_not_on_the_routing() -> None:
    layer = CondConv3d(4, 2, 1, routing_dropout=0.999).train()
    nn.init.ones_(layer.routing.weight)
    nn.init.zeros_(layer.routing.bias)
    torch.manual_seed(0)
    weights = layer.routing_weights(torch.full((8, 4, 2, 2, 2), 3.0), torch.ones(8, 1))
    # All features are dropped; the code alone is left.
    torch.testing.assert_close(weights, torch.sigmoid(torch.ones(8, 3)))


def test_weights_are_drawn_as_published() -> None:
    """Xavier's range for all experts of a layer at once, which makes them small."""
    torch.manual_seed(0)
    kernels = PaperNetwork(GRID).downs[1].kernels
    limit = (6 / (27 * 32 * (64 + 3))) ** 0.5
    assert 0.95 * limit < float(kernels.detach().abs().max()) <= limit


def test_removal_is_not_lost_behind_a_rectifier(simulator: PaperNetwork, images) -> None:
    """A code of -1 behind a ReLU would be 0: removing would be like having no direction."""
    with torch.no_grad():
        inject, remove, none = (
            simulator.displacement(images, torch.full((2, 1), code)) for code in (1.0, -1.0, 0.0)
        )
    size = inject.abs().mean()
    assert (inject - remove).abs().mean() > 1e-3 * size
    assert (remove - none).abs().mean() > 1e-3 * size


def test_the_latent_code_alone_tells_the_directions_apart(images) -> None:
    """Also where the routing of the kernels does not listen to it."""
    torch.manual_seed(0)
    simulator = PaperNetwork(GRID).eval()
    for module in simulator.modules():
        if isinstance(module, CondConv3d):
            torch.nn.init.zeros_(module.routing.weight)
    with torch.no_grad():
        inject, remove, none = (
            simulator.displacement(images, torch.full((2, 1), code)) for code in (1.0, -1.0, 0.0)
        )
    assert (inject - remove).abs().max() > 1e-5
    # Behind the squeezed features, not before their rectifier.
    assert (remove - none).abs().max() > 1e-5


def test_the_sign_is_the_direction_and_the_size_the_dose(simulator, images) -> None:
    with torch.no_grad():
        full = simulator(images, torch.tensor([1.0, -1.0]))
        half = simulator(images, torch.tensor([0.5, -0.5]))
        nothing = simulator(images, torch.zeros(2))
        removed = simulator.displacement(images[1:], -torch.ones(1, 1))
    # The direction that the network is told is -1, not 0.
    spacing = torch.tensor([4.0, 3.0, 2.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(full[1:], removed * spacing, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(half, 0.5 * full)
    assert not nothing.any()


def test_images_of_a_batch_do_not_meet(simulator: PaperNetwork, images) -> None:
    dose = torch.tensor([1.0, -1.0])
    with torch.no_grad():
        together = simulator(images, dose)
        alone = torch.cat([simulator(images[n : n + 1], dose[n : n + 1]) for n in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_all_kernels_equal_a_loop_over_samples(simulator, images, monkeypatch) -> None:
    """The whole network, once as it is and once with the published loop."""
    dose = torch.tensor([1.0, -1.0])
    with torch.no_grad():
        vectorised = simulator(images, dose)

    def loop(self: CondConv3d, data: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        weights = self.routing_weights(data, code)
        samples = []
        for sample, own in zip(data, weights, strict=True):
            kernel = sum(w * expert for w, expert in zip(own, self.kernels, strict=True))
            samples.append(F.conv3d(sample[None], kernel, self.bias, padding=self.padding))
        return torch.cat(samples)

    monkeypatch.setattr(CondConv3d, 'forward', loop)
    with torch.no_grad():
        looped = simulator(images, dose)
    torch.testing.assert_close(vectorised, looped, atol=1e-4, rtol=1e-4)
    assert vectorised.abs().max() > 0.01


@pytest.mark.parametrize('shape', [(16, 16, 24), (40, 48, 42)])
def test_sizes_are_multiples_of_16(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ModelError, match=rf'\b16\b.*{re.escape(str(shape))}'):
        PaperNetwork(Grid(shape, np.eye(4)))


def test_each_contrast_has_a_network_of_its_own(images) -> None:
    torch.manual_seed(0)
    both = PaperSimulator(GRID, MASK, contrasts=2).eval()
    both.silence(0)
    with torch.no_grad():
        assert not both(images, torch.ones(2)).any()
        second = both(images, torch.ones(2), 1)
        torch.testing.assert_close(second, both.networks[1](images, torch.ones(2)))
    assert second.abs().max() > 0.01


def flat(shape: tuple[int, int, int]) -> Grid:
    return Grid(shape, np.diag([4.0, 3.0, 2.0, 1.0]), 'flat')


@pytest.mark.parametrize('shape', [(32, 16, 1), (1, 32, 16), (32, 1, 16)])
def test_a_two_dimensional_image_has_a_two_dimensional_network(shape) -> None:
    """3 x 3 kernels, halved in the plane alone, and nothing leaves the plane."""
    torch.manual_seed(0)
    network = PaperNetwork(flat(shape)).eval()
    thin = shape.index(1)
    kernels = [part.kernels for part in network.modules() if isinstance(part, CondConv3d)]
    assert {tuple(np.delete(kernel.shape[-3:], thin)) for kernel in kernels} == {(3, 3)}
    assert {kernel.shape[-3:][thin] for kernel in kernels} == {1}
    # Two stages of the plane are left of 32 x 16 voxels.
    assert network.squeeze.in_features == 16 * 2
    assert network.leave.after == 2
    image = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        field = network(image, torch.tensor([1.0, -1.0]))
        voxels = network.displacement(image, torch.tensor([[1.0], [-1.0]]))
    assert field.shape == (2, 3, *shape)
    assert not field[:, thin].any()
    spacing = torch.tensor(np.delete([4.0, 3.0, 2.0], thin)).view(1, 2, 1, 1, 1).float()
    plane = [axis for axis in range(3) if axis != thin]
    torch.testing.assert_close(field[:, plane], voxels * spacing)


def test_a_flat_kernel_is_a_convolution_of_the_plane() -> None:
    """What a published 2-D convolution of the plane computes."""
    torch.manual_seed(0)
    layer = CondConv3d(3, 4, 1, size=(3, 3, 1)).eval()
    data, code = torch.rand(2, 3, 8, 6, 1), torch.ones(2, 1)
    weights = layer.routing_weights(data, code)
    for sample, own, found in zip(data, weights, layer(data, code), strict=True):
        kernel = torch.einsum('e,eoixyz->oixyz', own, layer.kernels)[..., 0]
        wanted = F.conv2d(sample[None, ..., 0], kernel, layer.bias, padding=1)
        torch.testing.assert_close(found[..., 0], wanted[0], atol=1e-5, rtol=1e-4)


def test_the_published_classifier_of_a_plane() -> None:
    classifier = PaperClassifier((64, 64, 1))
    assert classifier.head[1:][1].in_features == 16 * 4 * 4
    assert classifier.eval()(torch.rand(2, 1, 64, 64, 1)).shape == (2, 1)
    kernels = {part.kernel_size for part in classifier.modules() if isinstance(part, nn.Conv3d)}
    assert kernels == {(3, 3, 1)}


def test_a_bundle_builds_it_by_its_name() -> None:
    assert isinstance(build_simulator(GRID, MASK, {'capacity': 'ipmi2021'}), PaperSimulator)
    with pytest.raises(ModelError, match='width'):
        build_simulator(GRID, MASK, {'capacity': 'ipmi2021', 'width': 3})
