"""Classifier training on one fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.evaluation.scores import auc
from bids_interp.models.networks.registry import build_classifier
from bids_interp.training.cohort.augment import (
    CLASSIFIER_AUGMENTATION,
    Augmentation,
    draw_transformation,
)
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.loop.engine import StepTask
from bids_interp.training.loop.randomness import step_generators
from bids_interp.training.losses import gradient_penalty

if TYPE_CHECKING:
    from bids_interp.training.morphometry import MorphometryRecipe


@dataclass(frozen=True)
class ClassifierRecipe:
    """Settings of the training of a classifier.

    Parameters
    ----------
    architecture, arguments
        Arguments of :func:`bids_interp.models.networks.registry.build_classifier`.
    steps, batch : int
        Number of steps, and images per step, balanced over the classes.
    optimizer, schedule : str
        See :class:`bids_interp.training.loop.engine.StepTask`.
    learning_rate, weight_decay : float
        Settings of the optimiser.
    gradient_penalty : float
        Weight of the squared norm of the input gradient. A classifier that does not depend on
        single voxels has maps that follow anatomy.
    penalty_every : int
        Steps between evaluations of the penalty, whose weight is multiplied by this number. Its
        double backward pass costs more than the rest of a step.
    label_smoothing : float
        Distance of the targets from 0 and 1.
    validate_every : int
        Steps between evaluations on the validation split; the best state is kept.
    augmentation : Augmentation, optional
        Random transformations, or None for no augmentation.
    """

    architecture: str = 'robust'
    arguments: dict[str, Any] = field(default_factory=dict)
    steps: int = 1600
    batch: int = 8
    optimizer: str = 'adamw'
    schedule: str = 'onecycle'
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    gradient_penalty: float = 3e-4
    penalty_every: int = 4
    label_smoothing: float = 0.05
    validate_every: int = 200
    augmentation: Augmentation | None = CLASSIFIER_AUGMENTATION


@dataclass(frozen=True)
class TrainedClassifier:
    """Frozen classifier of a fold, and the one that stands for it on the validation split.

    Parameters
    ----------
    network : torch.nn.Module
        Classifier that is explained.
    held_out : torch.nn.Module
        The same, or its state before it was fitted again with the validation split. Only this one
        may be calibrated and measured with the validation split.
    """

    network: nn.Module
    held_out: nn.Module


def restored(
    recipe: ClassifierRecipe | MorphometryRecipe,
    cohort: Cohort,
    weights: dict[str, torch.Tensor],
    members: int = 1,
) -> nn.Module:
    """Return the frozen classifier of a recipe with its weights, for the images of a cohort."""
    network = build_classifier(
        recipe.architecture,
        cohort.grid.shape,
        members,
        **recipe.arguments,
        outputs=cohort.target.n_outputs,
    )
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def predict_outputs(network: nn.Module, images: torch.Tensor, batch: int = 16) -> np.ndarray:
    """Predict outputs (N, K) of images (N, 1, X, Y, Z) in evaluation mode."""
    device = next((parameter.device for parameter in network.parameters()), torch.device('cpu'))
    was_training = network.training
    if was_training:
        network.eval()
    parts = [network(part.to(device)).float().cpu() for part in images.split(batch)]
    if was_training:
        network.train()
    return torch.cat(parts).numpy()


class ClassifierTask(StepTask):
    """Training of a classifier that keeps the state with the lowest validation loss."""

    def __init__(self, cohort: Cohort, fold: Fold, recipe: ClassifierRecipe, seed: int) -> None:
        super().__init__(recipe.optimizer, recipe.schedule)
        self.cohort, self.fold, self.recipe, self.seed = cohort, fold, recipe, seed
        self.learning_rate, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.max_steps = recipe.steps
        torch.manual_seed(seed)
        self.network = build_classifier(
            recipe.architecture,
            cohort.grid.shape,
            **recipe.arguments,
            outputs=cohort.target.n_outputs,
        )
        self.best_loss = float('inf')
        self.best_state: dict[str, torch.Tensor] = {}
        labels = cohort.labels[fold.train]
        is_regression = cohort.target.kind == 'regression'
        self.strata = (
            [fold.train]
            if is_regression
            else [fold.train[labels == i] for i in range(len(cohort.target.classes))]
        )
        values = cohort.standardised() if is_regression else cohort.labels
        self.truth = torch.as_tensor(values)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Return loss plus gradient penalty on a balanced, transformed batch."""
        recipe, grid = self.recipe, self.cohort.grid
        step = self.global_step
        rng, generator = step_generators(self.seed, 'classifier', step)
        share = max(1, recipe.batch // len(self.strata))
        chosen = np.concatenate([rng.choice(side, share) for side in self.strata])
        contrast = self._draw_contrast(rng)
        images = self.cohort.images[chosen]
        drawn = (
            None
            if recipe.augmentation is None
            else draw_transformation(recipe.augmentation, len(images), grid, generator)
        )
        mine = self.part(len(chosen), batch_index)
        images = images[mine].to(self.device)
        if drawn is not None:
            images = drawn.take(mine).to(self.device).apply(images, grid)
        penalised = recipe.gradient_penalty > 0 and step % recipe.penalty_every == 0
        with self.mixed_precision():
            outputs = self.network(images.requires_grad_(penalised)).float()
        loss = self._loss(outputs, self.truth[chosen][mine].to(self.device), recipe.label_smoothing)
        self.log('loss', loss.detach())
        if penalised:
            score = outputs @ self.cohort.target.weights(self.device)[contrast]
            penalty = gradient_penalty(score, images)
            self.log('input_gradient', penalty.detach())
            loss = loss + recipe.gradient_penalty * recipe.penalty_every * penalty
        return self.check_finite(loss)

    def _draw_contrast(self, rng: np.random.Generator) -> int:
        count = len(self.cohort.target.contrasts)
        return int(rng.integers(count)) if count > 1 else 0

    def _loss(
        self, outputs: torch.Tensor, truth: torch.Tensor, smoothing: float = 0.0
    ) -> torch.Tensor:
        """Return the cross-entropy, or the mean squared error of a regression."""
        kind = self.cohort.target.kind
        if kind == 'multiclass':
            return F.cross_entropy(outputs, truth.long(), label_smoothing=smoothing)
        truth = truth.float()
        if kind == 'regression':
            return F.mse_loss(outputs[:, 0], truth)
        targets = truth * (1 - 2 * smoothing) + smoothing
        return F.binary_cross_entropy_with_logits(outputs[:, 0], targets)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Validate before a step, so that a resumed run repeats the validation."""
        is_due = self.global_step and self.global_step % self.recipe.validate_every == 0
        if is_due and batch_index % self.trainer.accumulate_grad_batches == 0:
            self.log_dict(self._validate())

    def finish(self) -> None:
        """Validate the last state."""
        self._validate()

    def _validate(self) -> dict[str, float]:
        """Keep the state that is best on the validation split."""
        chosen = self.fold.validation
        outputs = predict_outputs(self.network, self.cohort.images[chosen])
        loss = float(self._loss(torch.from_numpy(outputs), self.truth[chosen]))
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_state = {
                name: value.detach().cpu().clone()
                for name, value in self.network.state_dict().items()
            }
        logged = {'validation_loss': loss}
        labels = self.cohort.labels[chosen]
        if self.cohort.target.kind == 'binary' and len(np.unique(labels)) == 2:
            logged['validation_auc'] = auc(outputs[:, 0], labels)
        return logged

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the best state in the checkpoint."""
        checkpoint['best_loss'], checkpoint['best_state'] = self.best_loss, self.best_state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the best state."""
        self.best_loss, self.best_state = checkpoint['best_loss'], checkpoint['best_state']

    def result(self) -> nn.Module:
        """Return the network in its best state, frozen."""
        self.network.load_state_dict(self.best_state)
        return self.network.eval().requires_grad_(False)
