from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bids_interp.errors import ImageError, ModelError
from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.explain.counterfactuals import counterfactual_metrics
from bids_interp.models.explain.explainer import (
    apply_field,
    classify,
    dose_response,
    explain,
    prepare_input,
    realise,
    simulate,
)
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.spatial import Grid, percent_change


@pytest.fixture(scope='module')
def brain(template_brain) -> tuple[np.ndarray, Grid]:
    step = 4
    affine = template_brain.affine @ np.diag([step, step, step, 1.0])
    data = np.asarray(template_brain.dataobj)[::step, ::step, ::step]
    return data, Grid(data.shape, affine, 'MNI152NLin2009aSym')


@pytest.fixture(scope='module')
def model_input(brain, tiny_bundle: ModelBundle) -> torch.Tensor:
    data, grid = brain
    return prepare_input(data, grid, np.eye(4), tiny_bundle)


def test_input_does_not_depend_on_the_orientation_of_the_scan(brain, tiny_bundle, model_input):
    data, grid = brain
    flipped = np.ascontiguousarray(data[::-1].transpose(1, 2, 0))
    turn = np.zeros((4, 4))
    turn[0, 2], turn[0, 3] = -1, data.shape[0] - 1
    turn[1, 0] = turn[2, 1] = turn[3, 3] = 1
    other = Grid(flipped.shape, grid.affine @ turn, 'T1w')
    assert tuple(np.sign(np.diag(other.affine[:3, [2, 0, 1]]))) == (-1, 1, 1)
    again = prepare_input(flipped, other, np.eye(4), tiny_bundle)
    torch.testing.assert_close(again, model_input, atol=2e-5, rtol=0)


def test_input_follows_the_affine(brain, tiny_bundle, model_input):
    data, grid = brain
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler('z', 15, degrees=True).as_matrix()
    moved[:3, 3] = 5, -3, 8
    elsewhere = Grid(grid.shape, moved @ grid.affine, 'T1w')
    again = prepare_input(data, elsewhere, np.linalg.inv(moved), tiny_bundle)
    torch.testing.assert_close(again, model_input, atol=1e-4, rtol=0)


def test_intensities_are_normalised(brain, tiny_bundle, model_input):
    data, grid = brain
    brighter = prepare_input(37.0 * data, grid, np.eye(4), tiny_bundle)
    torch.testing.assert_close(brighter, model_input, atol=1e-4, rtol=0)
    scored = Preprocessing('zscore').normalise(model_input)
    assert abs(float(scored[scored != 0].mean())) < 0.02
    with pytest.raises(ImageError):
        prepare_input(np.zeros_like(data), grid, np.eye(4), tiny_bundle)


def test_every_fold_predicts(tiny_bundle, model_input):
    predictions = classify(tiny_bundle, model_input, (0, 1))
    assert [p.fold for p in predictions] == [0, 1]
    for p in predictions:
        fold = tiny_bundle.config.folds[p.fold]
        wanted = 1 / (1 + np.exp(-(p.logit / fold.temperature + fold.intercept)))
        assert p.probability == pytest.approx(wanted, abs=1e-5)
        assert abs(p.probability - 1 / (1 + np.exp(-p.logit * fold.temperature))) > 1e-3
    with pytest.raises(ModelError, match='fold'):
        classify(tiny_bundle, model_input, ())


def test_dose_response_starts_at_the_observed_image(tiny_bundle, model_input):
    simulation = simulate(tiny_bundle, model_input, (0, 1))
    rows = dose_response(tiny_bundle, model_input, simulation, (0.5, 1.0))
    assert len(rows) == 2 * (1 + 2 * 2)
    start = [row for row in rows if row.direction == 'none']
    assert all(abs(row.shift) < 1e-5 and row.dose == 0 for row in start)
    assert any(abs(row.shift) > 1e-4 for row in rows if row.dose == 1)
    for row in rows:
        gap = tiny_bundle.config.folds[row.fold].class_gap
        assert row.shift_over_class_gap == pytest.approx(row.shift / gap)


def test_metrics_of_a_known_warp(tiny_bundle, model_input):
    simulation = simulate(tiny_bundle, model_input, (0,))
    grid = tiny_bundle.grid
    still = {name: np.zeros_like(v) for name, v in simulation.velocity.items()}
    nothing = type(simulation)(grid, still, simulation.per_fold, (0,))
    for row in counterfactual_metrics(tiny_bundle, model_input, nothing):
        assert abs(row.shift) < 1e-5
        assert row.mean_abs_log_jacobian == 0
        assert row.reversibility_rmse < 1e-6
        assert row.displacement_max_mm == 0
    push = np.zeros_like(simulation.velocity['inject'])
    push[0] = 3.0
    pushed = type(simulation)(grid, {'inject': push, 'remove': -push}, {}, (0,))
    row = counterfactual_metrics(tiny_bundle, model_input, pushed)[0]
    assert row.displacement_max_mm == pytest.approx(3.0, abs=1e-3)
    assert row.minimality_mm == pytest.approx(3.0, abs=1e-3)
    assert row.n_folded == 0
    assert 0 < row.reversibility_rmse < 0.2


def _shrinking(grid: Grid, centre: tuple[float, float, float], rate: float) -> np.ndarray:
    away = grid.world_coordinates() - np.array(centre, np.float32)[:, None, None, None]
    return (-rate * away * np.exp(-0.5 * (away**2).sum(0) / 12.0**2)).astype(np.float32)


@pytest.mark.parametrize('flip', [False, True])
def test_left_stays_left_in_native_space(brain, tiny_bundle, flip: bool):
    """A structure that shrinks at x = -30 does so at x = -30 of the template, in any grid."""
    data, grid = brain
    velocity = _shrinking(tiny_bundle.grid, (-30, -20, 10), 0.3)
    native, image = grid, data
    to_template = np.eye(4)
    if flip:
        image = np.ascontiguousarray(data[::-1])
        mirror = np.diag([-1.0, 1, 1, 1])
        mirror[0, 3] = data.shape[0] - 1
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler('xyz', [10, 5, -12], degrees=True).as_matrix()
        turn[:3, 3] = 4, 6, -3
        native = Grid(grid.shape, turn @ grid.affine @ mirror, 'T1w')
        to_template = np.linalg.inv(turn)
    result = realise(velocity, tiny_bundle.grid, 1.0, image, native, to_template)
    lowest = np.unravel_index(result.log_jacobian.argmin(), native.shape)
    place = to_template @ native.affine @ [*lowest, 1]
    np.testing.assert_allclose(place[:3], (-30, -20, 10), atol=6)
    assert percent_change(result.log_jacobian.min()) < -30
    assert result.n_folded == 0
    assert result.image.shape == image.shape
    assert 0 < result.displacement_max_mm < 10


def test_native_and_template_maps_agree(brain, tiny_bundle):
    data, grid = brain
    velocity = _shrinking(tiny_bundle.grid, (25, 10, 20), 0.25)
    scale = np.diag([1.1, 0.9, 1.05, 1.0])
    native = Grid(grid.shape, np.linalg.inv(scale) @ grid.affine, 'T1w')
    there = realise(velocity, tiny_bundle.grid, 1.0, data, grid)
    here = realise(velocity, tiny_bundle.grid, 1.0, data, native, scale)
    np.testing.assert_allclose(here.log_jacobian, there.log_jacobian, atol=0.01)
    np.testing.assert_allclose(here.image, there.image, atol=0.02 * data.max())


def test_dose_zero_changes_nothing(brain, tiny_bundle):
    data, grid = brain
    velocity = _shrinking(tiny_bundle.grid, (0, 0, 0), 0.3)
    result = realise(velocity, tiny_bundle.grid, 0.0, data, grid, inside=data > 0)
    np.testing.assert_allclose(result.image, data, atol=1e-4 * data.max())
    assert not result.log_jacobian.any()


def test_one_verb_explains(brain, tiny_bundle):
    data, grid = brain
    explanation = explain(grid.to_image(data), tiny_bundle, direction='remove', device='cpu')
    assert explanation.kind == 'log_jacobian'
    assert explanation.grid.matches(grid)
    assert explanation.map.shape == data.shape
    assert re.match('positive = .*expansion', explanation.sign)
    assert [p.fold for p in explanation.predictions] == [0, 1]
    simulation = simulate(tiny_bundle, prepare_input(data, grid, np.eye(4), tiny_bundle), (0, 1))
    by_hand = realise(simulation.velocity['remove'], simulation.grid, 1.0, data, grid)
    np.testing.assert_allclose(explanation.map, by_hand.log_jacobian, atol=1e-5)
    with pytest.raises(ValueError, match='inject'):
        explain(grid.to_image(data), tiny_bundle, direction='sideways')


def test_a_background_of_nan_and_an_axis_of_length_1_change_nothing(brain, tiny_bundle):
    data, grid = brain
    bare = np.where(data == 0, np.nan, data)[..., None]
    expected = prepare_input(data, grid, np.eye(4), tiny_bundle)
    assert torch.equal(prepare_input(bare, grid, np.eye(4), tiny_bundle), expected)
    made = explain(nib.Nifti1Image(bare, grid.affine), tiny_bundle, device='cpu')
    known = explain(grid.to_image(data), tiny_bundle, device='cpu')
    assert made.predictions == known.predictions
    np.testing.assert_array_equal(made.map, known.map)
    np.testing.assert_array_equal(made.image, known.image)


def test_several_volumes_are_refused(brain, tiny_bundle):
    data, grid = brain
    with pytest.raises(ImageError, match=r', 2\)'):
        explain(nib.Nifti1Image(np.stack([data, data], axis=-1), grid.affine), tiny_bundle)


def test_tissue_that_grows_out_of_the_brain_is_not_cut_off(brain, tiny_bundle):
    """What lies at the rim moves outwards by 20 mm, far beyond the voxels that were brain."""
    data, grid = brain
    small = np.zeros_like(data)
    small[18:26, 22:30, 18:26] = 1.0
    push = np.zeros((3, *tiny_bundle.grid.shape), np.float32)
    push[1] = 20.0
    result = realise(push, tiny_bundle.grid, 1.0, small, grid)
    assert result.displacement_max_mm == pytest.approx(20.0, abs=0.1)
    assert result.image.sum() == pytest.approx(small.sum(), rel=0.02)
    centres = [
        (grid.world_coordinates()[1] * image).sum() / image.sum() for image in (small, result.image)
    ]
    assert centres[1] - centres[0] == pytest.approx(20.0, abs=0.2)


def test_shifts_are_in_units_of_the_mean_gap(tiny_bundle, model_input):
    simulation = simulate(tiny_bundle, model_input, (0, 1))
    for row in counterfactual_metrics(tiny_bundle, model_input, simulation):
        # Gaps of 1.5 and 4.
        assert row.shift_over_class_gap == pytest.approx(row.shift / 2.75)


def test_injecting_and_removing_ask_for_opposite_doses(tiny_bundle, model_input):
    simulation = simulate(tiny_bundle, model_input, (0, 1))
    for direction, sign in (('inject', 1.0), ('remove', -1.0)):
        for index, field in enumerate(simulation.per_fold[direction]):
            with torch.no_grad():
                wanted = tiny_bundle.fold(index).field(model_input, torch.tensor([sign]))
            np.testing.assert_array_equal(field, wanted[0].numpy())
        mean = simulation.per_fold[direction].mean(axis=0)
        np.testing.assert_array_equal(simulation.velocity[direction], mean)
    assert np.abs(simulation.velocity['inject'] - simulation.velocity['remove']).max() > 0.1


def test_half_a_dose_is_half_a_field(model_input, tiny_bundle):
    """A push of 16 mm, two voxels, is one voxel at half the dose."""
    push = np.zeros((3, *tiny_bundle.grid.shape), np.float32)
    push[2] = 16.0
    for dose, voxels in ((0.5, 1), (1.0, 2)):
        moved = apply_field(model_input, push, dose, tiny_bundle.grid, 'velocity')
        inner = moved[..., 4:-4]
        wanted = torch.roll(model_input, voxels, dims=-1)[..., 4:-4]
        torch.testing.assert_close(inner, wanted, atol=1e-3, rtol=0)
