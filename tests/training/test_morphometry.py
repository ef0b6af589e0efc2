"""A network that measures volumes, learned without labels, and the sparse sum of what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from bids_interp.evaluation.scores import auc
from bids_interp.models.classifier import build_classifier
from bids_interp.models.morphometric import MorphometricClassifier, half_shape
from bids_interp.spatial import Grid, smooth, warp
from bids_interp.training.augment import Augmentation
from bids_interp.training.classifier import ClassifierRecipe, predict_outputs
from bids_interp.training.cohort import Cohort
from bids_interp.training.engine import run_task
from bids_interp.training.fit import FoldRun, Place, train_classifier
from bids_interp.training.morphometry import (
    MorphometryRecipe,
    VolumeTask,
    deform,
    fit_head,
    measure,
    pooled_grid,
)
from bids_interp.training.recipe import make_recipe

from .balls import GRID, binary_cohort, folds_of, regression_cohort, several_cohort

RECIPE = MorphometryRecipe(
    arguments={'width': 8},
    steps=60,
    validate_every=20,
    deformations=(Augmentation(affine=0.05, shift_mm=2.0, warp_mm=3.0, knots_mm=24.0),),
)


def textured_cohort() -> Cohort:
    """Images that differ little, with something to be seen everywhere."""
    cohort = binary_cohort()
    generator = torch.Generator().manual_seed(4)
    texture = smooth(torch.randn(1, 1, *GRID.shape, generator=generator), 6.0, GRID)
    images = (texture / texture.std()).expand(len(cohort), -1, -1, -1, -1)
    own = replace(RECIPE.deformations[0], warp_mm=0.5, shift_mm=0.5, affine=0.0)
    return replace(cohort, images=deform(images, (own,), GRID, generator)[0])


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[VolumeTask, Path]:
    cohort = textured_cohort()
    task = VolumeTask(cohort, folds_of(cohort)[0], replace(RECIPE, steps=400), seed=3)
    folder = tmp_path_factory.mktemp('volumes')
    run_task(task, folder)
    return task, folder


def test_volumes_of_an_enlargement_are_known_exactly() -> None:
    """A pull-back that shrinks towards the centre makes what is seen larger: positive."""
    grid = Grid((12, 14, 16), np.diag([-2.0, 3.0, 2.5, 1.0]))
    points = torch.from_numpy(grid.world_coordinates())[None]
    centre = points.mean(dim=(2, 3, 4), keepdim=True)
    pull_back = (1 / 1.1 - 1) * (points - centre)
    from bids_interp.training import morphometry

    class Drawn:
        displacement, gain, noise = pull_back, torch.ones(1), torch.zeros(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(morphometry, 'draw', lambda *_: Drawn)
        image = torch.rand(1, 1, *grid.shape)
        deformed, volumes = deform(image, (Augmentation(),), grid, torch.Generator())
    assert volumes.shape == (1, 1, 6, 7, 8)
    torch.testing.assert_close(
        volumes, torch.full_like(volumes, 3 * np.log(1.1)), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(deformed, warp(image, pull_back, grid))


def test_pooled_grid_lies_between_the_voxels() -> None:
    grid = Grid(
        (5, 6, 8), np.array([[0, -2.0, 0, 9], [3.0, 0, 0, -4], [0, 0, 1.5, 2], [0, 0, 0, 1]])
    )
    pooled = pooled_grid(grid)
    assert pooled.shape == half_shape(grid.shape) == (2, 3, 4)
    points = torch.from_numpy(grid.world_coordinates())[None]
    expected = F.avg_pool3d(points, 2)[0].numpy()
    np.testing.assert_allclose(pooled.world_coordinates(), expected, atol=1e-4)


def test_it_learns_to_measure_deformations_of_images_that_it_has_not_seen(trained) -> None:
    task, folder = trained
    cohort, fold = task.cohort, task.fold
    generator = torch.Generator().manual_seed(9)
    images = cohort.images[fold.test]
    deformed, volumes = deform(images, RECIPE.deformations, GRID, generator)
    before, after = measure(task.result(), images), measure(task.result(), deformed)
    inner = (slice(None), slice(None), slice(2, 6), slice(2, 6), slice(2, 6))
    found = np.corrcoef((after - before)[inner].ravel(), volumes[inner].ravel())[0, 1]
    assert found > 0.4, found
    assert 'validation_loss' in (folder / 'metrics.csv').read_text()


def test_labels_are_not_looked_at(trained, tmp_path: Path) -> None:
    task, _ = trained
    other = replace(task.cohort, labels=1 - task.cohort.labels)
    again = VolumeTask(other, task.fold, replace(RECIPE, steps=5), seed=3)
    run_task(again, tmp_path / 'other')
    same = VolumeTask(task.cohort, task.fold, replace(RECIPE, steps=5), seed=3)
    run_task(same, tmp_path / 'same')
    for name, value in same.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    cohort = binary_cohort()
    fold, short = folds_of(cohort)[0], replace(RECIPE, steps=8)
    whole = VolumeTask(cohort, fold, short, seed=1)
    run_task(whole, tmp_path / 'whole')

    class Killed(VolumeTask):
        def training_step(self, batch, batch_index):  # type: ignore[no-untyped-def]
            if self.global_step == 5:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_index)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_task(Killed(cohort, fold, short, seed=1), tmp_path / 'killed', checkpoint_every=2)
    resumed = VolumeTask(cohort, fold, short, seed=1)
    run_task(resumed, tmp_path / 'killed', checkpoint_every=2)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    cohort = binary_cohort()
    tasks = []
    for count in (1, 2):
        task = VolumeTask(cohort, folds_of(cohort)[0], replace(RECIPE, steps=6), seed=1)
        task.reduced = False
        run_task(task, tmp_path / str(count), n_devices=count)
        tasks.append(task.network.state_dict())
    for name, value in tasks[0].items():
        # What a normalisation takes away at once is moved by rounding alone.
        if not name.endswith('0.bias'):
            torch.testing.assert_close(tasks[1][name], value, atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize('make', [binary_cohort, several_cohort, regression_cohort])
def test_the_head_knows_unseen_images(make, tmp_path: Path) -> None:
    cohort = make()
    fold = folds_of(cohort)[0]
    run = FoldRun(cohort, fold, 0, Place(tmp_path), 0, 'test')
    network = train_classifier(run, RECIPE, tmp_path / 'c', seed=2)
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


def test_weights_outside_the_brain_come_from_smoothing_alone(trained) -> None:
    task, _ = trained
    mask = np.zeros(GRID.shape, bool)
    mask[4:12, 4:12, 4:12] = True
    inside = replace(task.cohort, mask=mask)
    recipe = replace(RECIPE, smoothing_mm=0.0)
    sharp = fit_head(task.result(), inside, task.fold, recipe, seed=0).head.weight.view(8, 8, 8)
    outside = torch.ones(8, 8, 8, dtype=torch.bool)
    outside[2:6, 2:6, 2:6] = False
    assert not sharp[outside].any()
    assert sharp.any()


def test_recipes_choose_how_a_network_is_trained() -> None:
    chosen = make_recipe('fast', architecture='morphometric')
    assert chosen.classifier == MorphometryRecipe()
    short = make_recipe('fast', architecture='morphometric', classifier_steps=7)
    assert short.classifier.steps == 7
    assert isinstance(make_recipe('fast', architecture='sfcn').classifier, ClassifierRecipe)


def test_its_weights_are_all_that_a_model_needs(trained, tmp_path: Path) -> None:
    task, _ = trained
    network = fit_head(task.result(), task.cohort, task.fold, RECIPE, seed=0)
    save_file(network.state_dict(), tmp_path / 'classifier.safetensors')
    again = build_classifier('morphometric', GRID.shape, **RECIPE.arguments).eval()
    again.load_state_dict(load_file(tmp_path / 'classifier.safetensors'))
    images = task.cohort.images[task.fold.test]
    assert torch.equal(again(images), network(images))
    assert network(images).std() > 0
