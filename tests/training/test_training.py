from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bids_interp.errors import TrainingError
from bids_interp.models.networks.simulator import Simulator
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid, exponential, warp
from bids_interp.training.calibration import class_gaps, fit_calibration
from bids_interp.training.classifier import ClassifierRecipe, ClassifierTask, predict_outputs
from bids_interp.training.cohort.augment import (
    CLASSIFIER_AUGMENTATION,
    Augmentation,
    draw_transformation,
)
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import make_folds
from bids_interp.training.loop.engine import run_task
from bids_interp.training.losses import gradient_penalty, minimality, roughness, shift_hinge
from bids_interp.training.simulator import Opponent, SimulatorRecipe, SimulatorTask

GRID = Grid(
    (16, 16, 16), np.array([[4.0, 0, 0, -30], [0, 4, 0, -30], [0, 0, 4, -30], [0, 0, 0, 1]])
)
TARGET = Target('binary', 'group', ('control', 'patient'))
STILL = Augmentation(affine=0, shift_mm=0, warp_mm=0, gain=0, bias=0, noise=0)


def ball(radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> torch.Tensor:
    points = torch.from_numpy(GRID.world_coordinates())
    away = (
        (points - torch.tensor(centre, dtype=torch.float32).view(3, 1, 1, 1))
        .square()
        .sum(dim=0)
        .sqrt()
    )
    return torch.sigmoid((radius - away) / 2.0)[None]


@pytest.fixture(scope='module')
def cohort() -> Cohort:
    """A ball that is smaller in the positive class."""
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    radii = np.where(labels == 1, 11.0, 16.0) + rng.normal(0, 0.7, 32)
    images = torch.stack([ball(radius, tuple(rng.normal(0, 1, 3))) for radius in radii])
    keys = tuple((f'image:{index}',) for index in range(32))
    mask = np.ones(GRID.shape, bool)
    return Cohort(images, labels, np.arange(32) // 2, keys, GRID, mask, Preprocessing(), TARGET)


@pytest.fixture(scope='module')
def fold(cohort: Cohort):
    return make_folds(cohort.labels, cohort.families, 3, seed=0)[0]


RECIPE = ClassifierRecipe(
    arguments={'channels': (4, 8), 'dropout': 0.0},
    steps=40,
    validate_every=20,
    learning_rate=1e-2,
    augmentation=STILL,
)


@pytest.fixture(scope='module')
def classifier(cohort: Cohort, fold, tmp_path_factory) -> torch.nn.Module:
    task = ClassifierTask(cohort, fold, RECIPE, seed=1)
    run_task(task, tmp_path_factory.mktemp('classifier'), checkpoint_every=10)
    return task.result()


@pytest.mark.parametrize('n_folds', [2, 3, 5])
def test_folds_keep_families_together(n_folds: int):
    rng = np.random.default_rng(3)
    families = rng.integers(0, 40, 200)
    labels = (families + rng.integers(0, 2, 200)) % 2
    folds = make_folds(labels, families, n_folds, seed=1)
    everybody = np.concatenate([fold.test for fold in folds])
    assert sorted(everybody.tolist()) == list(range(200))
    for fold in folds:
        sides = [set(families[part]) for part in (fold.train, fold.validation, fold.test)]
        assert sum(len(side) for side in sides) == len(set.union(*sides))
        for part in (fold.train, fold.validation, fold.test):
            assert 0.25 < labels[part].mean() < 0.75


def test_too_few_families_for_the_folds():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    with pytest.raises(TrainingError, match=r'\b1 .*\b2 .*\b3 folds'):
        make_folds(labels, np.arange(8), 3, seed=0)


def test_a_cohort_needs_both_classes(cohort: Cohort):
    with pytest.raises(TrainingError, match=r'\bpatient\.'):
        Cohort(
            cohort.images,
            np.zeros(32, int),
            cohort.families,
            cohort.keys,
            GRID,
            cohort.mask,
            Preprocessing(),
            TARGET,
        )


def test_transformation_is_the_same_for_the_same_generator():
    one, two = (
        draw_transformation(CLASSIFIER_AUGMENTATION, 2, GRID, torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    image = ball(12.0)[None].expand(2, -1, -1, -1, -1)
    assert torch.equal(one.apply(image, GRID), two.apply(image, GRID))
    assert (one.apply(image, GRID) - image).abs().max() > 0.05
    nothing = draw_transformation(STILL, 2, GRID, torch.Generator().manual_seed(5))
    torch.testing.assert_close(nothing.apply(image, GRID), image, atol=1e-5, rtol=0)


def test_random_shift_has_the_size_asked_for():
    strength = Augmentation(affine=0, shift_mm=3.0, warp_mm=0, gain=0, bias=0, noise=0)
    drawn = draw_transformation(strength, 400, GRID, torch.Generator().manual_seed(0))
    assert float(drawn.displacement[:, :, 0, 0, 0].std()) == pytest.approx(3.0, rel=0.1)


def test_hinge_by_hand():
    shift, dose = torch.tensor([1.0, 5.0, 1.0]), torch.tensor([1.0, 1.0, -0.5])
    # (2 - 1)/2, enough already, (1 + 1)/2
    assert float(shift_hinge(shift, dose, 2.0)) == pytest.approx((0.5 + 0.0 + 1.0) / 3)


def test_roughness_and_minimality_by_hand():
    points = torch.from_numpy(GRID.world_coordinates())[None]
    assert float(roughness(0.1 * points, GRID)) == pytest.approx(0.01, rel=1e-4)
    mask = torch.ones(1, 1, *GRID.shape)
    scaling = (np.exp(0.1) - 1) * points
    assert float(minimality(scaling, GRID, mask)) == pytest.approx(0.3, rel=1e-3)
    assert float(minimality(-points * (1 - np.exp(-0.1)), GRID, mask)) == pytest.approx(
        0.3, rel=1e-3
    )


def test_gradient_penalty_by_hand():
    images = torch.randn(3, 1, 4, 4, 4, requires_grad=True)
    weights = torch.randn(1, 4, 4, 4)
    logits = (images * weights).sum(dim=(1, 2, 3, 4))
    penalty = gradient_penalty(logits, images)
    assert float(penalty.detach()) == pytest.approx(float(weights.square().sum()), rel=1e-5)


def test_temperature_undoes_a_scaling():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(int)
    for factor in (1.0, 3.0):
        found = fit_calibration(factor * logits[:, None], labels, TARGET)
        assert found.temperature == pytest.approx(factor, rel=0.1)
        assert found.intercept == pytest.approx([0], abs=0.1)


def test_class_gap():
    outputs = np.array([[0.0], [1.0], [4.0], [5.0]])
    assert class_gaps(outputs, np.array([0, 0, 1, 1]), TARGET) == [4.0]
    # The wrong way round: half of the standard deviation of 0 and 1.
    assert class_gaps(outputs[1::-1], np.array([0, 1]), TARGET) == [0.25]


def test_classifier_learns(cohort: Cohort, fold, classifier):
    logits = predict_outputs(classifier, cohort.images[fold.test])[:, 0]
    labels = cohort.labels[fold.test]
    assert logits[labels == 1].min() > logits[labels == 0].max()


@pytest.mark.parametrize('stop', [7, 20, 33])
def test_a_killed_training_goes_on_to_the_same_weights(
    cohort: Cohort, fold, classifier, tmp_path: Path, stop: int
):
    class Killed(Exception):
        pass

    class Doomed(ClassifierTask):
        def training_step(self, batch, batch_index):
            if self.global_step == stop:
                raise Killed
            return super().training_step(batch, batch_index)

    with pytest.raises(Killed):
        run_task(Doomed(cohort, fold, RECIPE, seed=1), tmp_path, checkpoint_every=10)
    again = ClassifierTask(cohort, fold, RECIPE, seed=1)
    run_task(again, tmp_path, checkpoint_every=10)
    assert again.global_step == RECIPE.steps
    for name, value in again.result().state_dict().items():
        assert torch.equal(value, classifier.state_dict()[name]), name


def test_a_loss_that_is_no_number_stops_the_training(cohort: Cohort, fold, tmp_path: Path):
    images = cohort.images.clone()
    images[fold.train] = float('nan')
    broken = Cohort(
        images,
        cohort.labels,
        cohort.families,
        cohort.keys,
        GRID,
        cohort.mask,
        Preprocessing(),
        TARGET,
    )
    with pytest.raises(TrainingError, match='ClassifierTask .*step 0'):
        run_task(ClassifierTask(broken, fold, RECIPE, seed=1), tmp_path)


@pytest.mark.parametrize('capacity', ['template', 'condconv'])
def test_simulator_moves_the_logit_by_shrinking_the_ball(
    cohort: Cohort, fold, classifier, tmp_path: Path, capacity: str
):
    recipe = SimulatorRecipe(
        capacity=capacity, template_steps=40, residual_steps=10, template_rate=0.1, minimality=0.3
    )
    gap = class_gaps(predict_outputs(classifier, cohort.images), cohort.labels, TARGET)[0]
    opponent = Opponent((classifier,), ((gap,),))
    simulator = Simulator(GRID, cohort.mask, **recipe.network_arguments())
    for stage in ('template', 'residual')[: 1 + (capacity != 'template')]:
        task = SimulatorTask(cohort, fold.train, opponent, simulator, recipe, stage, seed=2)
        run_task(task, tmp_path / stage)
    controls = cohort.images[fold.test[cohort.labels[fold.test] == 0]]
    for sign in (1.0, -1.0):
        with torch.no_grad():
            velocity = simulator(controls, sign * torch.ones(len(controls)))
            moved = warp(controls, exponential(-velocity, GRID), GRID)
        shift = predict_outputs(classifier, moved) - predict_outputs(classifier, controls)
        assert (sign * shift).mean() > 0.3 * gap
        assert sign * float(moved.sum() - controls.sum()) < 0


def test_template_stage_leaves_the_residual_alone(cohort: Cohort, fold, classifier, tmp_path):
    recipe = SimulatorRecipe(capacity='residual', template_steps=3)
    simulator = Simulator(GRID, cohort.mask, **recipe.network_arguments())
    before = {name: value.clone() for name, value in simulator.residual.state_dict().items()}
    run_task(
        SimulatorTask(
            cohort,
            fold.train,
            Opponent((classifier,), ((1.0,),)),
            simulator,
            recipe,
            'template',
            seed=2,
        ),
        tmp_path,
    )
    assert simulator.template.abs().max() > 0
    assert all(torch.equal(v, before[n]) for n, v in simulator.residual.state_dict().items())
