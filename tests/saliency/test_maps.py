"""What every saliency map has, what is refused, and the mean over folds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import ModelError
from bids_interp.saliency.captum_methods import SaliencyUnsupported
from bids_interp.saliency.maps import FoldScore, fold_mean_saliency, saliency_values
from bids_interp.saliency.table import METHODS
from helpers.scores import SHAPE, Features, Linear, make_grid, map_of, noise


def test_methods_are_those_of_the_settings():
    assert tuple(METHODS) == SALIENCY_METHODS


def test_a_score_without_gradient_can_only_be_occluded(linear):
    weights, image, _ = linear

    class Frozen(nn.Module):
        def forward(self, image):
            return weights(image.detach())

    with pytest.raises(SaliencyUnsupported):
        map_of('gradient', Frozen(), image)
    assert map_of('occlusion', Frozen(), image).map.any()


def test_wrong_questions_are_refused(linear):
    score, image, _ = linear
    with pytest.raises(ModelError):
        map_of('gradients', score, image)
    with pytest.raises(ModelError):
        map_of('gradient', score, image, grid=make_grid(shape=(4, 4, 4)))
    with pytest.raises(ModelError):
        map_of('gradient', nn.Flatten(), image)


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
        map_of('gradient', Broken(slope), noise(2))


def test_a_map_must_have_the_shape_of_the_image(monkeypatch):
    coarse = replace(METHODS['gradient'], run=lambda request: request.image[..., :2])
    monkeypatch.setitem(METHODS, 'gradient', coarse)
    with pytest.raises(SaliencyUnsupported):
        map_of('gradient', Linear(), noise(2))


def test_zeros_are_the_answer_only_where_the_image_is_its_own_baseline(linear):
    score, image, _ = linear
    assert not map_of('integratedgradients', score, image, image.clone()).map.any()
    with pytest.raises(SaliencyUnsupported):
        map_of('integratedgradients', Broken(0.0), image, image + 1)


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
    first = map_of(method, network, image, seed=1).map
    torch.rand(3)
    np.testing.assert_array_equal(map_of(method, network, image, seed=1).map, first)
    assert np.abs(map_of(method, network, image, seed=2).map - first).max() > 0
    torch.set_rng_state(ours)
    map_of(method, network, image, seed=1)
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
