"""Scale a template so that dose 1 is the gap between the classes, for images not trained with."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.evaluation.validity import image_scores, simulated_scores
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.simulator import Opponent

#: Images that are simulated in both directions for each trial.
IMAGES = 16
TRIALS = 6
#: Trials end when the median shift is as close to the gap as this.
CLOSE = 0.05
#: Limits of the factor of one trial, and of all together.
STEP = (0.25, 2.0)
FACTORS = (0.02, 8.0)


def scale_to_dose(
    simulator: Simulator,
    opponent: Opponent,
    cohort: Cohort,
    images: np.ndarray,
    device: str = 'cpu',
) -> list[float]:
    """Scale the template of each contrast, in place.

    The hinge of the training asks for at least the gap, so that a template may end stronger than it
    has to be, or, when steps are few, weaker. Its pattern stays the same.

    Parameters
    ----------
    simulator : Simulator
        Without a residual, or with one that has not been trained.
    opponent : Opponent
        Frozen classifiers and their gaps.
    cohort : Cohort
        Images.
    images : numpy.ndarray
        Indices of images that the classifiers were not trained with; at most
        :data:`IMAGES` are used, see :func:`evenly`.
    device : str
        Where.

    Returns
    -------
    list of float
        The factor of each contrast; 1 where nothing moves the score.
    """
    simulator.to(device).eval()
    for member in opponent.members:
        member.to(device)
    chosen = cohort.images[evenly(cohort, images, IMAGES)]
    factors = []
    for number, contrast in enumerate(cohort.target.contrasts):
        template = simulator.template.data[number]
        original, total, best = template.clone(), 1.0, (np.inf, 1.0)
        before = [image_scores(member, chosen, contrast) for member in opponent.members]
        for _ in range(TRIALS):
            template.copy_(total * original)
            reached = _effectiveness(simulator, opponent, cohort, chosen, number, before)
            if not np.isfinite(reached) or reached <= 0:
                break
            best = min(best, (abs(np.log(reached)), total))
            if abs(reached - 1) <= CLOSE:
                break
            total = float(np.clip(total * np.clip(1 / reached, *STEP), *FACTORS))
        template.copy_(best[1] * original)
        factors.append(best[1])
    return factors


def evenly(cohort: Cohort, images: np.ndarray, count: int) -> np.ndarray:
    """Some images, in their order, drawn evenly over the classes.

    In a table that is sorted by class the first ones would be of one class alone. Of each class,
    and of a regression, the first are taken; where a class has too few, more of the others.

    Parameters
    ----------
    cohort : Cohort
        With the classes.
    images : numpy.ndarray
        Indices to choose from.
    count : int
        How many at most.

    Returns
    -------
    numpy.ndarray
        Indices, a part of ``images``.
    """
    if cohort.target.kind == 'regression':
        return images[:count]
    labels = cohort.labels[images]
    turn = np.zeros(len(images), int)
    for value in np.unique(labels):
        turn[labels == value] = np.arange((labels == value).sum())
    return images[np.sort(np.argsort(turn, kind='stable')[:count])]


def _effectiveness(
    simulator: Simulator,
    opponent: Opponent,
    cohort: Cohort,
    images: torch.Tensor,
    number: int,
    before: list[np.ndarray],
) -> float:
    """Median shift of the scores in units of the gap, over images, directions and classifiers."""
    contrast, grid = cohort.target.contrasts[number], cohort.grid
    shifts = []
    for member, gaps, first in zip(opponent.members, opponent.gaps, before, strict=True):
        for sign in (1.0, -1.0):
            after = simulated_scores(member, simulator, images, sign, contrast, number, grid)
            shifts.append(sign * (after - first) / gaps[number])
    return float(np.median(np.concatenate(shifts)))
