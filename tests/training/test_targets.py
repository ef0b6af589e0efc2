"""Whole folds on balls: two or three classes, a regression, ensembles, a given classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.errors import UsageError
from bids_interp.evaluation.scores import auc
from bids_interp.evaluation.validity import image_scores, simulated_scores
from bids_interp.models.bundle.fingerprint import scan_sketch
from bids_interp.models.networks.registry import Ensemble, build_classifier
from bids_interp.models.networks.simulator import Simulator
from bids_interp.reports.training.training_outputs import FinishedTraining
from bids_interp.training import fold as fit
from bids_interp.training import selection
from bids_interp.training.assemble import assemble, training_scans
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult, FoldWorkspace, train_fold
from bids_interp.training.ipmi2021 import PaperRecipe
from bids_interp.training.selection import most_reproducible, select_recipe
from bids_interp.training.simulator import Opponent
from helpers.balls import (
    CLASSIFIER,
    GRID,
    RECIPE,
    SHORT,
    SIMULATOR,
    binary_cohort,
    folds_of,
    regression_cohort,
    several_cohort,
)

SEED = 3


def trained(cohort: Cohort, fold: Fold, folder: Path, recipe=RECIPE, **given) -> FoldResult:
    return train_fold(cohort, fold, 0, recipe, FoldWorkspace(folder), seed=SEED, **given)


def networks(cohort: Cohort, result: FoldResult, members: int = 1) -> tuple[nn.Module, Simulator]:
    """Networks of a result, built as a bundle builds them."""
    classifier = build_classifier(
        'robust',
        GRID.shape,
        **CLASSIFIER.arguments,
        outputs=cohort.target.n_outputs,
        **({'members': members} if members > 1 else {}),
    )
    classifier.load_state_dict(result.trained.classifier)
    simulator = Simulator(GRID, cohort.mask, contrasts=len(cohort.target.contrasts))
    simulator.load_state_dict(result.trained.simulator)
    return classifier.eval(), simulator.eval()


def shifts(cohort: Cohort, fold: Fold, result: FoldResult, dose: float, number: int) -> np.ndarray:
    """Change of the score of the test images."""
    classifier, simulator = networks(cohort, result)
    images, contrast = cohort.images[fold.test], cohort.target.contrasts[number]
    before = image_scores(classifier, images, contrast)
    after = simulated_scores(
        classifier,
        simulator,
        images,
        dose,
        contrast,
        number,
        GRID,
    )
    return after - before


def middle(result: FoldResult, direction: str = 'inject') -> float:
    """Log-Jacobian in the middle of the balls."""
    return float(result.maps[direction][6:10, 6:10, 6:10].mean())


def test_three_classes(tmp_path: Path) -> None:
    cohort = several_cohort()
    fold = folds_of(cohort)[0]
    recipe = replace(
        RECIPE,
        classifier=replace(CLASSIFIER, steps=80, batch=9),
        simulator=replace(SIMULATOR, template_steps=90),
    )
    result = trained(cohort, fold, tmp_path, recipe)
    assert result.test_outputs.shape == (len(fold.test), 3)
    assert (result.test_outputs.argmax(axis=1) == cohort.labels[fold.test]).mean() > 0.8
    assert len(result.trained.class_gap) == 3
    for number, gap in enumerate(result.trained.class_gap):
        for dose in (1.0, -1.0):
            moved = dose * shifts(cohort, fold, result, dose, number)
            assert moved.mean() > 0.1 * gap, (number, dose)
    # From large to middle: the ball shrinks.
    assert middle(result) < -0.03 < 0.03 < middle(result, 'remove')
    rows = result.trained.metrics.simulator.validity
    assert [row.contrast for row in rows] == ['large-middle', 'large-small', 'middle-small']


def test_a_number(tmp_path: Path) -> None:
    cohort = regression_cohort()
    fold = folds_of(cohort)[0]
    recipe = replace(RECIPE, classifier=replace(CLASSIFIER, steps=80))
    result = trained(cohort, fold, tmp_path, recipe)
    truth = cohort.standardised()[fold.test]
    assert np.corrcoef(result.test_outputs[:, 0], truth)[0, 1] > 0.8
    assert (result.trained.class_gap, result.trained.temperature) == (1.0, 1.0)
    for dose in (1.0, -1.0):
        assert (dose * shifts(cohort, fold, result, dose, 0)).mean() > 0.2
    # A higher value is a larger ball.
    assert middle(result) > 0.03 > -0.03 > middle(result, 'remove')


@pytest.fixture(scope='module')
def pair(tmp_path_factory) -> tuple[Cohort, list[Fold], list[FoldResult]]:
    """Two folds of two classes with two classifiers each."""
    cohort = binary_cohort()
    folds = folds_of(cohort)
    recipe = replace(SHORT, members=2, simulator=SIMULATOR)
    results = [
        train_fold(
            cohort,
            fold,
            index,
            recipe,
            FoldWorkspace(tmp_path_factory.mktemp(f'fold-{index}')),
            seed=SEED,
        )
        for index, fold in enumerate(folds)
    ]
    return cohort, folds, results


def test_members_are_different_and_their_mean_answers(pair) -> None:
    cohort, folds, results = pair
    classifier, _ = networks(cohort, results[0], members=2)
    assert isinstance(classifier, Ensemble)
    images = cohort.images[folds[0].test]
    with torch.no_grad():
        one, two = (member(images) for member in classifier.members)
        np.testing.assert_allclose(results[0].test_outputs, ((one + two) / 2).numpy(), atol=1e-5)
    assert (one - two).abs().max() > 1e-3


def test_the_first_member_is_the_one_that_it_is_alone(pair, tmp_path: Path) -> None:
    cohort, folds, results = pair
    alone = trained(cohort, folds[0], tmp_path, replace(SHORT, simulator=SIMULATOR))
    for name, value in alone.trained.classifier.items():
        assert torch.equal(results[0].trained.classifier[f'members.0.{name}'], value)


def test_folds_together(pair) -> None:
    cohort, folds, results = pair
    made = assemble(cohort, folds, results, covariates={}, site=None, seed=0)
    for index, fold in enumerate(folds):
        assert (made.fold_of[fold.test] == index).all()
        np.testing.assert_array_equal(made.oof.outputs[fold.test], results[index].test_outputs)
        logits, labels = results[index].test_outputs[:, 0], cohort.labels[fold.test]
        assert results[index].trained.metrics.test_auc == auc(logits, labels)
    assert made.metrics['auc']['value'] > 0.9
    np.testing.assert_allclose(
        made.maps['inject'], (results[0].maps['inject'] + results[1].maps['inject']) / 2
    )
    simulator = made.metrics['simulator']
    assert simulator['fold_ncc']['inject'] > 0.3
    assert simulator['effectiveness'] > 0.2


def test_the_outline_is_where_a_z_score_is_not_zero(pair) -> None:
    """All brains have one outline; what is dark in it, and negative, is larger in patients."""
    cohort, folds, results = pair
    images = torch.zeros_like(cohort.images)
    images[..., 2:-2, 2:-2, 2:-2] = 1.0
    for image, label in zip(images, cohort.labels, strict=True):
        image[0, 4 : 6 + 2 * label, 4:8, 4:8] = -2.0
    made = assemble(
        replace(cohort, images=images), folds, results, covariates={}, site=None, seed=0
    )
    assert list(made.metrics['mask']) == ['left_out']
    assert list(made.metrics['mask']['left_out']) == ['mask']


@pytest.mark.parametrize('given', [{'site': 'place'}, {'site': None, 'categories': ['place']}])
def test_names_written_as_numbers_stay_names(pair, given) -> None:
    """Patients come from place 2, controls from 1 and 3."""
    cohort, folds, results = pair
    places = [str(2 if label else 1 + 2 * (n // 2 % 2)) for n, label in enumerate(cohort.labels)]
    made = assemble(cohort, folds, results, covariates={'place': places}, seed=0, **given)
    assert made.metrics['covariates']['auc']['value'] == 1.0


def test_categorical_columns_are_passed_on(monkeypatch) -> None:
    values = ['1', '2', '3', '1']
    table = {'covariates': {'age': values, 'Handedness': values}, 'site': None}
    module = 'bids_interp.reports.training.training_outputs'
    monkeypatch.setattr(f'{module}.assemble', lambda *_, **given: given)
    given = FinishedTraining(binary_cohort(4), [], [], table, 0).assemble()
    assert given['categories'] == ['Handedness']


def test_who_was_scanned_goes_along(pair) -> None:
    cohort, folds, results = pair
    people = np.arange(len(cohort)) // 4
    named = replace(cohort, keys=tuple((f'subject:{number}',) for number in people))
    made = assemble(named, folds, results, covariates={}, site=None, seed=0)
    np.testing.assert_array_equal(made.oof.participants, people)


def test_every_subject_is_known_by_the_fold_that_has_not_seen_it(pair) -> None:
    cohort, folds, results = pair
    made = assemble(cohort, folds, results, covariates={}, site=None, seed=0)
    mean = cohort.images[:, 0].mean(dim=0).numpy()
    known = training_scans(cohort, made.fold_of, mean)
    assert len(known) == len(cohort)
    folds_of = {scan.sketch: scan.folds for scan in known}
    for image, fold in zip(cohort.images, made.fold_of, strict=True):
        assert folds_of[scan_sketch(image[0].numpy(), mean, cohort.mask)] == (fold,)
    # Their order does not tell the order of the participants.
    assert [scan.sketch for scan in known] == sorted(folds_of)


def test_a_given_classifier_trains_only_simulators(pair, tmp_path: Path) -> None:
    cohort, folds, _ = pair
    torch.manual_seed(0)
    given = build_classifier('robust', GRID.shape, **CLASSIFIER.arguments).eval()
    given.requires_grad_(False)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    recipe = replace(SHORT, simulator=replace(SIMULATOR, template_steps=6))
    result = trained(cohort, folds[0], tmp_path, recipe, external=given)
    assert result.trained.classifier == {}
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert not list(tmp_path.rglob('classifier-*/last.ckpt'))
    facts = result.trained.metrics.simulator
    assert {'inject', 'remove', 'audit'} == set(result.maps)
    assert -1 <= facts.audit_ncc <= 1
    # Free to do what it likes, the audit changes at least as much.
    assert np.abs(result.maps['audit']).mean() >= np.abs(result.maps['inject']).mean()


def test_candidates_are_compared_by_what_halves_agree_on(pair, tmp_path: Path) -> None:
    cohort, folds, _ = pair
    recipe = replace(SHORT, simulator=replace(SIMULATOR, template_steps=12, candidates=(0.1, 2.0)))
    result = trained(cohort, folds[0], tmp_path, recipe)
    facts = result.trained.metrics.simulator
    assert [row.minimality for row in facts.selection] == [0.1, 2.0]
    assert facts.minimality == most_reproducible(facts.selection)
    # What is chosen is what is trained with everybody.
    alone = replace(SHORT, simulator=replace(SIMULATOR, template_steps=12))
    alone = replace(alone, simulator=replace(alone.simulator, minimality=facts.minimality))
    again = trained(cohort, folds[0], tmp_path / 'again', alone)
    assert torch.equal(result.trained.simulator['template'], again.trained.simulator['template'])


def test_candidates_are_compared_for_several_classes(tmp_path: Path) -> None:
    cohort = several_cohort()
    simulator = replace(SIMULATOR, template_steps=6, candidates=(0.1, 2.0))
    recipe = replace(SHORT, simulator=simulator)
    result = trained(cohort, folds_of(cohort)[0], tmp_path, recipe)
    facts = result.trained.metrics.simulator
    assert [row.minimality for row in facts.selection] == [0.1, 2.0]
    assert facts.minimality == most_reproducible(facts.selection)
    assert len(result.trained.simulator['template']) == 3


def selected(cohort: Cohort, fold: Fold, folder: Path, recipe) -> selection.SelectedRecipe:
    """A choice against a classifier that says what the images sum up to."""

    class Sums(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.sum(dim=(1, 2, 3, 4))[:, None] * torch.linspace(-1, 1, outputs)

    outputs = cohort.target.n_outputs
    gaps = (1.0,) * len(cohort.target.contrasts)
    return select_recipe(cohort, fold, Opponent((Sums(),), (gaps,)), Sums(), recipe, folder, seed=0)


def test_halves_agree_as_far_as_they_do_for_all_contrasts(tmp_path: Path, monkeypatch) -> None:
    """The second of three patterns is turned round in the other half."""
    cohort = several_cohort()

    def pretend(task, folder: Path, **_) -> None:
        shape = task.simulator.template.shape
        pattern = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        pattern[1] *= 1 if folder.name.endswith('-0') else -1
        task.simulator.template.data.copy_(pattern)

    monkeypatch.setattr(selection, 'run_task', pretend)
    recipe = replace(SIMULATOR, candidates=(0.5, 1.0))
    rows = selected(cohort, folds_of(cohort)[0], tmp_path, recipe).rows
    assert [row.split_half_ncc for row in rows] == pytest.approx([1 / 3] * 2, abs=0.02)


@pytest.mark.parametrize('counts', [(1, 1), (1, 5)])
def test_nothing_is_compared_where_a_class_cannot_be_halved(counts, tmp_path: Path) -> None:
    """One family of a class to train with: the weight of the recipe is taken."""
    labels = np.repeat([0, 1, 0, 1], [*counts, 1, 1])
    cohort = replace(binary_cohort(len(labels)), labels=labels, families=np.arange(len(labels)))
    images = np.arange(len(labels))
    fold = Fold(images[:-2], images[-2:], images[-2:])
    recipe = replace(SIMULATOR, minimality=0.7, candidates=(0.1, 2.0))
    found = selected(cohort, fold, tmp_path, recipe)
    assert found == (replace(recipe, candidates=()), [])


def test_an_unsuitable_grid_is_refused_before_the_classifier_is_trained(
    tmp_path: Path, monkeypatch
) -> None:
    def never(*_) -> None:
        raise AssertionError('The classifier was trained.')

    monkeypatch.setattr(fit, 'train_classifier', never)
    whole = binary_cohort()
    cohort = replace(
        whole,
        images=whole.images[..., :12],
        mask=whole.mask[..., :12],
        grid=replace(GRID, shape=(16, 16, 12)),
    )
    recipe = replace(RECIPE, simulator=PaperRecipe())
    with pytest.raises(UsageError, match=r'\b16\b.* 16 x 16 x 12\b') as caught:
        trained(cohort, folds_of(cohort)[0], tmp_path, recipe)
    assert '--grid-size' in caught.value.advice
    assert '--classifier-card' in caught.value.advice
