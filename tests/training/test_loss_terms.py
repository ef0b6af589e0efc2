"""Terms of the losses as the training steps add them up, by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.spatial import to_voxels, warp
from bids_interp.training.classifier import ClassifierTask
from bids_interp.training.cohort.augment import SIMULATOR_AUGMENTATION, Transformation
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.ipmi2021 import PaperRecipe, PaperSimulatorTask, Turn
from bids_interp.training.loop.engine import StepTask
from bids_interp.training.losses import mean_difference, minimality
from bids_interp.training.simulator import Opponent, SimulatorTask, make_simulator
from helpers.balls import CLASSIFIER, GRID, SIMULATOR, binary_cohort, several_cohort

EVERYBODY = np.arange(16)


@pytest.fixture(scope='module')
def cohort() -> Cohort:
    return binary_cohort(16)


class Weighted(nn.Module):
    """A linear classifier: its gradient by the image are its weights."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(int(np.prod(GRID.shape)), outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.linear(image.flatten(1))


def weighted(outputs: int = 1) -> Weighted:
    torch.manual_seed(0)
    return Weighted(outputs).eval().requires_grad_(False)


def loss_of(task: StepTask, step: int = 0) -> float:
    """Loss of one step outside of a training; what it logs is not looked at."""
    task._trainer = SimpleNamespace(
        accumulate_grad_batches=1, world_size=1, global_rank=0, global_step=step
    )
    task.log = task.log_dict = lambda *_: None
    return float(task.training_step(None, 0).detach())


@pytest.mark.parametrize(('step', 'weight'), [(0, 4.0), (1, 0.0), (8, 4.0)])
def test_the_gradient_penalty_counts_as_often_as_it_should(
    cohort: Cohort, step: int, weight: float
) -> None:
    fold, losses = Fold(EVERYBODY, EVERYBODY, EVERYBODY), []
    for strength in (0.0, 0.5):
        recipe = replace(CLASSIFIER, gradient_penalty=strength, penalty_every=4)
        task = ClassifierTask(cohort, fold, recipe, seed=0)
        task.network = weighted()
        losses.append(loss_of(task, step))
    squared = float(task.network.linear.weight.square().sum())
    assert losses[1] - losses[0] == pytest.approx(0.5 * weight * squared, rel=1e-4)


def test_labels_are_smoothed_on_both_sides(cohort: Cohort) -> None:
    """A classifier that always says 2: half of the batch is patients."""
    fold = Fold(EVERYBODY, EVERYBODY, EVERYBODY)
    recipe = replace(CLASSIFIER, gradient_penalty=0.0, label_smoothing=0.1)
    task = ClassifierTask(cohort, fold, recipe, seed=0)
    task.network = weighted()
    task.network.linear.weight.zero_()
    task.network.linear.bias.fill_(2.0)
    chance = 1 / (1 + np.exp(-2.0))
    wanted = -np.mean([t * np.log(chance) + (1 - t) * np.log(1 - chance) for t in (0.1, 0.9)])
    assert loss_of(task) == pytest.approx(wanted, rel=1e-5)


def test_minimality_is_that_of_the_brain() -> None:
    """One half grows, the other shrinks by another rate; the mask holds voxels of one or both."""
    points = torch.from_numpy(GRID.world_coordinates())[None]
    rates = torch.where(points[:, :1] > 0, np.exp(0.3) - 1, np.exp(-0.1) - 1)
    field = torch.cat([rates * points[:, :1], torch.zeros_like(points[:, 1:])], dim=1)
    mask = torch.zeros(1, 1, *GRID.shape)
    mask[:, :, 10:14, 3:9] = 1
    assert float(minimality(field, GRID, mask)) == pytest.approx(0.3, rel=1e-4)
    mask[:, :, 2:6, 3:9] = 1
    both = torch.cat([field, field])
    assert float(minimality(both, GRID, mask)) == pytest.approx(0.2, rel=1e-4)


def simulator_task(cohort: Cohort, judge: nn.Module, **changes: Any) -> SimulatorTask:
    """The template stage against one classifier with a gap of 2 for each contrast."""
    plain: dict[str, Any] = {'roughness': 0.0, 'minimality': 0.0, 'transformed': False}
    recipe = replace(SIMULATOR, **{**plain, **changes})
    gaps = (2.0,) * len(cohort.target.contrasts)
    simulator = make_simulator(cohort, recipe)
    train = np.arange(len(cohort))
    return SimulatorTask(
        cohort, train, Opponent((judge,), (gaps,)), simulator, recipe, 'template', 0
    )


def test_image_and_simulation_get_the_same_transformation(cohort: Cohort) -> None:
    """Where nothing moves, no transformation shifts the score."""
    strong = replace(SIMULATOR_AUGMENTATION, gain=0.3, noise=0.2)
    plain = loss_of(simulator_task(cohort, weighted()))
    under = loss_of(simulator_task(cohort, weighted(), transformed=True, augmentation=strong))
    assert plain > 0.25
    assert under == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize('term', ['roughness', 'minimality'])
def test_terms_have_their_weight(cohort: Cohort, term: str) -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        task = simulator_task(cohort, weighted(), **{term: weight})
        torch.manual_seed(1)
        nn.init.normal_(task.simulator.template, std=0.3)
        losses.append(loss_of(task))
    assert losses[1] - losses[0] > 1e-3
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-3)


def test_minimality_leaves_out_what_is_not_brain(cohort: Cohort) -> None:
    """Without a brain where the template moves tissue, the weight does not matter."""
    points = GRID.world_coordinates()
    losses = []
    for weight in (0.0, 50.0):
        away = replace(cohort, mask=np.linalg.norm(points - 26.0, axis=0) < 14)
        task = simulator_task(away, weighted(), minimality=weight)
        lattice = torch.from_numpy(task.simulator.lattice.world_coordinates())
        near = torch.exp(-0.5 * (lattice + 10).square().sum(dim=0) / 4.0**2)
        task.simulator.template.data.copy_((0.5 * near)[None, None])
        losses.append(loss_of(task))
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)


class Seen(nn.Module):
    """Remembers the images that it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.images.append(image.detach().clone())
        return torch.zeros(len(image), 3)


def test_a_contrast_is_trained_with_its_own_classes() -> None:
    cohort = several_cohort()
    sums = cohort.images.sum(dim=(1, 2, 3, 4))
    for number, contrast in enumerate(cohort.target.contrasts):
        judge = Seen()
        task = simulator_task(cohort, judge, batch=30)
        task._draw = lambda rng, count, number=number: number if count == 3 else 0
        loss_of(task)
        found = judge.images[1].sum(dim=(1, 2, 3, 4))
        nearest = (found[:, None] - sums).abs().argmin(dim=1)
        names = {cohort.target.classes[label] for label in cohort.labels[nearest]}
        assert names == {contrast.negative, contrast.positive}


class Shrinking(nn.Module):
    """A pull-back displacement that shrinks the middle at dose 1, whatever the image."""

    def forward(self, image: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        points = torch.from_numpy(GRID.world_coordinates())[None]
        near = torch.exp(-0.5 * points.square().sum(dim=1, keepdim=True) / 12.0**2)
        return dose.view(-1, 1, 1, 1, 1) * 0.3 * points * near


class Mass(nn.Module):
    """Smaller balls have a larger logit."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return -0.01 * image.sum(dim=(1, 2, 3, 4))[:, None]


@pytest.fixture
def published(cohort: Cohort) -> PaperSimulatorTask:
    """Published training, without smoothness, on a cohort whose images are all the first one."""
    same = replace(cohort, images=cohort.images[:1].expand_as(cohort.images))
    recipe = PaperRecipe(batch=8, smoothness=0.0)
    sides = {1.0: EVERYBODY, -1.0: EVERYBODY}
    return PaperSimulatorTask(same, sides, Mass(), Shrinking(), recipe, 0)


def loss_of_turn(task: PaperSimulatorTask, sign: float, is_cycle: bool, **changes: float) -> float:
    task.recipe = replace(task.recipe, **changes)
    task.turns = [Turn(0, sign, False, is_cycle)]
    return loss_of(task)


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_the_published_hinge_falls_where_the_logit_goes_the_right_way(published, sign) -> None:
    """The margin less the shift, of injecting and of removing; no cycle in it."""
    image = published.cohort.images[:1]
    simulated = warp(image, Shrinking()(image, torch.tensor([sign])), GRID)
    moved = sign * float(Mass()(simulated) - Mass()(image))
    assert moved > 0.05
    assert loss_of_turn(published, sign, False) == pytest.approx(12.5 - moved, rel=1e-4)
    assert loss_of_turn(published, sign, False, margin=0.0) == 0.0


@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_the_published_cycle_comes_back(published, sign) -> None:
    """Nothing else is in its step: neither hinge nor smoothness."""
    image = published.cohort.images[:1]
    there = warp(image, Shrinking()(image, torch.tensor([sign])), GRID)
    back = warp(there, Shrinking()(image, torch.tensor([-sign])), GRID)
    wanted = float((back - image).square().mean())
    assert wanted > 1e-5
    found = loss_of_turn(published, sign, True, smoothness=1.0)
    assert found == pytest.approx(wanted, rel=1e-3)


def test_the_published_smoothness_is_part_of_the_hinge(published) -> None:
    image = published.cohort.images[:1]
    field = to_voxels(Shrinking()(image, torch.ones(1)), GRID)
    plain, weighted = (
        loss_of_turn(published, 1.0, False, smoothness=weight) for weight in (0.0, 2.0)
    )
    assert weighted - plain == pytest.approx(2 * float(mean_difference(field)), rel=1e-4)


def test_the_published_smoothness_by_hand() -> None:
    """Mean over the axes, in voxels; an axis of one voxel does not count."""
    ramp = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(2, 3, 6, 4, 5)
    # Each of three components grows by 1 along one of three axes.
    assert float(mean_difference(-ramp)) == pytest.approx(1 / 3)
    flat = ramp[..., :1].clone()
    flat[:, 2] = 0
    assert float(mean_difference(flat)) == pytest.approx(1 / 2)
    flat = flat.transpose(2, 4)[:, [2, 1, 0]]
    assert float(mean_difference(flat)) == pytest.approx(1 / 2)


def test_the_logit_of_the_published_hinge_before_has_no_gradient(published) -> None:
    """Else the hinge would also train what the classifier saw before."""
    graded = []

    class Watched(Mass):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            graded.append(torch.is_grad_enabled())
            return super().forward(image)

    published._frozen = [Watched()]
    loss_of_turn(published, 1.0, False)
    assert sorted(graded) == [False, True]


def test_a_simulation_is_transformed_as_it_is(cohort: Cohort) -> None:
    """The simulation first, then a shift by two voxels, which no interpolation blurs."""
    shift = torch.zeros(1, 3, *GRID.shape)
    shift[:, 0] = 8.0
    shifted = Transformation(shift, torch.ones(1, 1, 1, 1, 1), torch.zeros(1, 1, *GRID.shape))
    image = cohort.images[:1]
    pull_back = Shrinking()(image, torch.ones(1))
    at_once = shifted.apply(image, GRID, then=pull_back)
    simulated = warp(image, pull_back, GRID)
    torch.testing.assert_close(at_once[:, :, :-2], simulated[:, :, 2:], atol=1e-4, rtol=0)
    assert (at_once - warp(shifted.apply(image, GRID), pull_back, GRID)).abs().max() > 0.1
