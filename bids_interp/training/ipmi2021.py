"""Training of the simulator of Liu et al., IPMI 2021, with the published settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bids_interp.errors import UsageError
from bids_interp.models.networks.ipmi2021 import MULTIPLE, PaperSimulator
from bids_interp.spatial import to_voxels, warp
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.engine import StepTask
from bids_interp.training.loop.randomness import step_generators
from bids_interp.training.simulator import Opponent


@dataclass(frozen=True)
class PaperRecipe:
    """Settings of the published training.

    Parameters
    ----------
    steps, batch : int
        Number of steps, and images per step.
    learning_rate : float
        Learning rate of Adam.
    margin : float
        Margin of the hinge in logits, independent of the scale of the classifier.
    smoothness : float
        Weight of the mean absolute gradient of the displacement in voxels.
    cycle : float
        Weight of the squared difference between an image and its round trip. The authors take a
        second Adam step at half the rate; here both losses share one step, with half the weight.
    """

    steps: int = 1000
    batch: int = 40
    learning_rate: float = 2e-4
    margin: float = 12.5
    smoothness: float = 4e-5
    cycle: float = 0.5

    #: The published simulator has no stages and no candidates.
    capacity: str = 'ipmi2021'

    def network_arguments(self) -> dict[str, Any]:
        """Return the arguments of the simulator as stored in the bundle."""
        return {'capacity': self.capacity}


def check_published_grid(shape: Sequence[int]) -> None:
    """Refuse a grid that the published simulator cannot halve often enough.

    Raises
    ------
    UsageError
        If a size is not a multiple of the downsampling factor.
    """
    if any(size % MULTIPLE for size in shape):
        raise UsageError(
            f'--preset ipmi2021 needs grid sizes that are multiples of {MULTIPLE}, '
            f'not {" x ".join(map(str, shape))}.',
            'Choose another --grid-size, or another --preset if the grid is given by '
            '--classifier-card.',
        )


class PaperSimulatorTask(StepTask):
    """Training of the published simulator against one frozen classifier.

    Parameters
    ----------
    cohort, train, opponent, simulator, recipe, seed
        See :class:`bids_interp.training.simulator.SimulatorTask`.
    """

    coarsest = MULTIPLE

    def __init__(
        self,
        cohort: Cohort,
        train: np.ndarray,
        opponent: Opponent,
        simulator: PaperSimulator,
        recipe: PaperRecipe,
        seed: int,
    ) -> None:
        super().__init__('adam', 'constant')
        self.cohort, self.train_indices, self.recipe, self.seed = cohort, train, recipe, seed
        self.simulator = simulator
        self._frozen = [opponent.members[0]]
        self.max_steps, self.learning_rate = recipe.steps, recipe.learning_rate

    def on_fit_start(self) -> None:
        """Move the classifier to the device."""
        self._frozen[0].to(self.device)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Return hinge + smoothness + cycle loss, with every image in both directions."""
        recipe, grid, classifier = self.recipe, self.cohort.grid, self._frozen[0]
        rng, _ = step_generators(self.seed, 'paper', self.global_step)
        chosen = rng.choice(self.train_indices, recipe.batch)
        images = self.cohort.images[chosen][self.part(recipe.batch, batch_index)].to(self.device)
        with self.mixed_precision(), torch.no_grad():
            before = classifier(images)[:, 0].float()
        hinge, smooth, cycle = images.new_zeros(3)
        for sign in (1.0, -1.0):
            dose = torch.full((len(images),), sign, device=self.device)
            field = self._displacement(images, dose)
            simulated = warp(images, field, grid)
            with self.mixed_precision():
                after = classifier(simulated)[:, 0].float()
            hinge = hinge + torch.relu((before - after) * sign + recipe.margin).mean()
            voxels = to_voxels(field, grid)
            smooth = smooth + sum(voxels.diff(dim=axis).abs().mean() for axis in (2, 3, 4))
            returned = warp(simulated, self._displacement(simulated, -dose), grid)
            cycle = cycle + (returned - images).square().mean()
        self.log_dict({'hinge': hinge.detach(), 'rough': smooth.detach(), 'cycle': cycle.detach()})
        return self.check_finite(hinge + recipe.smoothness * smooth + recipe.cycle * cycle)

    def _displacement(self, images: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        with self.mixed_precision():
            return self.simulator(images, dose).float()
