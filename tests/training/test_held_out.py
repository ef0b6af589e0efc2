"""What is decided on held-out images: early stopping, calibration, class gap, dose, test outputs.

The splits differ by plan, so that a decision on the wrong split has another outcome.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.validity import image_scores, simulated_scores
from bids_interp.models.bundle.fold_metrics import FoldMetrics, SimulatorMetrics
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training import fold as fit
from bids_interp.training.assemble import assemble
from bids_interp.training.calibration import Calibration, class_gaps, fit_calibration
from bids_interp.training.classifier import ClassifierTask, TrainedClassifier, predict_outputs
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.dose import CLOSE
from bids_interp.training.fold import FoldResult, FoldRun, FoldWorkspace, train_fold, train_stages
from bids_interp.training.simulator import Opponent
from helpers.balls import BINARY, CLASSIFIER, RECIPE, SIMULATOR, ball, binary_cohort

#: Three splits of the same size, so that exchanging them changes numbers and not shapes.
FOLD = Fold(*np.arange(24).reshape(3, 8))
#: Radii (control, patient) of the balls of each split, in mm.
RADII = {'train': (19.0, 7.0), 'validation': (15.0, 12.0), 'test': (17.0, 10.0)}


class Mass(nn.Module):
    """Answers with a factor times the sum of an image: smaller balls have less."""

    def __init__(self, factor: float = -0.01) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * (image.sum(dim=(1, 2, 3, 4))[:, None] - 150)


@pytest.fixture(scope='module')
def cohort() -> Cohort:
    """The classes differ much in the training split, and little in the validation split.

    There the first two images look like the other class, so that a temperature can be fitted.
    """
    whole = binary_cohort(24)
    images, looks = whole.images.clone(), whole.labels.copy()
    looks[FOLD.validation[:2]] = 1 - looks[FOLD.validation[:2]]
    rng = np.random.default_rng(0)
    for part, radii in RADII.items():
        for index in getattr(FOLD, part):
            images[index] = ball(radii[looks[index]] + rng.normal(0, 0.5))
    return replace(whole, images=images)


def test_the_state_that_is_best_on_the_validation_split_is_kept(cohort: Cohort) -> None:
    """Where small balls are patients in one split and controls in the other."""
    labels = cohort.labels.copy()
    labels[FOLD.validation] = 1 - labels[FOLD.validation]
    turned = replace(cohort, labels=labels)
    task = ClassifierTask(turned, FOLD, CLASSIFIER, seed=0)
    task.network = Mass()
    losses = []
    for factor in (-0.004, 0.004, -0.008):
        task.network.factor.data.fill_(factor)
        task.finish()
        losses.append(task.best_loss)
    # The second state is the only one that is right about the validation split.
    assert losses[0] > losses[1] == losses[2]
    assert float(task.result().factor) == pytest.approx(0.004)


def test_calibration_gap_and_test_outputs_of_a_fold(cohort: Cohort, tmp_path: Path) -> None:
    """A given classifier, so that nothing is trained but a simulator of a single step."""
    given = Mass().eval().requires_grad_(False)
    recipe = replace(RECIPE, simulator=replace(SIMULATOR, template_steps=1))
    result = train_fold(cohort, FOLD, 0, recipe, FoldWorkspace(tmp_path), seed=0, external=given)

    def calibrated(part: np.ndarray) -> tuple[Calibration, float]:
        outputs, labels = predict_outputs(given, cohort.images[part]), cohort.labels[part]
        return fit_calibration(outputs, labels, BINARY), class_gaps(outputs, labels, BINARY)[0]

    calibration, gap = calibrated(FOLD.validation)
    wrong = calibrated(FOLD.train)
    assert abs(calibration.temperature - wrong[0].temperature) > 0.1
    assert abs(calibration.intercept[0] - wrong[0].intercept[0]) > 0.01
    assert gap < 0.6 * wrong[1]
    assert result.trained.temperature == calibration.temperature
    assert result.trained.intercept == calibration.intercept[0]
    assert result.trained.class_gap == gap
    wanted = predict_outputs(given, cohort.images[FOLD.test])
    np.testing.assert_array_equal(result.test_outputs, wanted)


def test_members_are_met_at_their_gap_on_the_validation_split(cohort: Cohort) -> None:
    members = [TrainedClassifier(Mass(-9.0), Mass(factor)) for factor in (-0.01, -0.02)]
    run = FoldRun(cohort, FOLD, 0, FoldWorkspace(Path()), 0, 'fold 1')
    opponent = run.opponent(members)
    gaps = opponent.gaps
    assert opponent.members == tuple(member.network for member in members)
    held_out = predict_outputs(members[0].held_out, cohort.images[FOLD.validation])
    wanted = class_gaps(held_out, cohort.labels[FOLD.validation], BINARY)[0]
    assert np.ravel(gaps) == pytest.approx([wanted, 2 * wanted], rel=1e-4)


class Planting(FoldWorkspace):
    """Plants a template instead of training one."""

    def run(self, task: Any, folder: Path, name: str) -> None:
        simulator = task.simulator
        points = torch.from_numpy(simulator.lattice.world_coordinates())
        near = torch.exp(-0.5 * points.square().sum(dim=0) / 12.0**2)
        simulator.template.data.copy_(-0.05 * (points * near)[None])


def effectiveness(
    simulator: Simulator, judge: nn.Module, cohort: Cohort, part: np.ndarray
) -> float:
    """Median shift at dose 1 over the class gap of 1."""
    images, contrast = cohort.images[part], BINARY.contrasts[0]
    before = image_scores(judge, images, contrast)
    shifts = [
        sign * (simulated_scores(judge, simulator, images, sign, contrast, 0, cohort.grid) - before)
        for sign in (1.0, -1.0)
    ]
    return float(np.median(shifts))


def test_what_was_refitted_with_the_validation_split_is_not_measured_with_it(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier that is explained has other outputs than the one that judges."""
    pair = TrainedClassifier(*(Mass(f).eval().requires_grad_(False) for f in (-0.01, -0.03)))
    monkeypatch.setattr(fit, 'train_classifier', lambda *args: pair)
    recipe = replace(RECIPE, simulator=replace(SIMULATOR, template_steps=1))
    result = train_fold(cohort, FOLD, 0, recipe, FoldWorkspace(tmp_path), seed=0)
    outputs = predict_outputs(pair.held_out, cohort.images[FOLD.validation])
    labels = cohort.labels[FOLD.validation]
    assert result.trained.class_gap == class_gaps(outputs, labels, BINARY)[0]
    assert result.trained.temperature == fit_calibration(outputs, labels, BINARY).temperature
    assert float(result.trained.classifier['factor']) == pytest.approx(-0.01)
    wanted = predict_outputs(pair.network, cohort.images[FOLD.test])
    np.testing.assert_array_equal(result.test_outputs, wanted)


def test_dose_1_is_the_gap_of_images_that_were_held_out(cohort: Cohort, tmp_path: Path) -> None:
    """The training images are dimmed, so that the same template moves their score less."""
    images = cohort.images.clone()
    images[FOLD.train] *= 0.4
    dimmed = replace(cohort, images=images)
    judge = Mass().eval().requires_grad_(False)
    run = FoldRun(dimmed, FOLD, 0, Planting(tmp_path), 0, 'fold 1')
    simulator = train_stages(run, SIMULATOR, Opponent((judge,), ((1.0,),)), tmp_path)
    simulator.eval().requires_grad_(False)
    assert effectiveness(simulator, judge, dimmed, FOLD.validation) == pytest.approx(1, abs=CLOSE)
    assert effectiveness(simulator, judge, dimmed, FOLD.train) < 0.8


@pytest.mark.parametrize('capacity', ['residual', 'condconv'])
def test_dose_1_is_the_gap_after_the_last_stage(
    cohort: Cohort, tmp_path: Path, capacity: str
) -> None:
    judge = Mass().eval().requires_grad_(False)
    run = FoldRun(cohort, FOLD, 0, Planting(tmp_path), 0, 'fold 1')
    recipe = replace(SIMULATOR, capacity=capacity, width=4, residual_steps=1)
    simulator = train_stages(run, recipe, Opponent((judge,), ((1.0,),)), tmp_path)
    simulator.eval().requires_grad_(False)
    assert float(simulator.gain[0]) > 2
    assert effectiveness(simulator, judge, cohort, FOLD.validation) == pytest.approx(1, abs=CLOSE)


def test_probabilities_of_a_fold_have_its_calibration(cohort: Cohort) -> None:
    folds = [
        Fold(FOLD.train, FOLD.validation, np.arange(0, 12)),
        Fold(FOLD.train, FOLD.validation, np.arange(12, 24)),
    ]
    outputs = predict_outputs(Mass(), cohort.images)
    metrics = FoldMetrics(8, 8, 12, SimulatorMetrics())
    maps = dict.fromkeys(('inject', 'remove'), cohort.images[0, 0].numpy())
    results = [
        FoldResult(TrainedFold({}, {}, *calibration), outputs[fold.test], maps)
        for fold, calibration in zip(
            folds, ((0.5, 1.0, metrics, 0.75), (4.0, 1.0, metrics, -1.0)), strict=True
        )
    ]
    made = assemble(cohort, folds, results, covariates={}, site=None, seed=0)
    calibrated = outputs[:, 0] / np.repeat([0.5, 4.0], 12) + np.repeat([0.75, -1.0], 12)
    wanted = 1 / (1 + np.exp(-calibrated))
    np.testing.assert_allclose(made.oof.probabilities[:, 1], wanted, rtol=1e-6)
