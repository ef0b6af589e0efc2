"""Fold training from start to end: classifiers, calibration, simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import mean_log_jacobian, validity
from bids_interp.models.bundle.fold_metrics import FoldMetrics, SimulatorMetrics
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.models.networks.registry import joined
from bids_interp.models.networks.simulator import AnySimulator, Simulator
from bids_interp.training.calibration import class_gaps, fit_calibration
from bids_interp.training.classifier import (
    ClassifierRecipe,
    ClassifierTask,
    TrainedClassifier,
    predict_outputs,
)
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.dose import scale_to_dose
from bids_interp.training.ipmi2021 import (
    PaperRecipe,
    check_published_grid,
    check_published_target,
)
from bids_interp.training.ipmi2021_gate import train_published_simulator
from bids_interp.training.loop.engine import run_task
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.morphometry import MorphometryRecipe, fit_morphometry
from bids_interp.training.pattern.fit import PatternRecipe, fit_pattern_simulator
from bids_interp.training.recipe import TrainingRecipe, recipe_digest
from bids_interp.training.selection import select_recipe
from bids_interp.training.simulator import (
    Opponent,
    SimulatorRecipe,
    SimulatorTask,
    make_simulator,
)


@dataclass(frozen=True)
class FoldWorkspace:
    """Folder and devices with which a fold is trained.

    Parameters
    ----------
    directory : pathlib.Path
        Work directory of the fold.
    device : str
        ``'cpu'``, ``'cuda'`` or ``'cuda:N'``.
    n_devices : int
        Number of processes that share each batch.
    report : callable, optional
        Function that takes a line of text about the progress.
    """

    directory: Path
    device: str = 'cpu'
    n_devices: int = 1
    report: Callable[[str], None] | None = None

    def say(self, line: str) -> None:
        """Report a line of text."""
        if self.report is not None:
            self.report(line)

    def run(self, task: Any, folder: Path, name: str) -> None:
        """Train a task with checkpoints in a folder."""
        run_task(
            task,
            folder,
            device=self.device,
            n_devices=self.n_devices,
            name=name,
            report=self.report,
        )


@dataclass(frozen=True)
class FoldRun:
    """Training of one fold, with its data, workspace and seed.

    Parameters
    ----------
    cohort, fold, index, workspace, seed
        See :func:`train_fold`.
    name : str
        Name in progress lines.
    """

    cohort: Cohort
    fold: Fold
    index: int
    workspace: FoldWorkspace
    seed: int
    name: str

    def seed_of(self, *parts: object) -> int:
        """Derive the seed of one training from values that identify it."""
        return derived_seed(self.seed, *parts) % 2**31

    def opponent(self, members: Sequence[TrainedClassifier]) -> Opponent:
        """Combine frozen classifiers with their class gaps on the validation split."""
        held_out = self.cohort.images[self.fold.validation]
        labels, target = self.cohort.labels[self.fold.validation], self.cohort.target
        gaps = (class_gaps(predict_outputs(m.held_out, held_out), labels, target) for m in members)
        return Opponent(tuple(m.network for m in members), tuple(map(tuple, gaps)))


@dataclass(frozen=True)
class FoldResult:
    """Trained fold with its test outputs and mean maps.

    Parameters
    ----------
    trained : TrainedFold
        Weights and metrics for the bundle.
    test_outputs : numpy.ndarray
        (N, K) outputs for ``fold.test``, in its order.
    maps : dict of numpy.ndarray
        (X, Y, Z) mean log-Jacobian of validation images on the grid of the model: ``inject``,
        ``remove``, ``weights`` (what moves the score most, for a pattern) and, for an external
        classifier with a free simulator, ``audit`` (trained without transformations).
    """

    trained: TrainedFold
    test_outputs: np.ndarray
    maps: dict[str, np.ndarray]


def train_fold(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: TrainingRecipe,
    workspace: FoldWorkspace,
    *,
    seed: int,
    external: nn.Module | None = None,
    classifiers: Sequence[TrainedClassifier] | None = None,
) -> FoldResult:
    """Train one fold, resuming a killed run.

    Calibration, class gap and all selections come from the validation split, with classifiers that
    were not trained with it. The test split is only predicted.

    Parameters
    ----------
    cohort : Cohort
        Cohort.
    fold : Fold
        Indices of the fold.
    index : int
        Number of the fold.
    recipe : TrainingRecipe
        Settings.
    workspace : FoldWorkspace
        Folder and devices.
    seed : int
        Random seed of the whole training.
    external : torch.nn.Module, optional
        Trained classifier in evaluation mode. If given, only the simulator is trained.
    classifiers : sequence of TrainedClassifier, optional
        Result of :func:`train_fold_classifiers`, if it has run before.

    Raises
    ------
    UsageError
        If the published method does not support the grid or the target.
    """
    if isinstance(recipe.simulator, PaperRecipe):
        # Checked first, before hours are spent on the classifier.
        check_published_grid(cohort.grid.shape)
        check_published_target(cohort.target.kind)
    run = FoldRun(cohort, fold, index, workspace, seed, f'fold {index + 1}')
    if external is not None:
        members = [TrainedClassifier(external, external)]
    else:
        members = list(classifiers or train_fold_classifiers(run, recipe))
    network = joined([member.network for member in members])
    judge = joined([member.held_out for member in members])
    labels, target = cohort.labels[fold.validation], cohort.target
    held_out = cohort.images[fold.validation]
    outputs = predict_outputs(judge, held_out)
    gaps = class_gaps(outputs, labels, target)
    opponent = run.opponent(members)
    kind = 'given' if external is not None else recipe_digest((recipe.classifier, recipe.members))
    folder = workspace.directory / f'classifier-{kind}'
    simulator, measured, weights = _train_simulator(run, recipe.simulator, opponent, judge, folder)
    simulator.cpu().eval().requires_grad_(False)
    network.cpu()
    judge.cpu()
    maps = _maps(run, simulator)
    if weights is not None:
        maps['weights'] = weights
    if external is not None and isinstance(recipe.simulator, SimulatorRecipe):
        maps['audit'] = _audit_map(run, recipe.simulator, opponent, folder)
        agreement = ncc(maps['audit'], maps['inject'], cohort.mask)
        measured = replace(measured, audit_ncc=agreement)
    moved = validity(judge, simulator, held_out, labels, target, gaps, cohort.grid)
    metrics = FoldMetrics(
        len(fold.train),
        len(fold.validation),
        len(fold.test),
        replace(measured, validity=[row for row in moved if measured.explains(row.contrast)]),
    )
    calibration = fit_calibration(outputs, labels, target)
    intercept = list(calibration.intercept)
    trained = TrainedFold(
        {} if external is not None else _weights(network),
        _weights(simulator),
        calibration.temperature,
        gaps if len(gaps) > 1 else gaps[0],
        metrics,
        intercept if len(intercept) > 1 else intercept[0],
    )
    return FoldResult(trained, predict_outputs(network, cohort.images[fold.test]), maps)


def train_fold_classifiers(run: FoldRun, recipe: TrainingRecipe) -> list[TrainedClassifier]:
    """Train the classifiers of a fold from different seeds."""
    members = []
    for number in range(recipe.members):
        # The first member has the same seed as a single classifier.
        own = (number,) if number else ()
        folder = run.workspace.directory / f'classifier-{recipe_digest(recipe.classifier)}'
        label = f'{run.name}, classifier'
        if number:
            folder, label = folder / f'member-{number}', f'{label} {number + 1}'
        member = replace(run, name=label)
        seed = run.seed_of('classifier', run.index, *own)
        members.append(train_classifier(member, recipe.classifier, folder, seed))
    return members


def train_classifier(
    run: FoldRun, recipe: ClassifierRecipe | MorphometryRecipe, folder: Path, seed: int
) -> TrainedClassifier:
    """Train one classifier, resuming a killed run.

    Parameters
    ----------
    run : FoldRun
        Fold, workspace and name of the training.
    recipe : ClassifierRecipe or MorphometryRecipe
        Settings.
    folder : pathlib.Path
        Folder of the checkpoints.
    seed : int
        Random seed of this training.

    Returns
    -------
    TrainedClassifier
        Frozen classifier in evaluation mode on the CPU.
    """
    if isinstance(recipe, MorphometryRecipe):
        return fit_morphometry(run.cohort, run.fold, recipe, seed, run.workspace.device)
    task = ClassifierTask(run.cohort, run.fold, recipe, seed)
    run.workspace.run(task, folder, run.name)
    network = task.result().cpu()
    return TrainedClassifier(network, network)


def _train_simulator(
    run: FoldRun,
    recipe: SimulatorRecipe | PatternRecipe | PaperRecipe,
    opponent: Opponent,
    judge: nn.Module,
    folder: Path,
) -> tuple[AnySimulator, SimulatorMetrics, np.ndarray | None]:
    """Train the simulator of a fold; return it with its measurements and a map of the weights."""
    if isinstance(recipe, PatternRecipe):
        fitted = fit_pattern_simulator(
            run.cohort,
            run.fold,
            opponent,
            recipe,
            seed=run.seed_of('pattern', run.index),
            device=run.workspace.device,
        )
        return fitted.simulator, SimulatorMetrics(patterns=fitted.metrics), fitted.weights
    if isinstance(recipe, PaperRecipe):
        own = folder / f'paper-{recipe_digest(recipe)}'
        return *train_published_simulator(run, recipe, opponent, judge, own), None
    own = folder / f'simulator-{recipe_digest(recipe)}'
    selection = select_recipe(
        run.cohort,
        run.fold,
        opponent,
        judge,
        recipe,
        own,
        seed=derived_seed(run.seed, 'selection', run.index),
        device=run.workspace.device,
        report=run.workspace.report,
    )
    trained = train_stages(run, selection.recipe, opponent, own)
    return trained, SimulatorMetrics(selection.recipe.minimality, selection.rows or None), None


def train_stages(
    run: FoldRun, recipe: SimulatorRecipe, opponent: Opponent, folder: Path
) -> Simulator:
    """Train first the template, then the residual of a simulator, and scale its dose after each."""
    torch.manual_seed(run.seed_of('simulator', run.index))
    simulator = make_simulator(run.cohort, recipe)
    for stage in ('template', 'residual'):
        seed = run.seed_of('simulator', stage, run.index)
        task = SimulatorTask(run.cohort, run.fold.train, opponent, simulator, recipe, stage, seed)
        if task.max_steps:
            run.workspace.run(task, folder / stage, f'{run.name}, {stage} of the simulator')
        if task.max_steps or stage == 'template':
            scale_to_dose(
                simulator, opponent, run.cohort, run.fold.validation, run.workspace.device
            )
        if stage == 'template':
            simulator.absorb_gain()
    return simulator


def _audit_map(
    run: FoldRun, recipe: SimulatorRecipe, opponent: Opponent, folder: Path
) -> np.ndarray:
    """Return the map of a simulator without transformations and with weak penalties."""
    audit = replace(
        recipe,
        capacity='template',
        residual_steps=0,
        candidates=(),
        transformed=False,
        minimality=0.1 * recipe.minimality,
        roughness=0.1 * recipe.roughness,
    )
    own = folder / f'audit-{recipe_digest(audit)}'
    audited = replace(run, name=f'{run.name}, audit')
    simulator = train_stages(audited, audit, opponent, own)
    simulator.cpu().eval().requires_grad_(False)
    first = run.cohort.images[run.fold.validation[:1]]
    return mean_log_jacobian(simulator, first, 1.0, 0, run.cohort.grid)


def _maps(run: FoldRun, simulator: AnySimulator) -> dict[str, np.ndarray]:
    """Return the mean maps of the validation images in both directions."""
    # The field of a template is the same for all images.
    is_template = getattr(simulator, 'capacity', '') == 'template'
    chosen = run.fold.validation[:1] if is_template else run.fold.validation
    images, grid = run.cohort.images[chosen], run.cohort.grid
    return {
        direction: mean_log_jacobian(simulator, images, sign, 0, grid)
        for direction, sign in (('inject', 1.0), ('remove', -1.0))
    }


def _weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
