"""Training of the simulator of Liu et al., IPMI 2021, with its published numbers."""

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
    """Numbers of the paper's training.

    Parameters
    ----------
    steps, batch : int
        Steps, and images a step.
    learning_rate : float
        Of Adam.
    margin : float
        Of the hinge, in logits, whatever the classifier's scale.
    smoothness : float
        Weight of the mean absolute gradient of the displacement in voxels.
    cycle : float
        Weight of the squared difference after there and back. The authors take a second Adam step
        of half the rate for it; here both losses share one step, with half the weight.
    """

    steps: int = 1000
    batch: int = 40
    learning_rate: float = 2e-4
    margin: float = 12.5
    smoothness: float = 4e-5
    cycle: float = 0.5

    #: No stages, no candidates: what other recipes have.
    capacity: str = 'ipmi2021'

    def network_arguments(self) -> dict[str, Any]:
        """Arguments of the simulator, as the bundle keeps them."""
        return {'capacity': self.capacity}


def check_published_grid(shape: Sequence[int]) -> None:
    """Refuse a grid that the published simulator cannot halve as often as it has to.

    Raises
    ------
    UsageError
        Naming where the grid may come from.
    """
    if any(size % MULTIPLE for size in shape):
        raise UsageError(
            f'The simulator of --preset ipmi2021 needs sizes that are multiples of {MULTIPLE}, '
            f'not {" x ".join(map(str, shape))}.',
            'Choose such a --grid-size; where the grid is that of a classifier of your own '
            '(--classifier-card), take another --preset.',
        )


class PaperSimulatorTask(StepTask):
    """Train it against one frozen classifier.

    Parameters
    ----------
    cohort, train, opponent, simulator, recipe, seed
        As in :class:`bids_interp.training.simulator.SimulatorTask`.
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
        """Bring the classifier to the device."""
        self._frozen[0].to(self.device)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Hinge + smoothness + cycle, every image in both directions."""
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
