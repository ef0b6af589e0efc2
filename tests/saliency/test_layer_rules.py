"""Maps that change the gradient of layers, or use the features of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bids_interp.models.networks.registry import build_classifier
from bids_interp.saliency.captum_methods import SaliencyUnsupported
from bids_interp.saliency.table import METHODS
from helpers.scores import SHAPE, Branches, Features, map_of, noise


class Rectifier(torch.autograd.Function):
    """A ReLU with the gradient of guided backpropagation or of a deconvolution."""

    guided = True

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        passed = gradient.clamp(min=0)
        return passed * (x > 0) if Rectifier.guided else passed


@pytest.mark.parametrize('method', ['guidedbackprop', 'deconvolution'])
@pytest.mark.parametrize('inplace', [False, True])
def test_gradients_of_relu_are_replaced(method, inplace, monkeypatch):
    monkeypatch.setattr(Rectifier, 'guided', method == 'guidedbackprop')
    image = noise(4).requires_grad_()
    reference = Branches(relu=Rectifier.apply)
    (expected,) = torch.autograd.grad(reference(image).sum(), image)
    found = map_of(method, Branches(inplace), image).map
    np.testing.assert_allclose(found, expected[0, 0], atol=1e-7)
    assert np.abs(found - map_of('gradient', Branches(), image).map).max() > 1e-4


def test_a_shared_relu_is_refused_only_where_captum_confuses_its_calls():
    image = noise(4)
    shared = map_of('guidedbackprop', Branches(shared=True), image).map
    np.testing.assert_array_equal(shared, map_of('guidedbackprop', Branches(), image).map)
    with pytest.raises(SaliencyUnsupported):
        map_of('deconvolution', Branches(shared=True), image)
    with pytest.raises(SaliencyUnsupported):
        map_of('deeplift', Branches(shared=True), image)


def test_grad_cam_weighs_the_features_by_their_mean_gradient():
    network, image = Features(), noise(6)
    with torch.no_grad():
        features = network.features(image)[0]
    weights = network.v / features[0].numel()
    expected = (weights[:, None, None, None] * features).sum(0).numpy()
    found = map_of('gradcam', network, image)
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert found.map.min() < 0 < found.map.max()
    guided = map_of('guidedbackprop', network, image).map
    both = map_of('guidedgradcam', network, image).map
    np.testing.assert_allclose(both, guided * expected.clip(min=0), atol=1e-7)


def test_grad_cam_of_an_ensemble_is_the_mean_of_its_members():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_classifier('ipmi2021', (16, 16, 16), members=2).eval()
    image = noise(6, (16, 16, 16))
    members = [map_of('gradcam', member, image).map for member in network.members]
    found = map_of('gradcam', network, image).map
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-7)
    assert np.abs(found - members[0] / 2).max() > 1e-6


def test_grad_cam_takes_the_layer_it_is_given():
    network, image = Features(), noise(6)
    with torch.no_grad():
        before = network.convolution(image)[0]
    mean_gradient = (before > 0).float().mean(dim=(1, 2, 3)) * network.v / before[0].numel()
    expected = (mean_gradient[:, None, None, None] * before).sum(0).numpy()
    found = map_of('gradcam', network, image, target_layer=network.convolution).map
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('architecture', ['robust', 'ipmi2021', 'sfcn'])
def test_grad_cam_looks_behind_the_last_normalisation(architecture):
    shape = (32, 32, 32)
    network = build_classifier(architecture, shape).eval()
    found = map_of('gradcam', network, noise(7, shape)).map
    # In front of a normalisation by its own mean the map would be zero.
    assert np.abs(found).max() > 1e-6
    assert found.shape == shape


@pytest.mark.parametrize('method', ['deeplift', 'guidedbackprop', 'gradcam', 'guidedgradcam'])
def test_a_registration_has_no_layers_with_rules(method):
    shape = (16, 16, 16)
    torch.manual_seed(1)
    network = build_classifier('morphometric', shape).eval()
    with pytest.raises(SaliencyUnsupported):
        map_of(method, network, noise(7, shape))


def test_deep_lift_of_one_relu_is_the_slope_between_image_and_baseline():
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 1), nn.ReLU())
    image, baseline = noise(8), noise(9)
    with torch.no_grad():
        sums = [network[:2](x).item() for x in (image, baseline)]
        # One side of the bend each.
        network[1].bias -= sum(sums) / 2
        before = [network[:2](x).item() for x in (image, baseline)]
    assert before[0] * before[1] < 0
    slope = (max(before[0], 0) - max(before[1], 0)) / (before[0] - before[1])
    weights = network[1].weight.detach().reshape(SHAPE)
    expected = slope * weights * (image - baseline)[0, 0]
    found = map_of('deeplift', network, image, baseline)
    np.testing.assert_allclose(found.map, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('architecture', 'choices'),
    [('ipmi2021', {}), ('robust', {'norm': 'batch', 'channels': (4, 8)})],
)
def test_deep_lift_adds_up_where_a_pooling_follows_an_activation(architecture, choices):
    shape = (16, 16, 16)
    torch.manual_seed(0)
    network = build_classifier(architecture, shape, **choices).eval()
    image, baseline = noise(10, shape), noise(11, shape)
    found = map_of('deeplift', network, image, baseline)
    assert abs(found.completeness_error) < 1e-5 * np.abs(found.map).sum()


def test_the_sum_that_deep_lift_misses_behind_an_instance_normalisation_is_told():
    shape = (16, 16, 16)
    torch.manual_seed(0)
    network = build_classifier('robust', shape, channels=(4, 8)).eval()
    image, baseline = noise(10, shape), noise(11, shape)
    found = map_of('deeplift', network, image, baseline)
    with torch.no_grad():
        difference = (network(image) - network(baseline)).item()
    assert found.completeness_error == pytest.approx(found.map.sum() - difference, abs=1e-4)
    assert abs(found.completeness_error) > 1e-3


def test_a_network_without_relu_gets_no_plain_gradient_under_another_name():
    network = build_classifier('robust', (16, 16, 16), channels=(4, 8)).eval()
    for method in ('guidedbackprop', 'deconvolution', 'guidedgradcam'):
        with pytest.raises(SaliencyUnsupported):
            map_of(method, network, noise(1, (16, 16, 16)))


def test_activations_that_are_no_layers_are_found():
    image = noise(4)
    for method in ('guidedbackprop', 'deconvolution', 'guidedgradcam'):
        with pytest.raises(SaliencyUnsupported):
            map_of(method, Branches(relu=functional.relu), image)
    for step in (functional.relu, functional.gelu, functional.selu, torch.sin):
        with pytest.raises(SaliencyUnsupported):
            map_of('deeplift', Branches(relu=step), image)


def test_an_exported_program_gives_the_maps_that_need_no_layers():
    image = noise(6)
    example = image.repeat(2, 1, 1, 1, 1)
    batch = {'image': {0: torch.export.Dim('batch')}}
    program = torch.export.export(Features().eval(), (example,), dynamic_shapes=batch).module()
    np.testing.assert_allclose(
        map_of('gradient', program, image).map,
        map_of('gradient', Features(), image).map,
        atol=1e-7,
    )
    reasons = {}
    for method in METHODS:
        try:
            map_of(method, program, image)
        except SaliencyUnsupported as error:
            reasons[method] = error.message
    assert set(reasons) == {
        'guidedbackprop', 'deconvolution', 'gradcam', 'guidedgradcam', 'deeplift'
    }  # fmt: skip
