"""Sanity checks of the maps of one fold, with randomised classifiers and exchanged labels.

A map that stays the same when the classifier is noise, or was trained with exchanged labels, shows
the images or the simulator instead of what the classifier has learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import mean_log_jacobian
from bids_interp.models.networks.registry import Ensemble, build_classifier
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
from bids_interp.training.recipe import TrainingRecipe, recipe_digest
from bids_interp.training.simulator import SimulatorRecipe

#: Limit of |NCC| between the original map and one that a check should have destroyed.
LIMIT = 0.2
#: Largest number of steps of each simulator.
STEPS = 160


@dataclass(frozen=True)
class Sanity:
    """Results of the checks of one fold.

    Parameters
    ----------
    metrics : dict
        See :func:`check_fold`.
    maps : dict of numpy.ndarray
        (X, Y, Z) log-Jacobian for each check.
    """

    metrics: dict[str, Any]
    maps: dict[str, np.ndarray]


def trained_classifier(
    cohort: Cohort, recipe: TrainingRecipe, weights: dict[str, torch.Tensor]
) -> nn.Module:
    """Restore the frozen classifier of a fold from its weights."""
    network = build_classifier(
        recipe.classifier.architecture,
        cohort.grid.shape,
        members=recipe.members,
        **recipe.classifier.arguments,
        outputs=cohort.target.n_outputs,
    )
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


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
        Metrics: ``limit``, ``fold``, ``steps``, ``original_ncc`` (original map of this check
        against the map of the fold), ``randomised`` (``layers``, ``of`` and ``ncc`` for each
        level), ``permuted_labels`` (``ncc`` and the remaining ``association`` between the labels),
        ``second_seed`` (``ncc``), ``left_out`` (check to reason) and ``above_limit``: those of
        ``randomised`` (all layers) and ``permuted_labels`` whose absolute NCC reaches the limit.
    """
    trainings = _SanityTrainings(cohort, fold, index, recipe, result, workspace, seed, steps)
    network = external
    if network is None:
        network = trained_classifier(cohort, recipe, result.trained.classifier)
    trainings.simulate('original', cohort, network, seed)
    layers = len(layers_of(_first(network)))
    for count in randomisation_levels(layers):
        noisy = _each(network, lambda member, n=count: randomised(member, n, seed))
        score = trainings.simulate(f'randomised{count}', cohort, noisy, seed)
        trainings.rows.append({'layers': count, 'of': layers, 'ncc': score})
    left_out = {}
    if not layers:
        left_out['randomised'] = 'the weights of the classifier cannot be changed'
    if external is not None:
        reason = 'the classifier was not trained in this run'
        left_out |= {'permuted_labels': reason, 'second_seed': reason}
    found: dict[str, Any] = {} if external is not None else trainings.train_again()
    # With some layers left, the map may keep part of what they have learned.
    destroyed = {'randomised': trainings.rows[-1]['ncc']} if trainings.rows else {}
    if 'permuted_labels' in found:
        destroyed['permuted_labels'] = found['permuted_labels']['ncc']
    metrics = {
        'limit': LIMIT,
        'fold': index,
        'steps': trainings.recipe.template_steps,
        'original_ncc': ncc(trainings.maps['original'], result.maps['inject'], cohort.mask),
        'randomised': trainings.rows,
        **found,
        'left_out': left_out,
        'above_limit': [name for name, score in destroyed.items() if abs(score) >= LIMIT],
    }
    return Sanity(metrics, trainings.maps)


def _first(network: nn.Module) -> nn.Module:
    return network.members[0] if isinstance(network, Ensemble) else network


def _each(network: nn.Module, change: Any) -> nn.Module:
    """Apply a change to a network, or to every member of an ensemble."""
    if isinstance(network, Ensemble):
        return Ensemble([change(member) for member in network.members])
    changed: nn.Module = change(network)
    return changed


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
        given = recipe.simulator
        base = given if isinstance(given, SimulatorRecipe) else SimulatorRecipe()
        measured = result.trained.metrics.simulator
        chosen = measured.minimality if measured else None
        self.recipe = replace(
            base,
            capacity='template',
            residual_steps=0,
            candidates=(),
            minimality=base.minimality if chosen is None else chosen,
            template_steps=min(steps, base.template_steps),
        )
        self.cohort, self.fold, self.index, self.workspace = cohort, fold, index, workspace
        self.classifier, self.seed = recipe.classifier, seed
        # Checkpoints of another recipe are never resumed.
        digest = recipe_digest((recipe, steps))
        self.folder = workspace.directory / f'sanity-{digest}'
        self.rows: list[dict[str, Any]] = []
        self.maps: dict[str, np.ndarray] = {}

    def simulate(self, name: str, cohort: Cohort, network: nn.Module, seed: int) -> float:
        """Train a simulator against a classifier; return the NCC of its map with the original."""
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        title = f'fold {self.index + 1}, sanity, {name}'
        run = FoldRun(cohort, self.fold, self.index, self.workspace, seed, title)
        opponent = run.opponent(members)
        simulator = train_stages(run, self.recipe, opponent, self.folder / name)
        simulator.cpu().eval().requires_grad_(False)
        network.cpu()
        # The field of a template is the same for all images.
        self.maps[name] = mean_log_jacobian(
            simulator, cohort.images[self.fold.validation[:1]], 1.0, 0, cohort.grid
        )
        return ncc(self.maps[name], self.maps['original'], cohort.mask)

    def train_again(self) -> dict[str, Any]:
        """Retrain classifier and simulator with exchanged labels, and with another seed."""
        label_seed = derived_seed(self.seed, 'sanity', 'labels')
        other = exchange_cohort_labels(self.cohort, self.fold, label_seed)
        truth, labels = (c.labels[self.fold.train] for c in (self.cohort, other))
        again = derived_seed(self.seed, 'sanity', 'again') % 2**31
        return {
            'permuted_labels': {
                'ncc': self._classify_and_simulate('permuted_labels', other, self.seed),
                'association': label_association(labels, truth, self.cohort.target.kind),
            },
            'second_seed': {'ncc': self._classify_and_simulate('second_seed', self.cohort, again)},
        }

    def _classify_and_simulate(self, name: str, cohort: Cohort, seed: int) -> float:
        own = derived_seed(seed, 'classifier', self.index) % 2**31
        label = f'fold {self.index + 1}, sanity, {name}, classifier'
        run = FoldRun(cohort, self.fold, self.index, self.workspace, seed, label)
        folder = self.folder / name / 'classifier'
        network = train_classifier(run, self.classifier, folder, own)
        return self.simulate(name, cohort, network, seed)
