"""Saliency maps against cases that can be worked out by hand, and the cases that are refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import ModelError
from bids_interp.models.networks.registry import build_classifier
from bids_interp.saliency.captum_methods import (
    BATCH,
    NOISE,
    SAMPLES,
    STRIDE_MM,
    WINDOW_MM,
    SaliencyUnsupported,
)
from bids_interp.saliency.maps import (
    FoldScore,
    fold_mean_saliency,
    saliency_map,
    saliency_values,
)
from bids_interp.saliency.table import METHODS
from bids_interp.spatial import Grid

SHAPE = (5, 4, 3)


def make_grid(spacing: float = WINDOW_MM, shape=SHAPE) -> Grid:
    return Grid(shape, np.diag([spacing, spacing, spacing, 1.0]), 'MNI')


def noise(seed: int, shape=SHAPE) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """Score sum(w * x) + 1, of shape (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = noise(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (self.weight * image).flatten(1).sum(1, keepdim=True) + 1


@pytest.fixture
def linear():
    """Score, image, baseline."""
    return Linear(), noise(2), noise(3)


def run(method, score, image, baseline=None, grid=None, **choices):
    grid = grid or make_grid(shape=tuple(image.shape[2:]))
    return saliency_map(method, score, image, grid, baseline=baseline, **choices)


def test_methods_are_those_of_the_settings():
    assert tuple(METHODS) == SALIENCY_METHODS


@pytest.mark.parametrize('method', ['gradient', 'smoothgrad'])
def test_the_gradient_of_a_linear_score_is_its_weights(linear, method):
    score, image, _ = linear
    found = run(method, score, image)
    np.testing.assert_allclose(found.map, score.weight[0, 0], atol=1e-5)
    assert (found.kind, found.baseline) == ('gradient', '')
    assert found.map.dtype == np.float32


def test_input_times_gradient_of_a_linear_score(linear):
    score, image, _ = linear
    expected = (score.weight * image)[0, 0]
    np.testing.assert_allclose(run('inputxgradient', score, image).map, expected, atol=1e-5)


@pytest.mark.parametrize('method', ['integratedgradients', 'deeplift', 'gradientshap', 'occlusion'])
def test_attributions_of_a_linear_score_are_weights_times_difference(linear, method):
    score, image, baseline = linear
    found = run(method, score, image, baseline)
    expected = (score.weight * (image - baseline))[0, 0]
    np.testing.assert_allclose(found.map, expected, atol=2e-5)
    assert found.baseline == 'given image'
    assert run(method, score, image, baseline, baseline_name='mean').baseline == 'mean'
    assert run(method, score, image).baseline == 'image of zeros'
    if found.completeness_error is not None:
        assert abs(found.completeness_error) < 1e-4


def test_occlusion_averages_the_cubes_over_a_voxel(linear):
    score, image, baseline = linear
    # At this spacing a cube has two voxels per axis and moves by one.
    assert WINDOW_MM == 2 * STRIDE_MM
    found = run('occlusion', score, image, baseline, make_grid(STRIDE_MM)).map
    drop = (score.weight * (image - baseline))[0, 0].numpy()
    total, count = np.zeros(SHAPE), np.zeros(SHAPE)
    for start in np.ndindex(*(size - 1 for size in SHAPE)):
        cube = tuple(slice(place, place + 2) for place in start)
        total[cube] += drop[cube].sum()
        count[cube] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-4)


def test_occlusion_leaves_out_what_equals_the_baseline(linear):
    score, image, _ = linear
    baseline = image.clone()
    assert not run('occlusion', score, image, baseline).map.any()
    baseline[..., 1:3, 1, 1] -= 1
    found = run('occlusion', score, image, baseline).map
    expected = np.zeros(SHAPE, np.float32)
    expected[1:3, 1, 1] = score.weight[0, 0, 1:3, 1, 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cubes_of_mere_background_are_not_asked_for(linear):
    weights, image, _ = linear
    asked = []

    class Counted(nn.Module):
        def forward(self, image):
            asked.append(len(image))
            return weights(image)

    image = torch.zeros_like(image)
    image[0, 0, 0, 0, 0] = image[0, 0, -1, -1, -1] = 1.0
    found = run('occlusion', Counted(), image, torch.zeros_like(image), make_grid(STRIDE_MM)).map
    # Of 24 cubes the first and the last hold something; the rest looks for gradients.
    assert found[0, 0, 0] != 0
    assert sum(asked) < 10


def test_gradients_of_a_curved_score_are_averaged_over_noise_and_path():
    class Cubic(nn.Module):
        def forward(self, image):
            return (image**3).flatten(1).sum(1)

    image = noise(2)
    x = image[0, 0].numpy()
    path = run('integratedgradients', Cubic(), image).map
    np.testing.assert_allclose(path, x**3, atol=1e-3)
    # The mean gradient under noise of variance s^2 is 3 (x^2 + s^2).
    spread = NOISE * (x.max() - x.min())
    smooth = run('smoothgrad', Cubic(), image).map
    error = np.abs(smooth - 3 * (x**2 + spread**2))
    assert error.mean() < 3 * 6 * np.abs(x).mean() * spread / SAMPLES**0.5
    assert np.abs(smooth - 3 * x**2).max() > 1e-3
    sampled = run('gradientshap', Cubic(), image).map
    # One random point of the path per sample, shared by all voxels: proportional to x^3.
    ratio = sampled / x**3
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)
    assert 0.4 < ratio.mean() < 1.8
    assert SAMPLES % BATCH == 0


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


class Branches(nn.Module):
    """Convolutions and ReLUs in sequence and side by side."""

    def __init__(self, inplace=False, shared=False, relu=None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.left, self.right = (
                nn.Conv3d(before, 3, 3, padding=1) for before in (1, 3, 3)
            )
        layers = [nn.ReLU(inplace) for _ in range(3)]
        self.layers = nn.ModuleList([layers[0]] * 3 if shared else layers)
        self.relu = relu

    def forward(self, image):
        one, two, three = self.layers if self.relu is None else [self.relu] * 3
        start = one(self.first(image))
        left, right = start + self.left(start), self.right(start)
        return (two(left) - three(right)).flatten(1).mean(1)


@pytest.mark.parametrize('method', ['guidedbackprop', 'deconvolution'])
@pytest.mark.parametrize('inplace', [False, True])
def test_gradients_of_relu_are_replaced(method, inplace, monkeypatch):
    monkeypatch.setattr(Rectifier, 'guided', method == 'guidedbackprop')
    image = noise(4).requires_grad_()
    reference = Branches(relu=Rectifier.apply)
    (expected,) = torch.autograd.grad(reference(image).sum(), image)
    found = run(method, Branches(inplace), image).map
    np.testing.assert_allclose(found, expected[0, 0], atol=1e-7)
    assert np.abs(found - run('gradient', Branches(), image).map).max() > 1e-4


def test_a_shared_relu_is_refused_only_where_captum_confuses_its_calls():
    image = noise(4)
    shared = run('guidedbackprop', Branches(shared=True), image).map
    np.testing.assert_array_equal(shared, run('guidedbackprop', Branches(), image).map)
    with pytest.raises(SaliencyUnsupported):
        run('deconvolution', Branches(shared=True), image)
    with pytest.raises(SaliencyUnsupported):
        run('deeplift', Branches(shared=True), image)


class Features(nn.Module):
    """Score sum_k v_k mean(ReLU(convolution_k(x)))."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.convolution = nn.Conv3d(1, 2, 3, padding=1)
        self.relu = nn.ReLU()
        self.register_buffer('v', torch.tensor([1.5, -0.5]))

    def features(self, image):
        return self.relu(self.convolution(image))

    def forward(self, image):
        return self.features(image).mean(dim=(2, 3, 4)) @ self.v


def test_grad_cam_weighs_the_features_by_their_mean_gradient():
    network, image = Features(), noise(6)
    with torch.no_grad():
        features = network.features(image)[0]
    weights = network.v / features[0].numel()
    expected = (weights[:, None, None, None] * features).sum(0).numpy()
    found = run('gradcam', network, image)
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert found.map.min() < 0 < found.map.max()
    guided = run('guidedbackprop', network, image).map
    both = run('guidedgradcam', network, image).map
    np.testing.assert_allclose(both, guided * expected.clip(min=0), atol=1e-7)


def test_grad_cam_of_an_ensemble_is_the_mean_of_its_members():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_classifier('ipmi2021', (16, 16, 16), members=2).eval()
    image = noise(6, (16, 16, 16))
    members = [run('gradcam', member, image).map for member in network.members]
    found = run('gradcam', network, image).map
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-7)
    assert np.abs(found - members[0] / 2).max() > 1e-6


def test_grad_cam_takes_the_layer_it_is_given():
    network, image = Features(), noise(6)
    with torch.no_grad():
        before = network.convolution(image)[0]
    mean_gradient = (before > 0).float().mean(dim=(1, 2, 3)) * network.v / before[0].numel()
    expected = (mean_gradient[:, None, None, None] * before).sum(0).numpy()
    found = run('gradcam', network, image, target_layer=network.convolution).map
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('architecture', ['robust', 'ipmi2021', 'sfcn'])
def test_grad_cam_looks_behind_the_last_normalisation(architecture):
    shape = (32, 32, 32)
    network = build_classifier(architecture, shape).eval()
    found = run('gradcam', network, noise(7, shape)).map
    # In front of a normalisation by its own mean the map would be zero.
    assert np.abs(found).max() > 1e-6
    assert found.shape == shape


@pytest.mark.parametrize('method', ['deeplift', 'guidedbackprop', 'gradcam', 'guidedgradcam'])
def test_a_registration_has_no_layers_with_rules(method):
    shape = (16, 16, 16)
    network = build_classifier('morphometric', shape).eval()
    with pytest.raises(SaliencyUnsupported):
        run(method, network, noise(7, shape))


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
    found = run('deeplift', network, image, baseline)
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
    found = run('deeplift', network, image, baseline)
    assert abs(found.completeness_error) < 1e-5 * np.abs(found.map).sum()


def test_the_sum_that_deep_lift_misses_behind_an_instance_normalisation_is_told():
    shape = (16, 16, 16)
    torch.manual_seed(0)
    network = build_classifier('robust', shape, channels=(4, 8)).eval()
    image, baseline = noise(10, shape), noise(11, shape)
    found = run('deeplift', network, image, baseline)
    with torch.no_grad():
        difference = (network(image) - network(baseline)).item()
    assert found.completeness_error == pytest.approx(found.map.sum() - difference, abs=1e-4)
    assert abs(found.completeness_error) > 1e-3


def test_a_network_without_relu_gets_no_plain_gradient_under_another_name():
    network = build_classifier('robust', (16, 16, 16), channels=(4, 8)).eval()
    for method in ('guidedbackprop', 'deconvolution', 'guidedgradcam'):
        with pytest.raises(SaliencyUnsupported):
            run(method, network, noise(1, (16, 16, 16)))


def test_activations_that_are_no_layers_are_found():
    image = noise(4)
    for method in ('guidedbackprop', 'deconvolution', 'guidedgradcam'):
        with pytest.raises(SaliencyUnsupported):
            run(method, Branches(relu=functional.relu), image)
    for step in (functional.relu, functional.gelu, functional.selu, torch.sin):
        with pytest.raises(SaliencyUnsupported):
            run('deeplift', Branches(relu=step), image)


def test_an_exported_program_gives_the_maps_that_need_no_layers():
    image = noise(6)
    example = image.repeat(2, 1, 1, 1, 1)
    batch = {'image': {0: torch.export.Dim('batch')}}
    program = torch.export.export(Features().eval(), (example,), dynamic_shapes=batch).module()
    np.testing.assert_allclose(
        run('gradient', program, image).map, run('gradient', Features(), image).map, atol=1e-7
    )
    reasons = {}
    for method in METHODS:
        try:
            run(method, program, image)
        except SaliencyUnsupported as error:
            reasons[method] = error.message
    assert set(reasons) == {
        'guidedbackprop', 'deconvolution', 'gradcam', 'guidedgradcam', 'deeplift'
    }  # fmt: skip


def test_a_score_without_gradient_can_only_be_occluded(linear):
    weights, image, _ = linear

    class Frozen(nn.Module):
        def forward(self, image):
            return weights(image.detach())

    with pytest.raises(SaliencyUnsupported):
        run('gradient', Frozen(), image)
    assert run('occlusion', Frozen(), image).map.any()


def test_wrong_questions_are_refused(linear):
    score, image, _ = linear
    with pytest.raises(ModelError):
        run('gradients', score, image)
    with pytest.raises(ModelError):
        run('gradient', score, image, grid=make_grid(shape=(4, 4, 4)))
    with pytest.raises(ModelError):
        run('gradient', nn.Flatten(), image)


class Broken(nn.Module):
    """A score whose gradient is the given number everywhere."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.slope * image.flatten(1).sum(1)


@pytest.mark.parametrize('slope', [0.0, 2.0, float('nan'), float('inf')])
def test_a_map_must_be_finite_and_not_the_same_everywhere(slope):
    with pytest.raises(SaliencyUnsupported):
        run('gradient', Broken(slope), noise(2))


def test_a_map_must_have_the_shape_of_the_image(monkeypatch):
    coarse = replace(METHODS['gradient'], run=lambda request: request.image[..., :2])
    monkeypatch.setitem(METHODS, 'gradient', coarse)
    with pytest.raises(SaliencyUnsupported):
        run('gradient', Linear(), noise(2))


def test_zeros_are_the_answer_only_where_the_image_is_its_own_baseline(linear):
    score, image, _ = linear
    assert not run('integratedgradients', score, image, image.clone()).map.any()
    with pytest.raises(SaliencyUnsupported):
        run('integratedgradients', Broken(0.0), image, image + 1)


def test_maps_of_several_images_lie_in_the_mask(linear):
    score, image, baseline = linear
    images = torch.cat([image, noise(4)])
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 1:, :2] = True
    found = saliency_values('inputxgradient', score, images, make_grid(), mask, baseline, 0)
    assert found.dtype == np.float32
    for values, one in zip(found, images, strict=True):
        np.testing.assert_allclose(values, (score.weight * one)[0, 0][mask], rtol=1e-5)
    with pytest.raises(SaliencyUnsupported):
        saliency_values('gradcam', score, images, make_grid(), mask, baseline, 0)


@pytest.mark.parametrize('method', ['smoothgrad', 'gradientshap'])
def test_random_methods_depend_on_the_seed_alone(method):
    network, image = Features(), noise(6)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    ours = torch.get_rng_state()
    first = run(method, network, image, seed=1).map
    torch.rand(3)
    np.testing.assert_array_equal(run(method, network, image, seed=1).map, first)
    assert np.abs(run(method, network, image, seed=2).map - first).max() > 0
    torch.set_rng_state(ours)
    run(method, network, image, seed=1)
    assert torch.equal(torch.get_rng_state(), ours)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_maps_of_folds_are_divided_by_their_class_gaps_and_averaged(tiny_bundle):
    image = tiny_bundle.mean_image + 0.1 * noise(1, tiny_bundle.grid.shape)
    maps, skipped = fold_mean_saliency(
        tiny_bundle, image, (0, 1), ['gradient', 'deconvolution', 'deeplift']
    )
    assert set(maps) == {'gradient', 'deeplift'}
    assert set(skipped) == {'deconvolution'}
    parts = []
    for fold in (0, 1):
        models = tiny_bundle.fold(fold)
        shown = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(FoldScore(models)(shown).sum(), shown)
        parts.append(gradient[0, 0].numpy() / models.class_gap)
    np.testing.assert_allclose(maps['gradient'].map, np.mean(parts, axis=0), atol=1e-6)
    assert maps['gradient'].grid.matches(tiny_bundle.grid)
    alone = fold_mean_saliency(tiny_bundle, image, (1,), ['gradient'])[0]['gradient']
    np.testing.assert_allclose(alone.map, parts[1], atol=1e-6)
    with pytest.raises(ModelError):
        fold_mean_saliency(tiny_bundle, image, (), ['gradient'])


def test_an_error_of_one_method_costs_only_its_map(tiny_bundle, monkeypatch):
    def fail(request):
        raise RuntimeError('out of memory\nand a long story')

    monkeypatch.setitem(METHODS, 'smoothgrad', replace(
        METHODS['smoothgrad'], run=fail
    ))  # fmt: skip
    maps, skipped = fold_mean_saliency(
        tiny_bundle, tiny_bundle.mean_image, (0,), ['smoothgrad', 'gradient']
    )
    assert set(maps) == {'gradient'}
    assert set(skipped) == {'smoothgrad'}
    assert 'RuntimeError: out of memory' in skipped['smoothgrad']
    assert 'story' not in skipped['smoothgrad']


def test_the_baseline_of_a_fold_is_the_mean_of_the_negative_class(tiny_bundle):
    maps, _ = fold_mean_saliency(tiny_bundle, tiny_bundle.mean_image, (0,), ['integratedgradients'])
    assert not maps['integratedgradients'].map.any()
    assert maps['integratedgradients'].completeness_error == 0
    assert maps['integratedgradients'].baseline == 'mean image of the class control'


def test_captum_is_loaded_only_for_a_map():
    code = (
        'import sys, bids_interp.saliency.maps, bids_interp.interfaces.saliency;'
        "print('captum' in sys.modules)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'False'
