"""Training of the simulator of Liu et al., IPMI 2021, as in the published code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bids_interp.errors import UsageError
from bids_interp.models.networks.ipmi2021 import MULTIPLE
from bids_interp.spatial import along_axes, to_voxels, warp
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.engine import StepTask
from bids_interp.training.loop.optimizers import AlternatingAdam
from bids_interp.training.loop.randomness import derived_seed, step_generators
from bids_interp.training.losses import mean_difference

#: First iteration with steps of the cycle loss, counted from 0.
FIRST_CYCLE = 4
#: Chance of the last step of an iteration.
LAST_STEP = 0.7


@dataclass(frozen=True)
class PaperRecipe:
    """Settings of the published training.

    Parameters
    ----------
    steps : int
        Number of iterations, each of up to eight optimiser steps. The authors trained for 1501 and
        show the weights after 950; the rates are constant, so that training can end there.
    batch : int
        Images per step.
    hinge_rate, cycle_rate : float
        Learning rates of Adam for the two losses.
    weight_decay : float
        Weight decay of Adam, in the gradient.
    margin : float
        Margin of the hinge in logits, independent of the scale of the classifier.
    smoothness : float
        Weight of the mean absolute difference of the displacement in voxels, beside the hinge.
    least_auc : float
        Area under the curve of the classifier on the validation split below which there is nothing
        to explain.
    """

    steps: int = 950
    batch: int = 40
    hinge_rate: float = 2e-4
    cycle_rate: float = 1e-4
    weight_decay: float = 1e-4
    margin: float = 12.5
    smoothness: float = 4e-5
    least_auc: float = 0.85

    #: The published simulator has no stages and no candidates.
    capacity: str = 'ipmi2021'

    def network_arguments(self) -> dict[str, Any]:
        """Return the arguments of the simulator as stored in the bundle."""
        return {'capacity': self.capacity}


class Turn(NamedTuple):
    """Optimiser step: its iteration, the direction and choice of its images, and its loss."""

    iteration: int
    sign: float
    is_random: bool
    is_cycle: bool

    @property
    def optimizer(self) -> int:
        """Number of the Adam: of the hinge (remove, inject), then of the cycle loss."""
        return 2 * self.is_cycle + (self.sign > 0)


def plan_turns(iterations: int, seed: int) -> list[Turn]:
    """Return the optimiser steps of a training in their order.

    An iteration has a sequential and a random batch of images to remove from, then of images to
    inject into. Each batch has a step of the cycle loss and one of the hinge.

    Examples
    --------
    >>> [len(plan_turns(count, seed=1)) for count in (4, 5)]
    [15, 23]
    """
    turns = []
    for iteration in range(iterations):
        own = [
            Turn(iteration, sign, is_random, is_cycle)
            for sign, is_random, is_cycle in product((-1.0, 1.0), (False, True), (True, False))
            if iteration >= FIRST_CYCLE or not is_cycle
        ]
        drawn = np.random.default_rng(derived_seed(seed, 'last', iteration)).random()
        turns += own if drawn < LAST_STEP else own[:-1]
    return turns


def check_published_grid(shape: Sequence[int]) -> None:
    """Refuse a grid that the published simulator cannot halve often enough.

    Raises
    ------
    UsageError
        If a size is neither 1 nor a multiple of the downsampling factor.
    """
    if any(size % one for size, one in zip(shape, along_axes(shape, MULTIPLE), strict=True)):
        raise UsageError(
            f'--preset ipmi2021 needs grid sizes that are multiples of {MULTIPLE}, '
            f'not {" x ".join(map(str, shape))}.',
            'Choose another --grid-size, or another --preset if the grid is given by '
            '--classifier-card.',
        )


def check_published_target(kind: str) -> None:
    """Refuse a regression: neither margin nor gate is published for numbers.

    Raises
    ------
    UsageError
        If the target is a number.
    """
    if kind == 'regression':
        raise UsageError(
            '--preset ipmi2021 requires classes: --positive and --negative, or --classes.',
            'Other presets also support numbers.',
        )


class PaperSimulatorTask(StepTask):
    """Training of the published network of a contrast against a frozen classifier.

    Parameters
    ----------
    cohort : Cohort
        Cohort with the images.
    sides : mapping
        Images of each direction, none of which is empty, see
        :func:`bids_interp.training.ipmi2021_gate.recognised_images`.
    classifier : torch.nn.Module
        Frozen classifier in evaluation mode.
    simulator : torch.nn.Module
        Network to train, from images and doses to displacements in mm.
    recipe : PaperRecipe
        Settings.
    seed : int
        Random seed.
    number : int
        Index of the contrast.
    """

    coarsest = MULTIPLE

    def __init__(
        self,
        cohort: Cohort,
        sides: Mapping[float, np.ndarray],
        classifier: nn.Module,
        simulator: nn.Module,
        recipe: PaperRecipe,
        seed: int,
        number: int = 0,
    ) -> None:
        super().__init__()
        self.cohort, self.sides, self.recipe, self.seed = cohort, sides, recipe, seed
        self.simulator, self.number = simulator, number
        # In a list, outside the module tree, so that checkpoints do not contain the classifier.
        self._frozen = [classifier]
        self.turns = plan_turns(recipe.steps, seed)
        self.max_steps = len(self.turns)

    def configure_optimizers(self) -> AlternatingAdam:
        """Make an Adam for each loss and direction, all of them over the same weights."""
        recipe = self.recipe
        rates = [recipe.hinge_rate] * 2 + [recipe.cycle_rate] * 2
        turns = [turn.optimizer for turn in self.turns]
        return AlternatingAdam(self.trained_parameters(), rates, turns, recipe.weight_decay)

    def on_fit_start(self) -> None:
        """Move the classifier to the device."""
        self._frozen[0].to(self.device)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Return the loss of this turn."""
        step_generators(self.seed, 'paper', self.global_step)  # Dropout of the routing.
        turn = self.turns[self.global_step]
        mine = self.part(self.recipe.batch, batch_index)
        images = self.cohort.images[self._chosen(turn)][mine].to(self.device)
        dose = images.new_full((len(images),), turn.sign)
        return self.check_finite((self._cycle if turn.is_cycle else self._hinge)(images, dose))

    def _chosen(self, turn: Turn) -> np.ndarray:
        """Return the images of a turn: the next in a fixed order, or the first in a random one."""
        drawn = (turn.iteration,) if turn.is_random else ()
        rng = np.random.default_rng(derived_seed(self.seed, 'batch', turn.sign, *drawn))
        order = rng.permutation(self.sides[turn.sign])
        first = 0 if turn.is_random else turn.iteration * self.recipe.batch
        return order[(first + np.arange(self.recipe.batch)) % len(order)]

    def _hinge(self, images: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        recipe, grid = self.recipe, self.cohort.grid
        field = self._displacement(images, dose)
        after = self._score(warp(images, field, grid))
        with torch.no_grad():
            before = self._score(images)
        hinge = torch.relu((before - after) * dose + recipe.margin).mean()
        rough = mean_difference(to_voxels(field, grid))
        self.log_dict({'hinge': hinge.detach(), 'rough': rough.detach()})
        return hinge + recipe.smoothness * rough

    def _cycle(self, images: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        grid = self.cohort.grid
        simulated = warp(images, self._displacement(images, dose), grid)
        returned = warp(simulated, self._displacement(simulated, -dose), grid)
        cycle = (returned - images).square().mean()
        self.log('cycle', cycle.detach())
        return cycle

    def _score(self, images: torch.Tensor) -> torch.Tensor:
        weights = self.cohort.target.weights(self.device)[self.number]
        with self.mixed_precision():
            outputs = self._frozen[0](images)
        return outputs.float() @ weights

    def _displacement(self, images: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        with self.mixed_precision():
            return self.simulator(images, dose).float()
