from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.errors import UsageError
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.inject.planted_scan import load_change, plant_change, save_change
from bids_interp.phantom.inject.warps import draw_warp, fade, field_grid
from bids_interp.phantom.regions.coarse import CEREBRUM
from bids_interp.spatial import Grid, compose, exponential, log_jacobian

BRAIN = Grid(
    (50, 59, 48),
    np.array([[4.0, 0, 0, -98], [0, 4, 0, -134], [0, 0, 4, -72], [0, 0, 0, 1]]),
    'MNI152NLin2009aSym',
)
TURN = np.array([[0.98, -0.17, 0.05], [0.17, 0.98, 0.1], [-0.06, -0.09, 0.99]])


def native(linear: np.ndarray, shape: tuple[int, int, int]) -> Grid:
    """Grid of a scan whose middle lies in the middle of the brain."""
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = np.array([5, -12, 9]) - linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, 'T1w')


NATIVES = {
    'oblique': native(TURN @ np.diag([2.5, 2.5, 2.5]), (64, 72, 60)),
    'flipped': native(np.diag([-2.5, -2.5, 2.5]), (64, 72, 60)),
    'anisotropic, axes swapped': native(
        np.array([[0, 0, 2.0], [3.0, 0, 0], [0, -2.2, 0]]), (60, 66, 78)
    ),
}


@pytest.fixture(scope='module')
def atrophy():
    return fit_atrophy(field_grid(BRAIN, 3.0), {'hippocampus': -0.3, 'thalamus_left': -0.15})


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None]


def rms(array: np.ndarray) -> float:
    return float(np.sqrt((array.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize('name', NATIVES)
def test_native_truth_is_that_of_the_map_that_moved_the_image(atrophy, name):
    grid = NATIVES[name]
    to_template = np.eye(4)
    to_template[:3, :3] = np.diag([1.08, 0.95, 1.04]) @ TURN.T
    to_template[:3, 3] = [-3, 6, -8]
    made = draw_warp(atrophy, [3], patient=True, severity=1.2, anatomy_mm=0)
    # An image that holds a world coordinate is interpolated exactly: it tells where each voxel
    # was fetched from.
    mask = np.ones(grid.shape, np.float32)
    fetched = [
        plant_change(axis, grid, mask, grid, to_template, made, atrophy.grid)
        for axis in grid.world_coordinates()
    ]
    shift = np.stack([part.image for part in fetched]) - grid.world_coordinates()
    actual = log_jacobian(as_tensor(shift), grid)[0, 0].numpy()
    inner = (slice(6, -6),) * 3
    truth = fetched[0].truth
    assert truth.max() > 0.3
    assert rms((actual - truth)[inner]) < 0.05 * truth[inner].std()
    changed = truth > 0.1
    assert np.expm1(truth[changed]).mean() == pytest.approx(
        np.expm1(actual[changed]).mean(), rel=0.03
    )


def test_observed_controls_carry_the_change_in_their_own_anatomy(atrophy):
    grid = atrophy.grid
    made = draw_warp(atrophy, [1, 2], patient=False, severity=1.0)
    assert (made.direction, made.truth_severity) == ('inject', 1.0)
    own = as_tensor(made.pull_back)
    back = torch.zeros_like(own)
    for _ in range(30):  # inverse by fixed point: back(p) = -own(p + back(p))
        back = back - compose(back, own, grid)
    forward = exponential(as_tensor(atrophy.velocity), grid)
    direct = log_jacobian(compose(compose(own, forward, grid), back, grid), grid)[0, 0].numpy()
    inner = (slice(10, -10),) * 3
    assert rms((direct - made.truth)[inner]) < 5e-3
    assert made.truth.min() < -0.25


def test_sham_moves_as_far_as_the_change_and_changes_no_volume(atrophy):
    moves, brain = {}, (slice(10, -10),) * 3
    for patient in (True, False):
        made = draw_warp(atrophy, [5], patient, 1.0, anatomy_mm=0)
        moves[patient] = made.pull_back
    assert rms(moves[False]) == pytest.approx(rms(moves[True]), rel=0.15)
    change = log_jacobian(as_tensor(moves[False]), atrophy.grid)[0, 0].numpy()
    assert abs(change[brain].mean()) < 1e-4
    assert rms(change) < 0.15 * rms(atrophy.log_jacobian())


def test_warps_come_from_the_seed_and_a_null_has_no_truth(atrophy):
    first, again, other = (
        draw_warp(atrophy, seed, patient=True, severity=0.8) for seed in ([1], [1], [2])
    )
    np.testing.assert_array_equal(first.pull_back, again.pull_back)
    assert not np.allclose(first.pull_back, other.pull_back)
    null = draw_warp(atrophy, [1], patient=True, severity=0.8, null=True)
    control = draw_warp(atrophy, [1], patient=False, severity=0.8)
    assert null.truth is None
    np.testing.assert_array_equal(null.pull_back, control.pull_back)


def test_warps_fade_to_nothing_before_the_grid_ends(atrophy):
    made = draw_warp(atrophy, [4], patient=True, severity=1.0, scaling=1.05)
    length = np.linalg.norm(made.pull_back, axis=0)
    faces = [np.take(length, (0, -1), axis=axis).max() for axis in range(3)]
    assert max(faces) < 0.05
    assert length.max() > 2
    window = fade(atrophy.grid)
    assert window[20, 20, 20] == 1
    assert window[0].max() == 0


def test_change_of_the_cortex_fades_too_and_a_deep_one_leaves_the_skull_alone(atrophy):
    cortex = fit_atrophy(field_grid(BRAIN, 5.0), {'frontal_ribbon': -0.15}, 'shell')
    length = np.linalg.norm(draw_warp(cortex, [1], True, 1.0, anatomy_mm=0).pull_back, axis=0)
    assert length.max() > 1
    assert max(np.take(length, (0, -1), axis=axis).max() for axis in range(3)) == 0
    deep = np.linalg.norm(draw_warp(atrophy, [1], True, 1.0, anatomy_mm=0).pull_back, axis=0)
    outside = CEREBRUM.distance(atrophy.grid.world_coordinates()) > 15
    outside &= atrophy.grid.world_coordinates()[2] > -30
    assert deep[outside].max() < 0.3
    assert deep[~outside].max() > 1


def test_scaling_makes_the_head_longer(atrophy):
    made = draw_warp(atrophy, [4], patient=True, severity=1e-3, anatomy_mm=0, scaling=1.05)
    volume = log_jacobian(as_tensor(made.pull_back), atrophy.grid)[0, 0].numpy()
    middle = tuple(slice(size // 2 - 5, size // 2 + 5) for size in atrophy.grid.shape)
    assert volume[middle].mean() == pytest.approx(-3 * np.log(1.05), rel=0.02)


def test_confound_changes_intensities_and_leaves_the_background(atrophy):
    grid = NATIVES['flipped']
    mask = np.zeros(grid.shape, np.float32)
    mask[20:40, 20:50, 20:40] = 1
    image = mask * np.random.default_rng(0).uniform(400, 800, grid.shape).astype(np.float32)
    made = draw_warp(atrophy, [1], patient=False, severity=1.0)
    plain, changed = (
        plant_change(image, grid, mask, grid, np.eye(4), made, atrophy.grid, confound=confound)
        for confound in (False, True)
    )
    assert not changed.image[plain.image == 0].any()
    inside = plain.brain_mask > 0
    ratio = changed.image[inside] / plain.image[inside]
    assert ratio.std() > 0.03
    np.testing.assert_array_equal(plain.truth, changed.truth)


def test_plan_survives_the_file(atrophy, tmp_path):
    for name in ('a', 'b'):
        save_change(tmp_path / f'{name}.npz', atrophy)
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()
    kept = load_change(tmp_path / 'a.npz')
    assert kept.grid.matches(atrophy.grid)
    assert (kept.changes, kept.absorb, kept.rmse) == (atrophy.changes, atrophy.absorb, atrophy.rmse)
    np.testing.assert_array_equal(kept.velocity, atrophy.velocity)


def test_warps_that_always_fold_are_refused(atrophy):
    with pytest.raises(UsageError, match=r'\b40\.00 '):
        draw_warp(atrophy, [1], patient=True, severity=40.0)


def test_regions_given_as_arrays_are_met_exactly():
    grid = field_grid(BRAIN, 4.0)
    x, y, z = grid.world_coordinates()
    masks = {
        'left part': (((x + 30) ** 2 + (y + 20) ** 2 + z**2) < 14**2).astype(np.float32),
        'sponge': (((x - 25) ** 2 + (y + 20) ** 2 + z**2) < 20**2).astype(np.float32),
    }
    field = fit_atrophy(grid, {'left part': -0.2}, 'sponge', masks=masks)
    truth = np.expm1(field.log_jacobian().astype(np.float64))
    assert field.rmse < 1e-3
    assert truth[masks['left part'] > 0].mean() == pytest.approx(-0.2, abs=1e-3)
    assert truth[masks['sponge'] > 0].mean() > 0.02
    with pytest.raises(UsageError, match='sponge.* sponge'):
        fit_atrophy(grid, {'sponge': -0.2}, 'sponge', masks=masks)
    with pytest.raises(UsageError, match='^nil '):
        fit_atrophy(grid, {'nil': -0.2}, masks={'nil': np.zeros(grid.shape, np.float32)})
