"""Sanity checks of the maps of one fold, with randomised classifiers and exchanged labels.

A map that stays the same when the classifier is noise, or was trained with exchanged labels, shows
the images or the simulator instead of what the classifier has learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import mean_log_jacobian
from bids_interp.models.networks.pattern_simulator import PatternSimulator
from bids_interp.models.networks.registry import Ensemble
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.classifier import TrainedClassifier, restored
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import (
    FoldResult,
    FoldRun,
    FoldWorkspace,
    train_classifier,
    train_stages,
)
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.null_models import (
    exchange_cohort_labels,
    label_association,
    layers_of,
    randomisation_levels,
    randomised,
)
from bids_interp.training.pattern.fit import (
    Measurement,
    PatternRecipe,
    fit_pattern_simulator,
    measure_cohort,
)
from bids_interp.training.recipe import TrainingRecipe, recipe_digest
from bids_interp.training.simulator import Opponent, SimulatorRecipe

#: Limit of |NCC| between the original map and one that a check should have destroyed.
LIMIT = 0.2
#: Largest number of steps of each simulator.
STEPS = 160


@dataclass(frozen=True)
class RandomisedNcc:
    """Agreement with the original map after randomisation of the last layers.

    Parameters
    ----------
    layers, of : int
        Number of randomised layers, and of all layers.
    ncc : float
        Correlation with the original map.
    """

    layers: int
    of: int
    ncc: float


@dataclass(frozen=True)
class RetrainedNcc:
    """Agreement with the original map after training once more.

    Parameters
    ----------
    ncc : float
        Correlation with the original map.
    association : float, optional
        Remaining association of exchanged labels with the true ones.
    """

    ncc: float
    association: float | None = None


@dataclass(frozen=True, kw_only=True)
class SanityMetrics:
    """Measures of the checks of one fold.

    Parameters
    ----------
    limit : float
        Largest absolute NCC of a map that a check should have destroyed.
    fold : int
        Index of the fold.
    steps : int
        Steps of each simulator; 0 for patterns.
    original_ncc : float
        Agreement of the original map of this check with the map of the fold.
    randomised : list of RandomisedNcc
        One level of randomisation each.
    permuted_labels, second_seed : RetrainedNcc, optional
        Training with exchanged labels, and with another seed.
    left_out : dict
        Reason for each check that was not run.
    above_limit : list of str
        ``randomised`` (all layers) or ``permuted_labels``, if their absolute NCC reaches the limit.
    """

    limit: float
    fold: int
    steps: int
    original_ncc: float
    randomised: list[RandomisedNcc]
    permuted_labels: RetrainedNcc | None = None
    second_seed: RetrainedNcc | None = None
    left_out: dict[str, str]
    above_limit: list[str]


@dataclass(frozen=True)
class Sanity:
    """Results of the checks of one fold.

    Parameters
    ----------
    metrics : SanityMetrics
        Measures.
    maps : dict of numpy.ndarray
        (X, Y, Z) log-Jacobian for each check.
    """

    metrics: SanityMetrics
    maps: dict[str, np.ndarray]


def check_fold(
    cohort: Cohort,
    fold: Fold,
    index: int,
    recipe: TrainingRecipe,
    result: FoldResult,
    workspace: FoldWorkspace,
    *,
    seed: int,
    external: nn.Module | None = None,
    steps: int = STEPS,
) -> Sanity:
    """Train simulators against randomised and retrained classifiers and compare their maps.

    All simulators are templates (one change for all subjects) with the same training and, except
    for the second seed, the same draws. Maps are compared inside the brain (NCC) with the map
    trained against the classifier of the fold.

    Parameters
    ----------
    cohort, fold, index, recipe, workspace, seed, external
        See :func:`bids_interp.training.fold.train_fold`.
    result : FoldResult
        Its result for this fold.
    steps : int
        Steps of each simulator.

    Returns
    -------
    Sanity
        Metrics and maps.
    """
    trainings = _SanityTrainings(cohort, fold, index, recipe, result, workspace, seed, steps)
    network = external
    if network is None:
        weights = result.trained.classifier
        network = restored(recipe.classifier, cohort, weights, recipe.members)
    trainings.simulate('original', cohort, network, seed)
    layers = len(layers_of(_first(network)))
    for count in randomisation_levels(layers):
        noisy = _each(network, partial(randomised, count=count, seed=seed))
        score = trainings.simulate(f'randomised{count}', cohort, noisy, seed)
        trainings.rows.append(RandomisedNcc(count, layers, score))
    left_out = {}
    if not layers:
        left_out['randomised'] = 'the weights of the classifier cannot be changed'
    if external is not None:
        reason = 'the classifier was not trained in this run'
        left_out |= {'permuted_labels': reason, 'second_seed': reason}
    retrained = {} if external is not None else trainings.train_again()
    # With some layers left, the map may keep part of what they have learned.
    destroyed = {'randomised': trainings.rows[-1].ncc} if trainings.rows else {}
    if 'permuted_labels' in retrained:
        destroyed['permuted_labels'] = retrained['permuted_labels'].ncc
    metrics = SanityMetrics(
        limit=LIMIT,
        fold=index,
        steps=trainings.steps,
        original_ncc=ncc(trainings.maps['original'], result.maps['inject'], cohort.mask),
        randomised=trainings.rows,
        permuted_labels=retrained.get('permuted_labels'),
        second_seed=retrained.get('second_seed'),
        left_out=left_out,
        above_limit=[name for name, score in destroyed.items() if abs(score) >= LIMIT],
    )
    return Sanity(metrics, trainings.maps)


def _first(network: nn.Module) -> nn.Module:
    return network.members[0] if isinstance(network, Ensemble) else network


def _each(network: nn.Module, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Apply a change to a network, or to every member of an ensemble."""
    if isinstance(network, Ensemble):
        return Ensemble([change(member) for member in network.members])
    return change(network)


def _checked_recipe(
    recipe: TrainingRecipe, result: FoldResult, steps: int
) -> SimulatorRecipe | PatternRecipe:
    """Return the recipe of the simulators: the same pattern, or a template of few steps."""
    given = recipe.simulator
    if isinstance(given, PatternRecipe):
        return given
    base = given if isinstance(given, SimulatorRecipe) else SimulatorRecipe()
    measured = result.trained.metrics.simulator
    chosen = measured.minimality if measured else None
    return replace(
        base,
        capacity='template',
        residual_steps=0,
        candidates=(),
        minimality=base.minimality if chosen is None else chosen,
        template_steps=min(steps, base.template_steps),
    )


class _SanityTrainings:
    """Trainings for the checks of one fold, and their maps."""

    def __init__(
        self,
        cohort: Cohort,
        fold: Fold,
        index: int,
        recipe: TrainingRecipe,
        result: FoldResult,
        workspace: FoldWorkspace,
        seed: int,
        steps: int,
    ) -> None:
        self.recipe = _checked_recipe(recipe, result, steps)
        made = self.recipe
        self.steps = made.template_steps if isinstance(made, SimulatorRecipe) else 0
        self.cohort, self.fold, self.index, self.workspace = cohort, fold, index, workspace
        self.classifier, self.seed = recipe.classifier, seed
        # Checkpoints of another recipe are never resumed.
        digest = recipe_digest((recipe, steps))
        self.folder = workspace.directory / f'sanity-{digest}'
        self.rows: list[RandomisedNcc] = []
        self.measured: Measurement | None = None
        self.maps: dict[str, np.ndarray] = {}

    def simulate(self, name: str, cohort: Cohort, network: nn.Module, seed: int) -> float:
        """Train a simulator against a classifier; return the NCC of its map with the original."""
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        title = f'fold {self.index + 1}, sanity, {name}'
        run = FoldRun(cohort, self.fold, self.index, self.workspace, seed, title)
        opponent = run.opponent([TrainedClassifier(member, member) for member in members])
        simulator = self._simulator(run, opponent, self.folder / name)
        simulator.cpu().eval().requires_grad_(False)
        network.cpu()
        # The field of a template is the same for all images.
        self.maps[name] = mean_log_jacobian(
            simulator, cohort.images[self.fold.validation[:1]], 1.0, 0, cohort.grid
        )
        return ncc(self.maps[name], self.maps['original'], cohort.mask)

    def _simulator(
        self, run: FoldRun, opponent: Opponent, folder: Path
    ) -> Simulator | PatternSimulator:
        if not isinstance(self.recipe, PatternRecipe):
            return train_stages(run, self.recipe, opponent, folder)
        if self.measured is None:
            # Volumes do not depend on classifiers and labels.
            self.measured = measure_cohort(
                run.cohort, run.fold, self.recipe, self.seed, run.workspace.device
            )
        return fit_pattern_simulator(
            run.cohort,
            run.fold,
            opponent,
            self.recipe,
            seed=run.seed_of('pattern', run.index),
            device=run.workspace.device,
            measured=self.measured,
        ).simulator

    def train_again(self) -> dict[str, RetrainedNcc]:
        """Retrain classifier and simulator with exchanged labels, and with another seed."""
        label_seed = derived_seed(self.seed, 'sanity', 'labels')
        other = exchange_cohort_labels(self.cohort, self.fold, label_seed)
        truth, labels = (c.labels[self.fold.train] for c in (self.cohort, other))
        again = derived_seed(self.seed, 'sanity', 'again') % 2**31
        return {
            'permuted_labels': RetrainedNcc(
                self._classify_and_simulate('permuted_labels', other, self.seed),
                label_association(labels, truth, self.cohort.target.kind),
            ),
            'second_seed': RetrainedNcc(
                self._classify_and_simulate('second_seed', self.cohort, again)
            ),
        }

    def _classify_and_simulate(self, name: str, cohort: Cohort, seed: int) -> float:
        own = derived_seed(seed, 'classifier', self.index) % 2**31
        label = f'fold {self.index + 1}, sanity, {name}, classifier'
        run = FoldRun(cohort, self.fold, self.index, self.workspace, seed, label)
        folder = self.folder / name / 'classifier'
        network = train_classifier(run, self.classifier, folder, own).network
        return self.simulate(name, cohort, network, seed)
