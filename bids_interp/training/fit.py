"""One fold from start to end: classifiers, calibration, simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import mean_log_jacobian, validity
from bids_interp.models.bundle_writing import TrainedFold
from bids_interp.models.classifier import Ensemble
from bids_interp.models.paper import PaperSimulator
from bids_interp.models.simulator import Simulator
from bids_interp.training.calibration import class_gaps, fit_temperature
from bids_interp.training.classifier import ClassifierTask, predict_outputs
from bids_interp.training.cohort import Cohort
from bids_interp.training.engine import run_task
from bids_interp.training.folds import Fold
from bids_interp.training.paper import PaperRecipe, PaperSimulatorTask
from bids_interp.training.randomness import derived_seed
from bids_interp.training.recipe import TrainingRecipe, recipe_digest
from bids_interp.training.selection import select
from bids_interp.training.simulator import Opponent, SimulatorRecipe, SimulatorTask


@dataclass(frozen=True)
class Place:
    """Where and how a fold is computed.

    Parameters
    ----------
    directory : pathlib.Path
        Work directory of this fold.
    device : str
        ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
    n_devices : int
        Processes that share each batch.
    tell : callable, optional
        Takes a line of text about the progress.
    """

    directory: Path
    device: str = 'cpu'
    n_devices: int = 1
    tell: Callable[[str], None] | None = None

    def run(self, task: Any, folder: Path, name: str) -> None:
        """Run a task here."""
        run_task(
            task,
            folder,
            device=self.device,
            n_devices=self.n_devices,
            name=name,
            tell=self.tell,
        )


@dataclass(frozen=True)
class FoldResult:
    """A trained fold and its outputs on everybody it has not been trained with.

    Parameters
    ----------
    trained : TrainedFold
        For the bundle.
    test_outputs : numpy.ndarray
        (N, K) outputs for ``fold.test``, in its order.
    maps : dict of numpy.ndarray
        (X, Y, Z) mean log-Jacobian of validation images on the model's grid: ``inject``,
        ``remove``, and for a given classifier ``audit`` (trained without transformations).
    """

    trained: TrainedFold
    test_outputs: np.ndarray
    maps: dict[str, np.ndarray]


def train_fold(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: TrainingRecipe,
    place: Place,
    *,
    seed: int,
    external: nn.Module | None = None,
) -> FoldResult:
    """Train one fold; a killed run goes on where it stopped.

    Calibration, class gap and choices come from the validation split: the test split is only
    predicted.

    Parameters
    ----------
    cohort : Cohort
        Everybody.
    fold : Fold
        Whose indices.
    index : int
        Number of the fold.
    recipe : TrainingRecipe
        How.
    place : Place
        Where.
    seed : int
        Of the whole training.
    external : torch.nn.Module, optional
        A trained classifier in evaluation mode; then only the simulator is trained.
    """
    name = f'fold {index + 1}'
    members = (
        _train_classifiers(cohort, fold, index, recipe, place, seed, name)
        if external is None
        else [external]
    )
    network = members[0] if len(members) == 1 else Ensemble(members)
    labels, target = cohort.labels[fold.validation], cohort.target
    held_out = cohort.images[fold.validation]
    outputs = predict_outputs(network, held_out)
    gaps = class_gaps(outputs, labels, target)
    opponent = Opponent(
        tuple(members),
        tuple(tuple(class_gaps(predict_outputs(m, held_out), labels, target)) for m in members),
    )
    kind = 'given' if external is not None else recipe_digest((recipe.classifier, recipe.members))
    folder = place.directory / f'classifier-{kind}'
    simulator, facts = _train_simulator(
        cohort, fold, index, recipe.simulator, opponent, network, place, folder, seed, name
    )
    simulator.cpu().eval().requires_grad_(False)
    network.cpu()
    maps = _maps(cohort, fold, simulator)
    if external is not None and isinstance(recipe.simulator, SimulatorRecipe):
        maps['audit'] = _audit_map(
            cohort, fold, index, recipe.simulator, opponent, place, folder, seed, name
        )
        facts['audit_ncc'] = ncc(maps['audit'], maps['inject'], cohort.mask)
    facts['validity'] = validity(network, simulator, held_out, labels, target, gaps, cohort.grid)
    metrics = {
        'n_train': len(fold.train),
        'n_validation': len(fold.validation),
        'n_test': len(fold.test),
        'simulator': facts,
    }
    trained = TrainedFold(
        {} if external is not None else _weights(network),
        _weights(simulator),
        fit_temperature(outputs, labels, target),
        gaps if len(gaps) > 1 else gaps[0],
        metrics,
    )
    return FoldResult(trained, predict_outputs(network, cohort.images[fold.test]), maps)


def _train_classifiers(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: TrainingRecipe,
    place: Place,
    seed: int,
    name: str,
) -> list[nn.Module]:
    """Train the classifiers of a fold from different seeds."""
    members = []
    for number in range(recipe.members):
        # The first member has the seed that it has when it is alone.
        own = (number,) if number else ()
        task = ClassifierTask(
            cohort, fold, recipe.classifier, derived_seed(seed, 'classifier', index, *own) % 2**31
        )
        folder = place.directory / f'classifier-{recipe_digest(recipe.classifier)}'
        label = f'{name}, classifier'
        if number:
            folder, label = folder / f'member-{number}', f'{label} {number + 1}'
        place.run(task, folder, label)
        members.append(task.result().cpu())
    return members


def _train_simulator(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: SimulatorRecipe | PaperRecipe,
    opponent: Opponent,
    network: nn.Module,
    place: Place,
    folder: Path,
    seed: int,
    name: str,
) -> tuple[Simulator | PaperSimulator, dict[str, Any]]:
    """Train the simulator of a fold; also what it was chosen by."""
    if isinstance(recipe, PaperRecipe):
        published = PaperSimulator(cohort.grid, cohort.mask)
        paper_task = PaperSimulatorTask(
            cohort,
            fold.train,
            opponent,
            published,
            recipe,
            derived_seed(seed, 'simulator', 'paper', index) % 2**31,
        )
        place.run(paper_task, folder / f'paper-{recipe_digest(recipe)}', f'{name}, simulator')
        return published, {}
    own = folder / f'simulator-{recipe_digest(recipe)}'
    selection = select(
        cohort,
        fold,
        opponent,
        network,
        recipe,
        own,
        seed=derived_seed(seed, 'selection', index),
        device=place.device,
        tell=place.tell,
    )
    simulator = train_stages(
        cohort, fold, index, selection.recipe, opponent, place, own, seed, name
    )
    facts: dict[str, Any] = {'minimality': selection.recipe.minimality}
    if selection.rows:
        facts['selection'] = selection.rows
    return simulator, facts


def train_stages(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: SimulatorRecipe,
    opponent: Opponent,
    place: Place,
    folder: Path,
    seed: int,
    name: str,
) -> Simulator:
    """Train template and residual, one after the other."""
    arguments = {
        **recipe.network_arguments(),
        'contrasts': len(cohort.target.contrasts),
    }
    torch.manual_seed(derived_seed(seed, 'simulator', index) % 2**31)
    simulator = Simulator(cohort.grid, cohort.mask, **arguments)
    for stage in ('template', 'residual'):
        task = SimulatorTask(
            cohort,
            fold.train,
            opponent,
            simulator,
            recipe,
            stage,
            derived_seed(seed, 'simulator', stage, index) % 2**31,
        )
        if task.max_steps:
            place.run(task, folder / stage, f'{name}, {stage} of the simulator')
    return simulator


def _audit_map(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: SimulatorRecipe,
    opponent: Opponent,
    place: Place,
    folder: Path,
    seed: int,
    name: str,
) -> np.ndarray:
    """Map of what moves this very classifier: no transformations, and small changes for free."""
    audit = replace(
        recipe,
        capacity='template',
        residual_steps=0,
        candidates=(),
        transformed=0.0,
        minimality=0.1 * recipe.minimality,
        roughness=0.1 * recipe.roughness,
    )
    own = folder / f'audit-{recipe_digest(audit)}'
    simulator = train_stages(
        cohort, fold, index, audit, opponent, place, own, seed, f'{name}, audit'
    )
    simulator.cpu().eval().requires_grad_(False)
    return mean_log_jacobian(simulator, cohort.images[fold.validation[:1]], 1.0, 0, cohort.grid)


def _maps(
    cohort: Cohort, fold: Fold, simulator: Simulator | PaperSimulator
) -> dict[str, np.ndarray]:
    """Mean maps of the validation images in both directions."""
    # A template does not look at the image, so one image is as good as all.
    is_template = getattr(simulator, 'capacity', '') == 'template'
    chosen = fold.validation[:1] if is_template else fold.validation
    images = cohort.images[chosen]
    return {
        direction: mean_log_jacobian(simulator, images, sign, 0, cohort.grid)
        for direction, sign in (('inject', 1.0), ('remove', -1.0))
    }


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
