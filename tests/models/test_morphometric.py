"""The registration that measures volumes: signs, sizes, what must not matter, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.models.networks import morphometric
from bids_interp.models.networks.morphometric import (
    REGISTRATIONS,
    MorphometricClassifier,
    VolumeMeasure,
    half_shape,
)
from bids_interp.models.networks.registry import build_classifier
from bids_interp.spatial import Grid, exponential, jacobian_determinant, smooth, warp

GRID = Grid((32, 36, 28), np.diag([-4.0, 4.0, 4.0, 1.0]))


def textured(grid: Grid = GRID, seed: int = 4) -> torch.Tensor:
    """An image with something to be seen everywhere, 0 outside of an ellipsoid."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, *grid.shape, generator=generator)
    texture = smooth(noise, 6.0, grid)
    points = torch.from_numpy(grid.world_coordinates())[None].float()
    centre = points.mean(dim=(2, 3, 4), keepdim=True)
    extent = torch.tensor(grid.shape).view(1, 3, 1, 1, 1) * float(grid.spacing[0]) / 2
    inside = ((points - centre) / extent).square().sum(dim=1, keepdim=True) < 0.8
    return (0.7 + 0.15 * texture / texture.std()).clamp_min(0) * inside


def swelling(grid: Grid = GRID, share: float = 0.5, radius_mm: float = 24.0) -> torch.Tensor:
    """Displacement (1, 3, X, Y, Z) mm by which the middle grows and its neighbourhood gives way."""
    points = torch.from_numpy(grid.world_coordinates())[None].float()
    away = points - points.mean(dim=(2, 3, 4), keepdim=True)
    near = torch.exp(-0.5 * away.square().sum(dim=1, keepdim=True) / (radius_mm / 2) ** 2)
    return exponential(share * away * near, grid)


def measured(
    image: torch.Tensor, mean: torch.Tensor, registration: str = 'elastic'
) -> torch.Tensor:
    volumes = VolumeMeasure(tuple(image.shape[2:]), registration).eval()
    volumes.mean.copy_(mean)
    with torch.no_grad():
        return volumes(image)


def middle(maps: torch.Tensor) -> float:
    sizes = [size // 2 for size in maps.shape[2:]]
    return float(maps[0, 0][tuple(slice(size - 1, size + 1) for size in sizes)].mean())


@pytest.mark.parametrize('registration', REGISTRATIONS)
@pytest.mark.parametrize('share', [0.08, -0.08])
def test_what_is_larger_in_the_image_is_positive(share: float, registration: str) -> None:
    mean = textured()
    image = warp(mean, swelling(share=-share), GRID)
    found = measured(image, mean, registration)
    assert found.shape == (1, 1, *half_shape(GRID.shape))
    # The exact volumes at the places of the mean image.
    exact = jacobian_determinant(swelling(share=share), GRID).log()
    exact = torch.nn.functional.avg_pool3d(exact, 2)
    assert np.sign(middle(found)) == np.sign(share)
    assert abs(middle(found)) > 0.5 * abs(middle(exact))
    inner = (0, 0, slice(4, -4), slice(4, -4), slice(4, -4))
    assert np.corrcoef(found[inner].ravel(), exact[inner].ravel())[0, 1] > 0.7


def test_an_image_like_the_mean_has_its_volumes() -> None:
    assert measured(textured(), textured()).abs().max() < 1e-4


@pytest.mark.parametrize('shape', [(32, 36, 28), (31, 33, 27), (20, 41, 24)])
def test_any_size_will_do(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    mean = textured(grid)
    found = measured(warp(mean, swelling(grid, -0.08, 16.0), grid), mean)
    assert found.shape[2:] == half_shape(shape)
    assert middle(found) > 0.02


def _whole_contrast(data: torch.Tensor, sigma: float) -> torch.Tensor:
    """Contrast without local means and deviations."""
    return (data - data.mean()) / data.std()


def test_brightness_and_a_smooth_bias_hardly_matter(monkeypatch) -> None:
    mean = textured()
    image = warp(mean, swelling(share=-0.16), GRID)
    knots = torch.randn(1, 1, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    bias = torch.nn.functional.interpolate(knots, GRID.shape, mode='trilinear', align_corners=True)
    brighter = 1.1 * image * (1 + 0.05 * bias)
    moved = (measured(brighter, mean) - measured(image, mean)).std()
    monkeypatch.setattr(morphometric, 'local_contrast', _whole_contrast)
    assert moved < 0.6 * (measured(brighter, mean) - measured(image, mean)).std()


def test_gradients_see_through_the_registration() -> None:
    """The derivative along a deformation is what the deformation does to the answer."""
    mean = textured()
    classifier = MorphometricClassifier(GRID.shape).eval()
    classifier.volumes.mean.copy_(mean)
    with torch.no_grad():
        weights = torch.zeros(half_shape(GRID.shape))
        weights[6:10, 7:11, 5:9] = 1 / 64
        classifier.head.weight.copy_(weights.flatten()[None])
    other = warp(textured(), swelling(share=0.02), GRID)

    def answer(amount: torch.Tensor) -> torch.Tensor:
        return classifier(warp(other, -amount * swelling(share=0.08), GRID))[0, 0]

    amount = torch.zeros((), requires_grad=True)
    (slope,) = torch.autograd.grad(answer(amount), amount)
    with torch.no_grad():
        step = torch.tensor(0.02)
        difference = (answer(step) - answer(-step)) / (2 * step)
    assert slope > 0.03
    assert float(slope) == pytest.approx(float(difference), rel=0.15)


def test_half_precision_is_left_alone() -> None:
    mean = textured()
    image = warp(mean, swelling(share=-0.08), GRID)
    plain = measured(image, mean)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(measured(image, mean), plain)


def test_a_displacement_found_at_half_the_resolution_is_twice_as_long(monkeypatch) -> None:
    """An image shifted by two voxels is one voxel off where voxels are twice as large."""
    only_coarse = REGISTRATIONS['viscous']._replace(steps=(40, 0))
    monkeypatch.setitem(REGISTRATIONS, 'viscous', only_coarse)
    mean = textured()
    volumes = VolumeMeasure(GRID.shape, 'viscous')
    volumes.mean.copy_(mean)
    with torch.no_grad():
        found = volumes.register(torch.roll(mean, 2, dims=2))
    middle = found[0, :, 10:-10, 10:-10, 8:-8].flatten(1).median(dim=1).values
    np.testing.assert_allclose(middle.numpy(), [2.0, 0.0, 0.0], atol=0.5)


def test_a_classifier_without_a_registration_measures_as_version_0_1_0_did() -> None:
    """Bundles of that version do not name their registration; the numbers are its own."""
    mean = textured()
    image = warp(0.5 * textured(seed=5) + 0.5 * mean, swelling(share=-0.16), GRID)
    old = build_classifier('morphometric', GRID.shape).volumes
    old.mean.copy_(mean)
    with torch.no_grad():
        found = old(image)
    np.testing.assert_allclose(
        found[0, 0, 6:10, 8, 7].numpy(), [0.28591, -0.20169, -0.01208, 0.29220], atol=1e-3
    )
    new = build_classifier('morphometric', GRID.shape, registration='elastic').volumes
    new.mean.copy_(mean)
    with torch.no_grad():
        assert (new(image) - found).abs().max() > 0.05


def test_elasticity_keeps_other_anatomy_from_leading_the_steps_astray(monkeypatch) -> None:
    """A change in an image whose texture is only half that of the mean image."""
    mean = textured()
    other = 0.5 * textured(seed=5) + 0.5 * mean
    change = swelling(share=-0.08)
    exact = torch.nn.functional.avg_pool3d(
        jacobian_determinant(swelling(share=0.08), GRID).log(), 2
    )
    inner = (0, 0, slice(4, -4), slice(4, -4), slice(4, -4))
    settings = REGISTRATIONS['elastic']
    monkeypatch.setitem(REGISTRATIONS, 'fluid', settings._replace(elastic_sigma=0.0))
    scores = {}
    for registration in ('elastic', 'fluid'):
        found = measured(warp(other, change, GRID), mean, registration)
        found = found - measured(other, mean, registration)
        scores[registration] = np.corrcoef(found[inner].ravel(), exact[inner].ravel())[0, 1]
    assert scores['elastic'] > scores['fluid'] + 0.03
