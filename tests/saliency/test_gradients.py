"""Maps from gradients, paths and occlusion, of scores that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.saliency.captum_methods import BATCH, NOISE, SAMPLES, STRIDE_MM, WINDOW_MM
from helpers.scores import SHAPE, make_grid, map_of, noise


@pytest.mark.parametrize('method', ['gradient', 'smoothgrad'])
def test_the_gradient_of_a_linear_score_is_its_weights(linear, method):
    score, image, _ = linear
    found = map_of(method, score, image)
    np.testing.assert_allclose(found.map, score.weight[0, 0], atol=1e-5)
    assert (found.kind, found.baseline) == ('gradient', '')
    assert found.map.dtype == np.float32


def test_input_times_gradient_of_a_linear_score(linear):
    score, image, _ = linear
    expected = (score.weight * image)[0, 0]
    np.testing.assert_allclose(map_of('inputxgradient', score, image).map, expected, atol=1e-5)


@pytest.mark.parametrize('method', ['integratedgradients', 'deeplift', 'gradientshap', 'occlusion'])
def test_attributions_of_a_linear_score_are_weights_times_difference(linear, method):
    score, image, baseline = linear
    found = map_of(method, score, image, baseline)
    expected = (score.weight * (image - baseline))[0, 0]
    np.testing.assert_allclose(found.map, expected, atol=2e-5)
    assert found.baseline == 'given image'
    assert map_of(method, score, image, baseline, baseline_name='mean').baseline == 'mean'
    assert map_of(method, score, image).baseline == 'image of zeros'
    if found.completeness_error is not None:
        assert abs(found.completeness_error) < 1e-4


def test_occlusion_averages_the_cubes_over_a_voxel(linear):
    score, image, baseline = linear
    # At this spacing a cube has two voxels per axis and moves by one.
    assert WINDOW_MM == 2 * STRIDE_MM
    found = map_of('occlusion', score, image, baseline, make_grid(STRIDE_MM)).map
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
    assert not map_of('occlusion', score, image, baseline).map.any()
    baseline[..., 1:3, 1, 1] -= 1
    found = map_of('occlusion', score, image, baseline).map
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
    found = map_of('occlusion', Counted(), image, torch.zeros_like(image), make_grid(STRIDE_MM)).map
    # Of 24 cubes the first and the last hold something; the rest looks for gradients.
    assert found[0, 0, 0] != 0
    assert sum(asked) < 10


def test_gradients_of_a_curved_score_are_averaged_over_noise_and_path():
    class Cubic(nn.Module):
        def forward(self, image):
            return (image**3).flatten(1).sum(1)

    image = noise(2)
    x = image[0, 0].numpy()
    path = map_of('integratedgradients', Cubic(), image).map
    np.testing.assert_allclose(path, x**3, atol=1e-3)
    # The mean gradient under noise of variance s^2 is 3 (x^2 + s^2).
    spread = NOISE * (x.max() - x.min())
    smooth = map_of('smoothgrad', Cubic(), image).map
    error = np.abs(smooth - 3 * (x**2 + spread**2))
    assert error.mean() < 3 * 6 * np.abs(x).mean() * spread / SAMPLES**0.5
    assert np.abs(smooth - 3 * x**2).max() > 1e-3
    sampled = map_of('gradientshap', Cubic(), image).map
    # One random point of the path per sample, shared by all voxels: proportional to x^3.
    ratio = sampled / x**3
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)
    assert 0.4 < ratio.mean() < 1.8
    assert SAMPLES % BATCH == 0
