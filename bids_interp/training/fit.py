"""One fold from start to end: classifier, calibration, simulator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bids_interp.evaluation.scores import auc
from bids_interp.models.bundle import TrainedFold
from bids_interp.models.simulator import Simulator
from bids_interp.training.classifier import (
    ClassifierRecipe,
    ClassifierTask,
    class_gap,
    fit_temperature,
    predict_logits,
)
from bids_interp.training.cohort import Cohort
from bids_interp.training.engine import run_task
from bids_interp.training.folds import Fold
from bids_interp.training.randomness import derived_seed
from bids_interp.training.simulator import SimulatorRecipe, SimulatorTask


@dataclass(frozen=True)
class FoldResult:
    """A trained fold and its logits on everybody it has not been trained with.

    Parameters
    ----------
    trained : TrainedFold
        For the bundle.
    test_logits : numpy.ndarray
        Logits of ``fold.test``, in its order.
    """

    trained: TrainedFold
    test_logits: np.ndarray


def train_fold(
    cohort: Cohort,
    fold: Fold,
    index: int,
    classifier_recipe: ClassifierRecipe,
    simulator_recipe: SimulatorRecipe,
    directory: Path,
    *,
    seed: int,
    device: str = 'cpu',
    progress: bool = False,
) -> FoldResult:
    """Train one fold; a killed run goes on where it stopped.

    Calibration and the class gap come from the validation split: the test split is only
    predicted.

    Parameters
    ----------
    cohort : Cohort
        Everybody.
    fold : Fold
        Whose indices.
    index : int
        Number of the fold.
    classifier_recipe, simulator_recipe
        How.
    directory : pathlib.Path
        Work directory of this fold.
    seed : int
        Of the whole training.
    device : str
        Where to compute.
    progress : bool
        Show progress bars.
    """
    classifier_folder = directory / f'classifier-{recipe_digest(classifier_recipe)}'
    task = ClassifierTask(
        cohort, fold, classifier_recipe, derived_seed(seed, 'classifier', index) % 2**31
    )
    run_task(task, classifier_folder, device=device, progress=progress)
    classifier = task.result().cpu()
    validation_logits = predict_logits(classifier, cohort.images[fold.validation])
    labels = cohort.labels[fold.validation]
    gap = class_gap(validation_logits, labels)
    temperature = fit_temperature(validation_logits, labels)
    test_logits = predict_logits(classifier, cohort.images[fold.test])

    simulator = Simulator(cohort.grid, cohort.mask, **simulator_recipe.network_arguments())
    for stage in ('template', 'residual'):
        stage_task = SimulatorTask(
            cohort,
            fold.train,
            classifier,
            gap,
            simulator,
            simulator_recipe,
            stage,
            derived_seed(seed, 'simulator', stage, index) % 2**31,
        )
        if stage_task.max_steps:
            folder = classifier_folder / f'{stage}-{recipe_digest(simulator_recipe)}'
            run_task(stage_task, folder, device=device, progress=progress)
    simulator.cpu().requires_grad_(False)
    metrics: dict[str, Any] = {
        'n_train': len(fold.train),
        'n_validation': len(fold.validation),
        'n_test': len(fold.test),
        'test_auc': auc(test_logits, cohort.labels[fold.test]),
    }
    trained = TrainedFold(_weights(classifier), _weights(simulator), temperature, gap, metrics)
    return FoldResult(trained, test_logits)


def recipe_digest(recipe: ClassifierRecipe | SimulatorRecipe) -> str:
    """Short name of a recipe, so that a changed one never goes on from another's checkpoint."""
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]


def _weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
