"""Simulator training against the frozen classifiers of a fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bids_interp.models.networks.simulator import Simulator
from bids_interp.spatial import exponential, warp
from bids_interp.training.cohort.augment import (
    SIMULATOR_AUGMENTATION,
    Augmentation,
    draw_transformation,
)
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.engine import StepTask
from bids_interp.training.loop.randomness import step_generators
from bids_interp.training.losses import minimality, roughness, shift_hinge


@dataclass(frozen=True)
class SimulatorRecipe:
    """Settings of the training of a simulator.

    Parameters
    ----------
    capacity : str
        See :class:`bids_interp.models.networks.simulator.Simulator`.
    smoothing_mm : float
        Smoothing of the velocity: standard deviation of the Gaussian.
    width : int
        Width of the residual network.
    template_steps, residual_steps : int
        Steps of the template velocity, then of the residual (0 for capacity ``template``).
    batch : int
        Images per step.
    template_rate, residual_rate : float
        Learning rates of the two stages.
    template_optimizer : str
        Optimiser of the template, see :class:`bids_interp.training.loop.engine.StepTask`.
    roughness, minimality : float
        Weights of the two penalties.
    candidates : tuple of float
        Weights of minimality to choose from, see :mod:`bids_interp.training.selection`. If empty,
        ``minimality`` is used.
    transformed : bool
        Whether images and simulations are randomly transformed before the classifier sees them.
    augmentation : Augmentation
        Strength of these transformations.
    """

    capacity: str = 'template'
    smoothing_mm: float = 4.0
    width: int = 8
    template_steps: int = 160
    residual_steps: int = 0
    batch: int = 6
    template_rate: float = 3e-2
    residual_rate: float = 1e-3
    template_optimizer: str = 'adamw'
    roughness: float = 1.0
    minimality: float = 1.0
    candidates: tuple[float, ...] = ()
    transformed: bool = True
    augmentation: Augmentation = SIMULATOR_AUGMENTATION

    def network_arguments(self) -> dict[str, Any]:
        """Return the arguments of the simulator as stored in the bundle."""
        return {
            'capacity': self.capacity,
            'smoothing_mm': self.smoothing_mm,
            'width': self.width,
        }


@dataclass(frozen=True)
class Opponent:
    """Frozen classifiers that a simulator is trained against.

    Parameters
    ----------
    members : tuple of torch.nn.Module
        Classifiers in evaluation mode with frozen weights. Each step draws one of them.
    gaps : tuple of tuple of float
        Class gaps of each member, one per contrast.
    """

    members: tuple[nn.Module, ...]
    gaps: tuple[tuple[float, ...], ...]


def make_simulator(cohort: Cohort, recipe: SimulatorRecipe) -> Simulator:
    """Make the untrained simulator of a recipe, with a pattern for each contrast of the cohort."""
    contrasts = len(cohort.target.contrasts)
    return Simulator(cohort.grid, cohort.mask, **recipe.network_arguments(), contrasts=contrasts)


class SimulatorTask(StepTask):
    """One stage of the training of a simulator against frozen classifiers.

    Parameters
    ----------
    cohort : Cohort
        Cohort with the images.
    train : numpy.ndarray
        Indices of the training split of the fold.
    opponent : Opponent
        Frozen classifiers.
    simulator : Simulator
        Simulator to train.
    recipe : SimulatorRecipe
        Settings.
    stage : {'template', 'residual'}
        Parameters to train.
    seed : int
        Random seed.
    """

    def __init__(
        self,
        cohort: Cohort,
        train: np.ndarray,
        opponent: Opponent,
        simulator: Simulator,
        recipe: SimulatorRecipe,
        stage: str,
        seed: int,
    ) -> None:
        super().__init__(recipe.template_optimizer if stage == 'template' else 'adamw')
        self.cohort, self.train_indices = cohort, train
        self.recipe, self.stage, self.seed = recipe, stage, seed
        self.simulator = simulator
        # In a list, outside the module tree, so that checkpoints do not contain the classifiers.
        self._frozen = [opponent]
        in_template = stage == 'template'
        self.max_steps = recipe.template_steps if in_template else recipe.residual_steps
        self.learning_rate = recipe.template_rate if in_template else recipe.residual_rate
        self.mask: torch.Tensor
        self.register_buffer(
            'mask', torch.from_numpy(cohort.mask.astype(np.float32))[None, None], persistent=False
        )
        simulator.template.requires_grad_(in_template)
        if simulator.residual is not None:
            simulator.residual.requires_grad_(not in_template)

    def on_fit_start(self) -> None:
        """Move the classifiers to the device."""
        for member in self._frozen[0].members:
            member.to(self.device)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Return the sum of hinge, roughness and minimality on a batch with random doses."""
        recipe, grid = self.recipe, self.cohort.grid
        rng, generator = step_generators(self.seed, self.stage, self.global_step)
        contrast = self._draw(rng, len(self.cohort.target.contrasts))
        chosen = rng.choice(self._images_of(contrast), recipe.batch)
        mine = self.part(recipe.batch, batch_index)
        images = self.cohort.images[chosen][mine].to(self.device)
        # One half of the batch is injected and the other removed, at the same dose.
        signs = torch.tensor([1.0, -1.0], device=self.device).repeat(recipe.batch)
        dose = (signs[: recipe.batch] * (0.25 + 0.75 * float(rng.random())))[mine]

        if self.stage == 'template':
            velocity, forward, backward = self._shared_flow(dose, contrast)
        else:
            velocity = self.simulator(images, dose, contrast)
            forward, backward = exponential(velocity, grid), exponential(-velocity, grid)
        hinge = self._hinge(images, backward, dose, contrast, mine, rng, generator)
        rough = roughness(velocity, grid)
        small = minimality(forward, grid, self.mask)
        loss = hinge + recipe.roughness * rough + recipe.minimality * small
        self.log_dict({'hinge': hinge.detach(), 'rough': rough.detach(), 'log_j': small.detach()})
        return self.check_finite(loss)

    @staticmethod
    def _draw(rng: np.random.Generator, count: int) -> int:
        return int(rng.integers(count)) if count > 1 else 0

    def _images_of(self, contrast: int) -> np.ndarray:
        """Return the training images of the classes of a contrast (all, for a regression)."""
        target = self.cohort.target
        if target.kind != 'multiclass':
            return self.train_indices
        chosen = target.contrasts[contrast]
        sides = [target.classes.index(name) for name in (chosen.negative, chosen.positive)]
        return self.train_indices[np.isin(self.cohort.labels[self.train_indices], sides)]

    def _shared_flow(
        self, dose: torch.Tensor, contrast: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Velocity (2, ...) and forward and backward displacements (B, ...) of the template.

        The template does not depend on the image. Two exponentials therefore serve the whole batch:
        the backward map of an injection is the forward map of a removal at the same dose.
        """
        residual, self.simulator.residual = self.simulator.residual, None
        both = dose[:1].abs() * dose.new_tensor([1.0, -1.0])
        try:
            velocity = self.simulator(dose.new_empty(2), both, contrast)
        finally:
            self.simulator.residual = residual
        flows = exponential(velocity, self.cohort.grid)
        sides = (dose < 0).long()
        return velocity, flows[sides], flows[1 - sides]

    def _hinge(
        self,
        images: torch.Tensor,
        backward: torch.Tensor,
        dose: torch.Tensor,
        contrast: int,
        mine: slice,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Hinge on the change of the score, with one random transformation of both images.

        Image and simulation are interpolated once each, because classifiers would notice the blur
        of a second interpolation.
        """
        opponent, grid = self._frozen[0], self.cohort.grid
        if self.recipe.transformed:
            recipe = self.recipe
            drawn = draw_transformation(recipe.augmentation, recipe.batch, grid, generator)
            drawn = drawn.take(mine).to(self.device)
            simulated = drawn.apply(images, grid, then=backward)
            images = drawn.apply(images, grid)
        else:
            simulated = warp(images, backward, grid)
        number = self._draw(rng, len(opponent.members))
        weights = self.cohort.target.weights(self.device)[contrast]
        with self.mixed_precision():
            after = opponent.members[number](simulated)
            with torch.no_grad():
                before = opponent.members[number](images)
        shift = (after.float() - before.float()) @ weights
        return shift_hinge(shift, dose, opponent.gaps[number][contrast])
