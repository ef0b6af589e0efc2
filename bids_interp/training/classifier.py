"""Training of a robust classifier on one fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.evaluation.scores import auc
from bids_interp.models.classifier import build_classifier
from bids_interp.training.augment import CLASSIFIER_AUGMENTATION, Augmentation, draw
from bids_interp.training.cohort import Cohort
from bids_interp.training.engine import StepTask
from bids_interp.training.folds import Fold
from bids_interp.training.losses import gradient_penalty
from bids_interp.training.randomness import step_generators


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained.

    Parameters
    ----------
    architecture, arguments
        Of :func:`bids_interp.models.classifier.build_classifier`.
    steps, batch : int
        Steps and images a step, half of them of each class.
    learning_rate, weight_decay : float
        Of AdamW.
    gradient_penalty : float
        Weight of the squared norm of the input gradient: a classifier that does not hang on
        single voxels has maps that follow anatomy.
    penalty_every : int
        Steps between evaluations of the penalty, whose weight is multiplied by it: its double
        backward pass costs more than all the rest of a step.
    label_smoothing : float
        Targets are this far from 0 and 1.
    validate_every : int
        Steps between evaluations on the validation split; the best state is kept.
    augmentation : Augmentation
        Random transformations.
    """

    architecture: str = 'robust'
    arguments: dict[str, Any] = field(default_factory=dict)
    steps: int = 1600
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    gradient_penalty: float = 3e-4
    penalty_every: int = 4
    label_smoothing: float = 0.05
    validate_every: int = 200
    augmentation: Augmentation = CLASSIFIER_AUGMENTATION


@torch.no_grad()
def predict_logits(network: nn.Module, images: torch.Tensor, batch: int = 16) -> np.ndarray:
    """Logits (N,) of images (N, 1, X, Y, Z), in evaluation mode, on the network's device."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    parts = [network(part.to(device))[:, 0].cpu() for part in images.split(batch)]
    network.train(was_training)
    return torch.cat(parts).numpy()


class ClassifierTask(StepTask):
    """Train a classifier on the training split and keep the state that validates best."""

    def __init__(self, cohort: Cohort, fold: Fold, recipe: ClassifierRecipe, seed: int) -> None:
        super().__init__()
        self.cohort, self.fold, self.recipe, self.seed = cohort, fold, recipe, seed
        self.learning_rate, self.weight_decay = recipe.learning_rate, recipe.weight_decay
        self.max_steps = recipe.steps
        torch.manual_seed(seed)
        self.network = build_classifier(recipe.architecture, cohort.grid.shape, **recipe.arguments)
        self.best_loss = float('inf')
        self.best_state: dict[str, torch.Tensor] = {}
        labels = cohort.labels[fold.train]
        self.by_class = [fold.train[labels == value] for value in (0, 1)]

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Cross-entropy plus gradient penalty on a balanced, transformed batch."""
        del batch, batch_index
        step = self.global_step
        rng, generator = step_generators(self.seed, 'classifier', step)
        chosen = np.concatenate(
            [rng.choice(side, self.recipe.batch // 2) for side in self.by_class]
        )
        images = self.cohort.images[chosen]
        drawn = draw(self.recipe.augmentation, len(images), self.cohort.grid, generator)
        penalised = self.recipe.gradient_penalty > 0 and step % self.recipe.penalty_every == 0
        images = drawn.apply(images, self.cohort.grid).to(self.device).requires_grad_(penalised)
        logits = self.network(images)[:, 0]
        labels = torch.as_tensor(
            self.cohort.labels[chosen], dtype=torch.float32, device=self.device
        )
        targets = labels * (1 - 2 * self.recipe.label_smoothing) + self.recipe.label_smoothing
        loss = F.binary_cross_entropy_with_logits(logits, targets)
        self.log('loss', loss.detach())
        if penalised:
            penalty = gradient_penalty(logits, images)
            self.log('input_gradient', penalty.detach())
            loss = loss + self.recipe.gradient_penalty * self.recipe.penalty_every * penalty
        return self.check_finite(loss)

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Validate before a step, so that a checkpoint taken after the last one repeats it."""
        if self.global_step and self.global_step % self.recipe.validate_every == 0:
            self.log_dict(self._validate())

    def on_train_end(self) -> None:
        """Validate the last state."""
        self._validate()

    def _validate(self) -> dict[str, float]:
        """Remember the state that is best on the validation split."""
        labels = self.cohort.labels[self.fold.validation]
        logits = predict_logits(self.network, self.cohort.images[self.fold.validation])
        loss = float(
            F.binary_cross_entropy_with_logits(
                torch.from_numpy(logits), torch.as_tensor(labels, dtype=torch.float32)
            )
        )
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_state = {
                name: value.detach().cpu().clone()
                for name, value in self.network.state_dict().items()
            }
        area = auc(logits, labels) if len(np.unique(labels)) == 2 else float('nan')
        return {'validation_loss': loss, 'validation_auc': area}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best state with the checkpoint."""
        checkpoint['best'] = (self.best_loss, self.best_state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the best state back."""
        self.best_loss, self.best_state = checkpoint['best']

    def result(self) -> nn.Module:
        """The network in its best state, frozen."""
        self.network.load_state_dict(self.best_state)
        return self.network.eval().requires_grad_(False)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature that minimises the cross-entropy of logits / T, within [0.25, 8].

    References
    ----------
    Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017.
    """
    candidates = np.exp(np.linspace(np.log(0.25), np.log(8.0), 200))
    scaled = np.asarray(logits, dtype=np.float64)[None] / candidates[:, None]
    signed = np.where(np.asarray(labels)[None] == 1, -scaled, scaled)
    return float(candidates[np.logaddexp(0.0, signed).mean(axis=1).argmin()])


def class_gap(logits: np.ndarray, labels: np.ndarray) -> float:
    """Median logit of the positive class minus that of the negative class, at least 0.5.

    The floor keeps the hinge of the simulator defined when a classifier is at chance.
    """
    gap = float(np.median(logits[labels == 1]) - np.median(logits[labels == 0]))
    return max(gap, 0.5)
