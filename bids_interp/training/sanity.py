"""Sanity of the maps of one fold: they must not outlive the classifier, nor the labels.

A map that looks the same when the classifier is replaced by noise, or was trained with exchanged
labels, shows the images or the simulator, not what the classifier has learned.
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
from bids_interp.training.fold import FoldResult, FoldRun, Place, train_classifier, train_stages
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.null_models import (
    association,
    cascade,
    exchanged,
    layers_of,
    randomised,
)
from bids_interp.training.recipe import TrainingRecipe, recipe_digest
from bids_interp.training.simulator import SimulatorRecipe

#: A map that must be destroyed may not agree with the original one by this much (|NCC|).
LIMIT = 0.2
#: Steps of each simulator; as many as the recipe has where these are fewer.
STEPS = 160


@dataclass(frozen=True)
class Sanity:
    """What the checks of one fold have found.

    Parameters
    ----------
    metrics : dict
        See :func:`check_fold`.
    maps : dict of numpy.ndarray
        (X, Y, Z) log-Jacobian by name of the check.
    """

    metrics: dict[str, Any]
    maps: dict[str, np.ndarray]


def trained_classifier(
    cohort: Cohort, recipe: TrainingRecipe, weights: dict[str, torch.Tensor]
) -> nn.Module:
    """The frozen classifier of a fold, from its weights."""
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
    place: Place,
    *,
    seed: int,
    external: nn.Module | None = None,
    steps: int = STEPS,
) -> Sanity:
    """Train simulators against classifiers that know nothing, and one against another that does.

    All simulators are templates (one change for all subjects), trained alike and, but for the
    second seed, with the same draws. Maps are compared inside the brain (NCC) with the one trained
    against the classifier of the fold.

    Parameters
    ----------
    cohort, fold, index, recipe, place, seed, external
        As :func:`bids_interp.training.fold.train_fold` has them.
    result : FoldResult
        What it has made of this fold.
    steps : int
        Of each simulator.

    Returns
    -------
    Sanity
        Metrics: ``limit``, ``fold``, ``steps``, ``original_ncc`` (the original map of this check
        against the map of the fold), ``randomised`` (for each level ``layers``, ``of`` and
        ``ncc``), ``permuted_labels`` (``ncc``, and the ``association`` that is left between the
        labels), ``second_seed`` (``ncc``), ``left_out`` (check to reason) and ``above_limit``:
        which of ``randomised`` (all layers) and ``permuted_labels`` have not destroyed the map
        (absolute NCC from the limit on).
    """
    battery = _Battery(cohort, fold, index, recipe, result, place, seed, steps)
    network = external
    if network is None:
        network = trained_classifier(cohort, recipe, result.trained.classifier)
    battery.simulate('original', cohort, network, seed)
    layers = len(layers_of(_first(network)))
    for count in cascade(layers):
        noisy = _each(network, lambda member, n=count: randomised(member, n, seed))
        score = battery.simulate(f'randomised{count}', cohort, noisy, seed)
        battery.rows.append({'layers': count, 'of': layers, 'ncc': score})
    left_out = {}
    if not layers:
        left_out['randomised'] = 'the classifier has no weights that can be changed'
    if external is not None:
        reason = 'the classifier was given, not trained here'
        left_out |= {'permuted_labels': reason, 'second_seed': reason}
    found: dict[str, Any] = {} if external is not None else battery.train_again()
    # As long as some layers are left, so is some of what they have learned.
    destroyed = {'randomised': battery.rows[-1]['ncc']} if battery.rows else {}
    if 'permuted_labels' in found:
        destroyed['permuted_labels'] = found['permuted_labels']['ncc']
    metrics = {
        'limit': LIMIT,
        'fold': index,
        'steps': battery.recipe.template_steps,
        'original_ncc': ncc(battery.maps['original'], result.maps['inject'], cohort.mask),
        'randomised': battery.rows,
        **found,
        'left_out': left_out,
        'above_limit': [name for name, score in destroyed.items() if abs(score) >= LIMIT],
    }
    return Sanity(metrics, battery.maps)


def _first(network: nn.Module) -> nn.Module:
    return network.members[0] if isinstance(network, Ensemble) else network


def _each(network: nn.Module, change: Any) -> nn.Module:
    """Change every member of an ensemble, or a network alone."""
    if isinstance(network, Ensemble):
        return Ensemble([change(member) for member in network.members])
    changed: nn.Module = change(network)
    return changed


class _Battery:
    """The trainings of the checks of one fold, and the maps that they have made."""

    def __init__(
        self,
        cohort: Cohort,
        fold: Fold,
        index: int,
        recipe: TrainingRecipe,
        result: FoldResult,
        place: Place,
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
        self.cohort, self.fold, self.index, self.place = cohort, fold, index, place
        self.classifier, self.seed = recipe.classifier, seed
        # What was trained for another classifier is never gone on from.
        digest = recipe_digest((recipe, steps))
        self.folder = place.directory / f'sanity-{digest}'
        self.rows: list[dict[str, Any]] = []
        self.maps: dict[str, np.ndarray] = {}

    def simulate(self, name: str, cohort: Cohort, network: nn.Module, seed: int) -> float:
        """Train a simulator against a classifier; NCC of its map with the original one."""
        members = list(network.members) if isinstance(network, Ensemble) else [network]
        title = f'fold {self.index + 1}, sanity, {name}'
        run = FoldRun(cohort, self.fold, self.index, self.place, seed, title)
        opponent = run.opponent(members)
        simulator = train_stages(run, self.recipe, opponent, self.folder / name)
        simulator.cpu().eval().requires_grad_(False)
        network.cpu()
        # A template does not look at the image, so one image is as good as all.
        self.maps[name] = mean_log_jacobian(
            simulator, cohort.images[self.fold.validation[:1]], 1.0, 0, cohort.grid
        )
        return ncc(self.maps[name], self.maps['original'], cohort.mask)

    def train_again(self) -> dict[str, Any]:
        """Classifier and simulator once more: with exchanged labels, and with another seed."""
        other = exchanged(self.cohort, self.fold, derived_seed(self.seed, 'sanity', 'labels'))
        truth, labels = (c.labels[self.fold.train] for c in (self.cohort, other))
        again = derived_seed(self.seed, 'sanity', 'again') % 2**31
        return {
            'permuted_labels': {
                'ncc': self._classify_and_simulate('permuted_labels', other, self.seed),
                'association': association(labels, truth, self.cohort.target.kind),
            },
            'second_seed': {'ncc': self._classify_and_simulate('second_seed', self.cohort, again)},
        }

    def _classify_and_simulate(self, name: str, cohort: Cohort, seed: int) -> float:
        own = derived_seed(seed, 'classifier', self.index) % 2**31
        label = f'fold {self.index + 1}, sanity, {name}, classifier'
        run = FoldRun(cohort, self.fold, self.index, self.place, seed, label)
        folder = self.folder / name / 'classifier'
        network = train_classifier(run, self.classifier, folder, own)
        return self.simulate(name, cohort, network, seed)
