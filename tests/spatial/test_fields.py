"""Warps, exponentials and Jacobians against fields whose result is known on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bids_interp.spatial import (
    Grid,
    compose,
    count_folded,
    digital_folding_volume,
    exponential,
    flow_log_jacobian,
    jacobian_determinant,
    log_jacobian,
    refine_velocity,
    resample,
    smooth,
    warp,
)
from helpers.grids import GRIDS, centred


def world(grid: Grid) -> torch.Tensor:
    return torch.from_numpy(grid.world_coordinates())[None]


def blob(points: torch.Tensor, centre: tuple[float, float, float], sigma: float) -> torch.Tensor:
    away = points - torch.tensor(centre).view(1, 3, 1, 1, 1)
    return torch.exp(-0.5 * away.square().sum(dim=1, keepdim=True) / sigma**2)


def growing(grid: Grid, rate: float, sigma: float = 12.0) -> torch.Tensor:
    """Velocity that expands (rate > 0) around the origin and fades out."""
    points = world(grid)
    return rate * points * blob(points, (0, 0, 0), sigma)


def central(data: torch.Tensor) -> torch.Tensor:
    """The inner half of a volume, where nothing comes in from outside."""
    return data[..., 8:-8, 8:-8, 8:-8]


@pytest.mark.parametrize('name', GRIDS)
def test_linear_velocity_has_the_matrix_exponential(name: str):
    grid = GRIDS[name]
    matrix = torch.tensor([[0.05, 0.02, 0.0], [-0.02, -0.04, 0.01], [0.0, 0.0, 0.03]])
    velocity = torch.einsum('ij,bjxyz->bixyz', matrix, world(grid))
    wanted = torch.einsum(
        'ij,bjxyz->bixyz', torch.linalg.matrix_exp(matrix) - torch.eye(3), world(grid)
    )
    displacement = exponential(velocity, grid)
    assert (central(displacement) - central(wanted)).abs().max() < 2e-3
    # log det exp(A) = trace A, and the sign says growth.
    assert (central(log_jacobian(displacement, grid)) - matrix.trace()).abs().max() < 2e-3
    assert (central(flow_log_jacobian(velocity, grid)) - matrix.trace()).abs().max() < 2e-3


@pytest.mark.parametrize('name', GRIDS)
@pytest.mark.parametrize('rate', [0.3, -0.3])
def test_sign_of_log_jacobian_and_of_the_image(name: str, rate: float):
    """A structure that grows has a positive log-Jacobian, and is larger in the moved image."""
    grid = GRIDS[name]
    velocity = growing(grid, rate)
    middle = tuple(size // 2 for size in grid.shape)
    at_centre = log_jacobian(exponential(velocity, grid), grid)[(0, 0, *middle)]
    assert at_centre * np.sign(rate) > 0.5 * abs(rate)
    image = blob(world(grid), (0, 0, 0), 5.0)
    moved = warp(image, exponential(-velocity, grid), grid)
    assert np.sign(float(moved.sum() - image.sum())) == np.sign(rate)


@pytest.mark.parametrize('name', GRIDS)
def test_both_log_jacobians_agree(name: str):
    grid = GRIDS[name]
    velocity = growing(grid, 0.25)
    difference = log_jacobian(exponential(velocity, grid), grid) - flow_log_jacobian(velocity, grid)
    assert difference.abs().max() < 0.02


@pytest.mark.parametrize('name', GRIDS)
def test_inverse_and_composition(name: str):
    grid = GRIDS[name]
    velocity = growing(grid, 0.2)
    there, back = exponential(velocity, grid), exponential(-velocity, grid)
    assert compose(there, back, grid).abs().max() < 0.05
    half = exponential(velocity / 2, grid)
    assert (compose(half, half, grid) - there).abs().max() < 0.02


@pytest.mark.parametrize('name', GRIDS)
def test_tissue_moves_to_where_the_forward_map_says(name: str):
    grid = GRIDS[name]
    velocity = torch.zeros(1, 3, *grid.shape)
    velocity[:, 0] = 4.0  # to the right of the subject
    image = blob(world(grid), (-2, 3, 1), 4.0)
    moved = warp(image, exponential(-velocity, grid), grid)
    where = (moved * world(grid)).sum(dim=(2, 3, 4)) / moved.sum()
    np.testing.assert_allclose(where[0].numpy(), [2, 3, 1], atol=0.1)


@pytest.mark.parametrize('name', GRIDS)
def test_dose_is_a_one_parameter_path(name: str):
    grid = GRIDS[name]
    velocity = growing(grid, 0.3)
    assert exponential(0 * velocity, grid).abs().max() == 0
    lengths = [float(exponential(d * velocity, grid).norm()) for d in (0.25, 0.5, 1.0)]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize('name', [name for name in GRIDS if name != 'isotropic'])
def test_native_space_agrees_with_template_space(name: str):
    """Velocity carried through an affine: same log-Jacobian at corresponding points."""
    template = centred((48, 48, 48), np.diag([2.0, 2.0, 2.0]))
    native = GRIDS[name]
    native_to_template = np.array(
        [[1.05, 0.06, 0.0, 3.0], [-0.05, 0.95, 0.08, -2.0], [0.02, -0.1, 1.1, 1.0], [0, 0, 0, 1]]
    )
    velocity = growing(template, 0.4, sigma=9.0)
    log_template = log_jacobian(exponential(velocity, template), template)
    carried = refine_velocity(velocity[0].numpy(), template, native, native_to_template)
    displacement = exponential(carried, native)
    wanted = resample(log_template, template, native, native_to_template)
    assert (log_jacobian(displacement, native) - wanted)[..., 3:-3, 3:-3, 3:-3].abs().max() < 0.04

    # The points themselves: A exp(v')(p) = exp(v)(A p).
    affine = torch.tensor(native_to_template, dtype=torch.float32)
    ends = world(native) + displacement
    mapped = torch.einsum('ij,bjxyz->bixyz', affine[:3, :3], ends)
    moved = resample(exponential(velocity, template), template, native, native_to_template)
    direct = torch.einsum('ij,bjxyz->bixyz', affine[:3, :3], world(native)) + moved
    assert (mapped - direct)[..., 6:-6, 6:-6, 6:-6].abs().max() < 0.1


def test_refinement_is_smooth():
    """Splines leave no facets: the fine log-Jacobian follows the analytic one."""
    coarse = centred((17, 17, 17), np.diag([8.0, 8.0, 8.0]))
    fine = centred((65, 65, 65), np.diag([2.0, 2.0, 2.0]))
    velocity = growing(coarse, 0.15, sigma=20.0)[0].numpy()
    refined = refine_velocity(velocity, coarse, fine)
    assert (refined - growing(fine, 0.15, sigma=20.0)).abs().max() < 0.03
    divergence = log_jacobian(exponential(refined * 1e-3, fine), fine)
    wanted = log_jacobian(exponential(growing(fine, 0.15, sigma=20.0) * 1e-3, fine), fine)
    assert (divergence - wanted).abs().max() < 1e-5


@pytest.mark.parametrize('name', GRIDS)
def test_resampling_keeps_places(name: str):
    grid, target = GRIDS[name], centred((50, 52, 54), np.diag([1.6, 1.6, 1.6]))
    image = blob(world(grid), (6, -5, 3), 6.0)
    moved = resample(image, grid, target)
    where = (moved * world(target)).sum(dim=(2, 3, 4)) / moved.sum()
    np.testing.assert_allclose(where[0].numpy(), [6, -5, 3], atol=0.1)


@pytest.mark.parametrize('name', GRIDS)
def test_resampling_through_a_warp_equals_warping_the_result(name: str):
    grid, target = GRIDS[name], centred((40, 40, 40), np.diag([2.0, 2.0, 2.0]))
    image = blob(world(grid), (6, -5, 3), 7.0)
    velocity = growing(target, 0.2)
    pull_back = exponential(-velocity, target)
    at_once = resample(image, grid, target, displacement=pull_back)
    in_turn = warp(resample(image, grid, target), pull_back, target)
    assert (at_once - in_turn).abs().max() < 0.05


def test_interpolation_on_several_cores_is_the_same(monkeypatch):
    grid = centred((41, 40, 39), np.diag([2.0, 2.0, 2.0]))
    image = blob(world(grid), (6, -5, 3), 7.0)
    pull_back = exponential(-growing(grid, 0.2), grid)
    alone = warp(image, pull_back, grid)
    monkeypatch.setattr('bids_interp.spatial.fields.LARGE', 0)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    with torch.no_grad():
        assert torch.equal(warp(image, pull_back, grid), alone)


def test_antialiasing_keeps_the_mean_of_noise():
    fine = centred((48, 48, 48), np.diag([1.0, 1.0, 1.0]))
    coarse = centred((12, 12, 12), np.diag([4.0, 4.0, 4.0]))
    noise = torch.randn(1, 1, *fine.shape, generator=torch.Generator().manual_seed(0))
    plain = resample(noise, fine, coarse)[..., 2:-2, 2:-2, 2:-2].std()
    smoothed = resample(noise, fine, coarse, antialias=True)[..., 2:-2, 2:-2, 2:-2].std()
    assert smoothed < 0.5 * plain


def test_smoothing_has_the_width_asked_for():
    grid = centred((41, 41, 41), np.diag([2.0, 1.0, 1.5]))
    peak = torch.zeros(1, 1, *grid.shape)
    peak[0, 0, 20, 20, 20] = 1.0
    result = smooth(peak, 3.0, grid)
    spread = (result * world(grid).square()).sum(dim=(2, 3, 4)).sqrt()
    np.testing.assert_allclose(spread[0].numpy(), 3.0, rtol=0.06)
    assert float(result.sum()) == pytest.approx(1.0, abs=1e-4)
    assert smooth(peak, 0.0, grid) is peak


def test_folding_is_counted():
    grid = centred((24, 24, 24), np.diag([2.0, 2.0, 2.0]))
    mirror = torch.zeros(1, 3, *grid.shape)
    mirror[:, 0] = -2 * world(grid)[:, 0]  # x -> -x turns everything inside out
    assert count_folded(mirror, grid) == math.prod(grid.shape)
    assert digital_folding_volume(mirror, grid) == pytest.approx(22**3 * grid.voxel_volume)
    calm = growing(grid, 0.05)
    assert count_folded(calm, grid) == 0
    assert digital_folding_volume(calm, grid) == 0
    mask = torch.zeros(1, 1, *grid.shape, dtype=torch.bool)
    mask[..., :2, 0, 0] = True
    assert count_folded(mirror, grid, mask) == 2


def test_determinant_of_a_scaling():
    grid = GRIDS['oblique']
    displacement = 0.1 * world(grid)
    torch.testing.assert_close(
        jacobian_determinant(displacement, grid),
        torch.full((1, 1, *grid.shape), 1.1**3),
        atol=2e-4,
        rtol=0,
    )


@pytest.mark.parametrize('thin', range(3))
def test_a_plane_has_the_warps_and_areas_of_two_dimensions(thin: int):
    """A volume of one slice: known displacements move, scale and fold within the plane."""
    shape = [24, 24, 24]
    shape[thin] = 1
    grid = centred(tuple(shape), np.diag([2.0, 3.0, 4.0]))
    points = world(grid)
    displacement = 0.1 * points
    displacement[:, thin] = 0
    determinant = jacobian_determinant(displacement, grid)
    torch.testing.assert_close(determinant, torch.full((1, 1, *shape), 1.1**2), atol=2e-4, rtol=0)
    assert digital_folding_volume(displacement, grid) == 0
    along = (thin + 1) % 3
    shift = torch.zeros_like(points)
    shift[:, along] = float(grid.spacing[along])
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    moved = warp(image, shift, grid).narrow(2 + along, 0, 23)
    torch.testing.assert_close(moved, image.narrow(2 + along, 1, 23), atol=1e-5, rtol=0)
    mirror = torch.zeros_like(points)
    mirror[:, along] = -2 * points[:, along]
    assert count_folded(mirror, grid) == 24 * 24
    folded = digital_folding_volume(mirror, grid)
    assert folded == pytest.approx(22 * 22 * grid.voxel_volume)


def test_velocity_that_is_no_number_is_refused():
    grid = GRIDS['isotropic']
    with pytest.raises(ValueError, match='finite'):
        exponential(torch.full((1, 3, *grid.shape), float('nan')), grid)


@pytest.mark.parametrize('name', GRIDS)
def test_a_warp_and_an_affine_are_resampled_at_once(name: str):
    """The displacement lives in the world of the target, the image behind an affine."""
    grid, target = GRIDS[name], centred((40, 40, 40), np.diag([2.0, 2.0, 2.0]))
    between = np.array(
        [[0.0, -1.1, 0.1, 2.0], [0.9, 0.0, 0.0, -1.0], [0.0, 0.1, 1.0, 1.0], [0, 0, 0, 1]]
    )
    image = blob(world(grid), (4, -3, 2), 7.0)
    pull_back = exponential(-growing(target, 0.3), target)
    at_once = resample(image, grid, target, between, displacement=pull_back)
    in_turn = warp(resample(image, grid, target, between), pull_back, target)
    assert (at_once - in_turn).abs().max() < 0.05


def test_smoothing_keeps_an_axis_of_one_voxel() -> None:
    grid = Grid((9, 8, 1), np.diag([2.0, 2.0, 2.0, 1.0]))
    data = torch.rand(1, 1, 9, 8, 1)
    thick = smooth(data.expand(-1, -1, -1, -1, 31), 3.0, Grid((9, 8, 31), grid.affine))
    torch.testing.assert_close(
        smooth(data, 3.0, grid)[..., 0], thick[..., 15], atol=1e-5, rtol=1e-4
    )
