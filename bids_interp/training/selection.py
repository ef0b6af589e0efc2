"""Selection of the minimality weight by the reproducibility of the maps.

Validity alone is not sufficient: most simulators reach the wanted logit, even if they change the
wrong structures. Simulators trained with different brains should agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.validity import mean_log_jacobian, validity
from bids_interp.models.bundle.fold_metrics import Candidate
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.loop.engine import run_task
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.simulator import (
    Opponent,
    SimulatorRecipe,
    SimulatorTask,
    make_simulator,
)

#: Smallest validity of a candidate, as a share of the highest validity.
SUFFICIENT_VALIDITY = 0.9
#: Share of the training steps that is enough to compare the candidates.
SHARE_OF_STEPS = 1 / 3


class SelectedRecipe(NamedTuple):
    """Selected recipe, with the measurements of all candidates."""

    recipe: SimulatorRecipe
    rows: list[Candidate]


def split_halves(cohort: Cohort, train: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split training images into two halves, keeping families together and classes balanced."""
    rng = np.random.default_rng(seed)
    families = cohort.families[train]
    first = np.zeros(len(train), bool)
    strata = _strata(cohort, train)
    for stratum in np.unique(strata):
        # A family with several labels belongs to the stratum of its first image.
        own = [f for f in np.unique(families) if strata[families == f][0] == stratum]
        chosen = rng.permutation(own)[: len(own) // 2]
        first |= np.isin(families, chosen)
    return train[first], train[~first]


def _strata(cohort: Cohort, images: np.ndarray) -> np.ndarray:
    """Return the classes (N,) of images, or zeros for a regression."""
    labels = cohort.labels[images]
    return np.zeros(len(images), int) if cohort.target.kind == 'regression' else labels


def _can_choose(cohort: Cohort, parts: tuple[np.ndarray, np.ndarray]) -> bool:
    """Return whether both halves contain every class."""
    n_classes = max(1, len(cohort.target.classes))
    return all(len(np.unique(_strata(cohort, half))) == n_classes for half in parts)


def select_recipe(
    cohort: Cohort,
    fold: Fold,
    opponent: Opponent,
    classifier: nn.Module,
    recipe: SimulatorRecipe,
    directory: Path,
    *,
    seed: int,
    device: str = 'cpu',
    report: Callable[[str], None] | None = None,
) -> SelectedRecipe:
    """Select one of ``recipe.candidates`` with the training and validation splits of a fold.

    For each candidate, two templates are trained for a third of the steps, each with one half of
    the training images. Among the candidates with sufficient validity on the validation split, the
    one whose two log-Jacobian maps agree best (NCC inside the brain, mean over the contrasts) is
    selected. If the training images cannot be halved with every class in both halves,
    ``recipe.minimality`` is used.

    Parameters
    ----------
    cohort, fold, opponent, classifier
        Cohort, fold, classifiers with their class gaps, and the classifier that measures validity.
    recipe : SimulatorRecipe
        Recipe with candidates.
    directory : pathlib.Path
        Work directory.
    seed : int
        Random seed.
    device, report
        See :func:`bids_interp.training.loop.engine.run_task`.
    """
    if len(recipe.candidates) < 2:
        chosen = recipe.candidates[0] if recipe.candidates else recipe.minimality
        return SelectedRecipe(replace(recipe, minimality=chosen, candidates=()), [])
    parts = split_halves(cohort, fold.train, seed)
    if not _can_choose(cohort, parts):
        return SelectedRecipe(replace(recipe, candidates=()), [])
    rows = []
    steps = max(1, round(SHARE_OF_STEPS * recipe.template_steps))
    for weight in recipe.candidates:
        tried = replace(
            recipe,
            capacity='template',
            minimality=weight,
            candidates=(),
            template_steps=steps,
            residual_steps=0,
        )
        maps, reached = [], []
        for number, half in enumerate(parts):
            simulator = make_simulator(cohort, tried)
            task = SimulatorTask(
                cohort,
                half,
                opponent,
                simulator,
                tried,
                'template',
                derived_seed(seed, 'selection', number) % 2**31,
            )
            folder = directory / f'selection-{weight:g}-{number}'
            name = f'selection, minimality {weight:g}, half {number + 1}'
            run_task(task, folder, device=device, name=name, report=report)
            simulator.cpu()
            maps.append(_maps(cohort, fold, simulator))
            reached.append(_validity(cohort, fold, opponent, classifier, simulator))
        agreement = [ncc(one, two, cohort.mask) for one, two in zip(*maps, strict=True)]
        rows.append(Candidate(weight, float(np.mean(agreement)), float(np.mean(reached))))
    return SelectedRecipe(replace(recipe, minimality=most_reproducible(rows), candidates=()), rows)


def most_reproducible(rows: Sequence[Candidate]) -> float:
    """Weight of the most reproducible candidate among those with sufficient validity.

    Examples
    --------
    >>> rows = [Candidate(0.5, 0.6, 1.0), Candidate(1.0, 0.8, 0.95), Candidate(9.0, 0.9, 0.2)]
    >>> most_reproducible(rows)
    1.0
    """
    enough = SUFFICIENT_VALIDITY * max(row.validity for row in rows)
    valid = [row for row in rows if row.validity >= enough]
    return max(valid, key=lambda row: row.split_half_ncc).minimality


def _maps(cohort: Cohort, fold: Fold, simulator: Simulator) -> list[np.ndarray]:
    """Return the log-Jacobian of each contrast; a template gives the same for every image."""
    image = cohort.images[fold.validation[:1]]
    return [
        mean_log_jacobian(simulator, image, 1.0, number, cohort.grid)
        for number in range(len(cohort.target.contrasts))
    ]


def _validity(
    cohort: Cohort, fold: Fold, opponent: Opponent, classifier: nn.Module, simulator: Simulator
) -> float:
    with torch.no_grad():
        rows = validity(
            classifier.cpu(),
            simulator,
            cohort.images[fold.validation],
            cohort.labels[fold.validation],
            cohort.target,
            list(opponent.gaps[0]),
            cohort.grid,
        )
    return float(np.mean([side.validity for row in rows for side in row.sides]))
