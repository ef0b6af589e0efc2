"""Training of the morphometric classifier: volumes without labels, then a sparse sum with them.

The network that measures volumes learns from deformations that are drawn here, so that what it has
to say of each image is known exactly, and there is no end of examples. From the labels of few
subjects alone no classifier learns that: a structure that is 15 % smaller moves its border by
half a millimetre, while borders of healthy brains differ by several.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bids_interp.models.morphometric import MorphometricClassifier, VolumeNetwork, half_shape
from bids_interp.spatial import Grid, jacobian_determinant, smooth, warp
from bids_interp.training.augment import Augmentation, draw
from bids_interp.training.cohort import Cohort
from bids_interp.training.engine import StepTask
from bids_interp.training.folds import Fold
from bids_interp.training.randomness import derived_seed, step_generators
from bids_interp.training.sparse import fit_sparse

#: Deformations on two scales, and what must not matter; log-volumes with a deviation of 0.17.
COARSE = Augmentation(shift_mm=1.5, warp_mm=3.0, knots_mm=36.0)
FINE = Augmentation(
    affine=0.0, shift_mm=0.0, warp_mm=1.5, knots_mm=20.0, gain=0.0, bias=0.0, noise=0.0
)
#: A volume below this share is taken for this share: there the grid is too coarse for the warp.
SMALLEST_VOLUME = 0.2


@dataclass(frozen=True)
class MorphometryRecipe:
    """How a morphometric classifier is trained.

    Parameters
    ----------
    architecture, arguments
        Of :func:`bids_interp.models.classifier.build_classifier`.
    steps, batch : int
        Steps of the network for volumes, and images a step: two deformations of half as many.
    learning_rate, weight_decay : float
        Of its optimiser.
    validate_every : int
        Steps between looks at the validation split; they choose nothing.
    deformations : tuple of Augmentation
        The first one with what must not matter (brightness, noise), all with their displacements.
    smoothing_mm : float
        Standard deviation of the Gaussian of the maps of volumes that are summed, and so of the
        weights of the sum.
    """

    architecture: str = 'morphometric'
    arguments: dict[str, Any] = field(default_factory=dict)
    steps: int = 1200
    batch: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3
    validate_every: int = 200
    deformations: tuple[Augmentation, ...] = (COARSE, FINE)
    smoothing_mm: float = 6.0


class VolumeTask(StepTask):
    """Train a network to say how much a random deformation has changed each place.

    Each step looks at two deformations of the same images. Their difference does not depend on the
    anatomy that an image has of its own, which nobody knows; so the difference of the two answers
    is held against the known one, and each answer alone with half the weight.

    Parameters
    ----------
    cohort : Cohort
        Images; labels are not looked at.
    fold : Fold
        Trained with ``train``; ``validation`` is only looked at.
    recipe : MorphometryRecipe
        How.
    seed : int
        Of everything random.
    """

    def __init__(self, cohort: Cohort, fold: Fold, recipe: MorphometryRecipe, seed: int) -> None:
        super().__init__()
        self.cohort, self.fold, self.recipe, self.seed = cohort, fold, recipe, seed
        self.learning_rate, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.max_steps = recipe.steps
        torch.manual_seed(seed)
        self.network = VolumeNetwork(cohort.grid.shape, **recipe.arguments)
        self.network.mean.copy_(cohort.images[fold.train].mean(dim=0, keepdim=True))
        inside = torch.from_numpy(cohort.mask.astype(np.float32))[None, None]
        self.inside: torch.Tensor
        self.register_buffer('inside', F.avg_pool3d(inside, 2), persistent=False)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Squared error of a batch of pairs."""
        pairs = max(1, self.recipe.batch // 2)
        mine = self.part(pairs, batch_index)
        parts = step_generators(self.seed, 'volumes', self.global_step)
        loss = self._loss(self.fold.train, pairs, mine, *parts)
        self.log('loss', loss.detach())
        return self.check_finite(loss)

    def _loss(
        self,
        images: np.ndarray,
        pairs: int,
        mine: slice,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> torch.Tensor:
        chosen = np.tile(rng.choice(images, pairs), 2)
        both = np.arange(2 * pairs).reshape(2, pairs)[:, mine].ravel()
        grid = self.cohort.grid
        deformed, volumes = deform(
            self.cohort.images[chosen], self.recipe.deformations, grid, generator
        )
        deformed, volumes = deformed[both].to(self.device), volumes[both].to(self.device)
        with self.mixed_precision():
            error = self.network(deformed).float() - volumes
        first, second = error.chunk(2)
        inside = self.inside / self.inside.sum()
        apart = ((first - second).square() * inside).sum() / len(first)
        alone = (error.square() * inside).sum() / len(error)
        return 0.5 * (apart + alone)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Look at the validation split before a step, as the training of a classifier does."""
        is_due = self.global_step and self.global_step % self.recipe.validate_every == 0
        if is_due and batch_index % self.trainer.accumulate_grad_batches == 0:
            parts = step_generators(self.seed, 'validation', 0)
            self.network.eval()
            with torch.no_grad():
                loss = self._loss(self.fold.validation, 4, slice(None), *parts)
            self.network.train()
            self.log('validation_loss', loss)

    def result(self) -> VolumeNetwork:
        """The trained network, frozen."""
        frozen: VolumeNetwork = self.network.eval().requires_grad_(False)
        return frozen


@torch.no_grad()
def deform(
    images: torch.Tensor,
    deformations: tuple[Augmentation, ...],
    grid: Grid,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Deform images at random.

    Parameters
    ----------
    images : torch.Tensor
        (B, 1, X, Y, Z).
    deformations : tuple of Augmentation
        Displacements add up; gain and noise are those of the first one.
    grid : Grid
        Of the images.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    deformed : torch.Tensor
        (B, 1, X, Y, Z).
    volumes : torch.Tensor
        (B, 1, X/2, Y/2, Z/2) log-volume of the tissue seen at each place after the deformation
        relative to before: minus the log-Jacobian of the pull-back.
    """
    drawn = [draw(strength, len(images), grid, generator) for strength in deformations]
    pull_back = sum((one.displacement for one in drawn[1:]), start=drawn[0].displacement)
    deformed = warp(images, pull_back, grid) * drawn[0].gain + drawn[0].noise
    shares = jacobian_determinant(pull_back, grid).clamp_min(SMALLEST_VOLUME)
    return deformed, F.avg_pool3d(-shares.log(), 2)


@torch.no_grad()
def measure(network: VolumeNetwork, images: torch.Tensor, batch: int = 16) -> torch.Tensor:
    """Maps (N, 1, X/2, Y/2, Z/2) of images (N, 1, X, Y, Z), on the CPU."""
    device = network.mean.device
    return torch.cat([network(part.to(device)).cpu() for part in images.split(batch)])


def fit_head(
    network: VolumeNetwork, cohort: Cohort, fold: Fold, recipe: MorphometryRecipe, seed: int
) -> MorphometricClassifier:
    """Learn from the labels of the training split which volumes to sum up.

    Parameters
    ----------
    network : VolumeNetwork
        Trained.
    cohort, fold, recipe
        As for :class:`VolumeTask`.
    seed : int
        Of the inner folds.

    Returns
    -------
    MorphometricClassifier
        Frozen, on the CPU.
    """
    network = network.cpu()
    grid = pooled_grid(cohort.grid)
    inside = F.avg_pool3d(torch.from_numpy(cohort.mask.astype(np.float32))[None, None], 2) > 0.5
    maps = smooth(measure(network, cohort.images[fold.train]), recipe.smoothing_mm, grid)
    features = maps[inside.expand_as(maps)].view(len(maps), -1).numpy()
    is_regression = cohort.target.kind == 'regression'
    values = cohort.standardised() if is_regression else cohort.labels
    weights, offsets = fit_sparse(
        features,
        values[fold.train],
        cohort.families[fold.train],
        is_regression=is_regression,
        seed=derived_seed(seed, 'sparse') % 2**31,
    )
    classifier = MorphometricClassifier(
        cohort.grid.shape, **recipe.arguments, outputs=cohort.target.n_outputs
    )
    classifier.volumes.load_state_dict(network.state_dict())
    spread = torch.zeros(len(weights), 1, *grid.shape)
    spread[inside.expand_as(spread)] = torch.from_numpy(weights.astype(np.float32)).ravel()
    # The Gaussian is symmetric: sums of smoothed volumes are smoothed sums of volumes.
    spread = smooth(spread, recipe.smoothing_mm, grid)
    with torch.no_grad():
        classifier.head.weight.copy_(spread.flatten(1))
        classifier.head.bias.copy_(torch.from_numpy(offsets.astype(np.float32)))
    return classifier.eval().requires_grad_(False)


def pooled_grid(grid: Grid) -> Grid:
    """Grid of the means of two voxels along each axis."""
    affine = grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (grid.affine @ np.array([0.5, 0.5, 0.5, 1.0]))[:3]
    return Grid(half_shape(grid.shape), affine, grid.space)
