"""The sparse sum of the volumes that a registration measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from bids_interp.errors import UsageError
from bids_interp.evaluation.scores import auc
from bids_interp.models.networks.morphometric import MorphometricClassifier, half_shape, halved
from bids_interp.models.networks.registry import build_classifier
from bids_interp.spatial import Grid
from bids_interp.training import morphometry, sparse
from bids_interp.training.calibration import fit_calibration, probabilities
from bids_interp.training.classifier import ClassifierRecipe, predict_outputs
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldRun, FoldWorkspace, train_classifier
from bids_interp.training.morphometry import MorphometryRecipe, fit_morphometry, pooled_grid
from bids_interp.training.pattern.fit import PatternRecipe
from bids_interp.training.recipe import _with_architecture, make_recipe
from helpers.balls import (
    BINARY,
    GRID,
    binary_cohort,
    cohort_of,
    folds_of,
    regression_cohort,
    several_cohort,
)

RECIPE = MorphometryRecipe()


def test_pooled_grid_lies_between_the_voxels() -> None:
    grid = Grid(
        (5, 6, 8), np.array([[0, -2.0, 0, 9], [3.0, 0, 0, -4], [0, 0, 1.5, 2], [0, 0, 0, 1]])
    )
    pooled = pooled_grid(grid)
    assert pooled.shape == half_shape(grid.shape) == (2, 3, 4)
    points = torch.from_numpy(grid.world_coordinates())[None]
    expected = F.avg_pool3d(points, 2)[0].numpy()
    np.testing.assert_allclose(pooled.world_coordinates(), expected, atol=1e-4)


@pytest.mark.parametrize('make', [binary_cohort, several_cohort, regression_cohort])
def test_it_knows_unseen_images(make, tmp_path: Path) -> None:
    cohort = make()
    fold = folds_of(cohort)[0]
    run = FoldRun(cohort, fold, 0, FoldWorkspace(tmp_path), 0, 'test')
    network = train_classifier(run, RECIPE, tmp_path / 'c', seed=2).network
    assert isinstance(network, MorphometricClassifier)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    outputs = predict_outputs(network, cohort.images[fold.test])
    labels = cohort.labels[fold.test]
    assert outputs.shape == (len(labels), cohort.target.n_outputs)
    if cohort.target.kind == 'binary':
        assert auc(outputs[:, 0], labels) > 0.9
    elif cohort.target.kind == 'multiclass':
        assert (outputs.argmax(axis=1) == labels).mean() > 0.7
    else:
        assert np.corrcoef(outputs[:, 0], labels)[0, 1] > 0.8


def planted(cohort: Cohort, where: np.ndarray) -> Cohort:
    """Cohort with other images and labels at some indices."""
    images, labels = cohort.images.clone(), cohort.labels.copy()
    images[where] = images[where].flip(2) * 0.7
    labels[where] = 1 - labels[where]
    return replace(cohort, images=images, labels=labels)


def same_weights(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(v, two.state_dict()[n]) for n, v in one.state_dict().items())


def test_each_split_is_used_for_what_it_is_for() -> None:
    cohort = binary_cohort()
    fold = folds_of(cohort)[0]
    found = fit_morphometry(cohort, fold, RECIPE, seed=1)
    assert not same_weights(found.network, found.held_out)
    # The test split changes nothing.
    other = fit_morphometry(planted(cohort, fold.test), fold, RECIPE, seed=1)
    assert same_weights(found.network, other.network)
    assert same_weights(found.held_out, other.held_out)
    # The validation split changes the head of the classifier that is explained, and only this.
    other = fit_morphometry(planted(cohort, fold.validation), fold, RECIPE, seed=1)
    assert same_weights(found.held_out, other.held_out)
    assert torch.equal(found.network.volumes.mean, other.network.volumes.mean)
    assert not torch.allclose(found.network.head.weight, other.network.head.weight, rtol=0.1)


def test_the_penalty_is_chosen_with_the_training_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(*args: Any, **options: Any) -> sparse.SparseFit:
        found = sparse.fit_sparse(*args, **options)
        asked.append((len(args[0]), options['shares'], found.share))
        return found

    monkeypatch.setattr(morphometry, 'fit_sparse', spy)
    cohort = binary_cohort()
    fold = folds_of(cohort)[0]
    fit_morphometry(cohort, fold, RECIPE, seed=1)
    first, second = asked
    assert first[:2] == (len(fold.train), sparse.SHARES)
    assert second[:2] == (len(fold.train) + len(fold.validation), (first[2],))


def test_the_calibration_holds_after_the_refit() -> None:
    """Balls of nearly equal sizes, so that the classes overlap; one in four is a patient."""
    labels = (np.arange(96) % 4 == 0).astype(int)
    rng = np.random.default_rng(4)
    radii = np.where(labels == 1, 12.5, 14.0) + rng.normal(0, 1.0, len(labels))
    cohort = cohort_of(BINARY, labels, radii)
    order = np.random.default_rng(0).permutation(48)
    images = np.ravel([2 * order, 2 * order + 1], 'F')
    fold = Fold(images[:40], images[40:60], images[60:])
    found = fit_morphometry(cohort, fold, RECIPE, seed=1)
    judged = predict_outputs(found.held_out, cohort.images[fold.validation])
    calibration = fit_calibration(judged, cohort.labels[fold.validation], BINARY)
    outputs = predict_outputs(found.network, cohort.images[fold.test])
    truth = cohort.labels[fold.test]
    chances = probabilities(outputs, calibration, BINARY)[:, 1]
    best = fit_calibration(outputs, truth, BINARY)
    reached, ideal = (
        ((probabilities(outputs, one, BINARY)[:, 1] - truth) ** 2).mean()
        for one in (calibration, best)
    )
    assert chances.mean() == pytest.approx(truth.mean(), abs=0.1)
    assert reached < ideal + 0.02 < truth.mean() * (1 - truth.mean())


def test_weights_outside_the_brain_come_from_smoothing_alone() -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[4:12, 4:12, 4:12] = True
    cohort = replace(binary_cohort(), mask=mask)
    recipe = replace(RECIPE, smoothing_mm=0.0)
    network = fit_morphometry(cohort, folds_of(cohort)[0], recipe, seed=0).network
    sharp = network.head.weight.view(8, 8, 8)
    outside = torch.ones(8, 8, 8, dtype=torch.bool)
    outside[2:6, 2:6, 2:6] = False
    assert not sharp[outside].any()
    assert sharp.any()


def test_recipes_choose_how_a_classifier_is_fitted() -> None:
    chosen = make_recipe('fast', architecture='morphometric', capacity='template', batch=3)
    assert chosen.classifier == MorphometryRecipe()
    assert chosen.simulator.batch == 3
    assert (chosen.simulator.template_optimizer, chosen.simulator.template_steps) == ('shared', 80)
    other = make_recipe(
        'fast', capacity='template', architecture='morphometric', simulator_steps=9
    ).simulator
    assert other.template_steps == 9
    assert make_recipe('fast', capacity='template').simulator.template_optimizer == 'adamw'
    assert make_recipe('fast', architecture='morphometric').simulator == PatternRecipe()
    with pytest.raises(UsageError, match='--simulator-steps'):
        make_recipe('fast', simulator_steps=9)
    with pytest.raises(UsageError, match='morphometric'):
        make_recipe('fast', architecture='morphometric', classifier_steps=7)
    assert isinstance(make_recipe('fast', architecture='sfcn').classifier, ClassifierRecipe)


def test_a_new_classifier_names_its_registration() -> None:
    """A bundle without the name would be read with the registration of version 0.1.0."""
    assert RECIPE.arguments == {'registration': 'elastic'}
    again = _with_architecture(RECIPE, 'morphometric')
    assert again == RECIPE


def test_its_weights_are_all_that_a_model_needs(tmp_path: Path) -> None:
    cohort = binary_cohort()
    fold = folds_of(cohort)[0]
    network = fit_morphometry(cohort, fold, RECIPE, seed=0).network
    save_file(network.state_dict(), tmp_path / 'classifier.safetensors')
    again = build_classifier('morphometric', GRID.shape, **RECIPE.arguments).eval()
    again.load_state_dict(load_file(tmp_path / 'classifier.safetensors'))
    images = cohort.images[fold.test]
    assert torch.equal(again(images), network(images))
    assert network(images).std() > 0


def test_one_slice_is_halved_in_its_plane_only() -> None:
    grid = Grid((4, 4, 1), np.diag([2.0, 2.0, 3.0, 1.0]))
    pooled = pooled_grid(grid)
    assert pooled.shape == half_shape(grid.shape) == (2, 2, 1)
    np.testing.assert_allclose(
        pooled.affine, [[4, 0, 0, 1], [0, 4, 0, 1], [0, 0, 3, 0], [0, 0, 0, 1]]
    )
    data = torch.arange(16.0).view(1, 1, 4, 4, 1)
    assert halved(data).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
