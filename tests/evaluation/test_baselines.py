from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from torch import nn

from bids_interp.evaluation.baselines import (
    class_difference,
    exact_difference,
    morphometry_t_map,
    saliency_values,
)
from bids_interp.spatial import Grid

GRID = Grid((6, 6, 6), np.diag([4.0, 4.0, 4.0, 1.0]))
MASK = np.zeros(GRID.shape, bool)
MASK[1:5, 1:5, 1:5] = True


def test_the_t_map_is_welchs_and_its_sign_that_of_the_patients():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(9, 2, 3, 2))
    labels = np.array([0, 1, 0, 1, 1, 0, 1, 1, 1])
    maps[labels == 1, 0] += 3
    found = morphometry_t_map(maps, labels)
    wanted = ttest_ind(maps[labels == 1], maps[labels == 0], equal_var=False).statistic
    np.testing.assert_allclose(found, wanted)
    assert (found[0] > 0).all()
    assert morphometry_t_map(np.zeros((4, 1, 1, 1)), np.array([0, 0, 1, 1])).item() == 0


def test_the_class_difference_is_that_of_the_means():
    images = np.arange(4.0).reshape(4, 1, 1, 1)
    assert class_difference(images, np.array([1, 0, 0, 1])).item() == 0.0
    assert class_difference(images, np.array([0, 0, 1, 1])).item() == 2.0


def test_exact_volumes_of_patients_that_were_shrunk():
    """A pull-back by 10 % outwards shows structures a tenth shorter along each axis."""
    points = GRID.world_coordinates()
    outwards = 0.1 * (points - points.mean(axis=(1, 2, 3), keepdims=True))
    labels = np.array([0, 1, 0, 1, 1])
    fields = np.where(labels[:, None, None, None, None] == 1, outwards, 0.0).astype(np.float16)
    found = exact_difference(fields, labels, GRID, batch=2)
    np.testing.assert_allclose(found, -3 * np.log(1.1), atol=2e-3)


class Weighted(nn.Module):
    """A score whose gradient is known: the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(216, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(image.flatten(1))


def test_saliency_maps_lie_in_the_mask_and_reasons_are_kept():
    torch.manual_seed(0)
    network = Weighted().eval()
    images = torch.rand(2, 1, *GRID.shape)
    baseline = torch.zeros(1, 1, *GRID.shape)
    methods = ['gradient', 'inputxgradient', 'gradcam']
    values, skipped = saliency_values(methods, network, images, GRID, MASK, baseline, 0)
    weights = network.linear.weight.detach().numpy().reshape(GRID.shape)
    assert values['gradient'].shape == (2, MASK.sum())
    np.testing.assert_allclose(values['gradient'][1], weights[MASK], rtol=1e-5)
    product = weights[MASK] * images[1, 0].numpy()[MASK]
    np.testing.assert_allclose(values['inputxgradient'][1], product, rtol=1e-5)
    assert 'convolution' in skipped['gradcam']
    assert set(values) == {'gradient', 'inputxgradient'}


def test_a_method_that_breaks_costs_no_other(monkeypatch):
    from bids_interp.evaluation import baselines

    real = baselines.saliency_map

    def breaks(method, *rest, **named):
        if method == 'occlusion':
            raise RuntimeError('broken\nat length')
        return real(method, *rest, **named)

    monkeypatch.setattr(baselines, 'saliency_map', breaks)
    images = torch.rand(1, 1, *GRID.shape)
    methods = ['occlusion', 'gradient']
    values, skipped = saliency_values(methods, Weighted().eval(), images, GRID, MASK, images, 0)
    assert list(values) == ['gradient']
    assert list(skipped) == ['occlusion']
    assert skipped['occlusion'].endswith('RuntimeError: broken')
    with pytest.raises(ValueError, match='odd'):
        monkeypatch.setattr(
            baselines, 'saliency_map', lambda *a, **k: (_ for _ in ()).throw(ValueError('odd'))
        )
        saliency_values(['gradient'], Weighted(), images, GRID, MASK, images, 0)
