"""Dose scale of a simulator: dose 1 moves the logit of held-out images by one class gap."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.evaluation.validity import image_scores, simulated_scores
from bids_interp.models.networks.pattern_simulator import PatternSimulator
from bids_interp.models.networks.simulator import Simulator
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.simulator import Opponent

#: Number of images that are simulated in both directions per trial.
IMAGES = 16
TRIALS = 6
#: Relative difference between median shift and class gap at which the trials end.
CLOSE = 0.05
#: Range of the factor of one trial, and of the total factor.
STEP = (0.25, 2.0)
FACTORS = (0.02, 8.0)


def scale_to_dose(
    simulator: Simulator | PatternSimulator,
    opponent: Opponent,
    cohort: Cohort,
    images: np.ndarray,
    device: str = 'cpu',
) -> list[float]:
    """Set the gain of each contrast, which scales template and residual alike.

    The hinge of the training requires a shift of at least the class gap, so that a simulator may
    end up too strong, or too weak after few steps. Scaling keeps its patterns.

    Parameters
    ----------
    simulator : Simulator or PatternSimulator
        Simulator after a stage of its training.
    opponent : Opponent
        Frozen classifiers and their class gaps.
    cohort : Cohort
        Cohort with the images.
    images : numpy.ndarray
        Indices of held-out images. At most :data:`IMAGES` are used, see :func:`balanced_subset`.
    device : str
        Device that computes the simulations.

    Returns
    -------
    list of float
        Gain of each contrast; it stays as it is if the simulator does not move the score.
    """
    simulator.to(device).eval()
    for member in opponent.members:
        member.to(device)
    chosen = cohort.images[balanced_subset(cohort, images, IMAGES)]
    gains = []
    for number, contrast in enumerate(cohort.target.contrasts):
        gain = simulator.gain[number]
        original, total, best = gain.clone(), 1.0, (np.inf, 1.0)
        before = [image_scores(member, chosen, contrast) for member in opponent.members]
        for _ in range(TRIALS):
            gain.copy_(total * original)
            reached = _effectiveness(simulator, opponent, cohort, chosen, number, before)
            if not np.isfinite(reached) or reached <= 0:
                break
            best = min(best, (abs(np.log(reached)), total))
            if abs(reached - 1) <= CLOSE:
                break
            total = float(np.clip(total * np.clip(1 / reached, *STEP), *FACTORS))
        gain.copy_(best[1] * original)
        gains.append(float(gain))
    return gains


def balanced_subset(cohort: Cohort, images: np.ndarray, count: int) -> np.ndarray:
    """Select images evenly over the classes, keeping their order.

    The first images of each class are selected. If a class has too few, the other classes fill up.
    For a regression, the first images are selected.

    Parameters
    ----------
    cohort : Cohort
        Cohort with the labels.
    images : numpy.ndarray
        Indices to select from.
    count : int
        Largest number of images.

    Returns
    -------
    numpy.ndarray
        Selected indices.
    """
    if cohort.target.kind == 'regression':
        return images[:count]
    labels = cohort.labels[images]
    turn = np.zeros(len(images), int)
    for value in np.unique(labels):
        turn[labels == value] = np.arange((labels == value).sum())
    return images[np.sort(np.argsort(turn, kind='stable')[:count])]


def _effectiveness(
    simulator: Simulator | PatternSimulator,
    opponent: Opponent,
    cohort: Cohort,
    images: torch.Tensor,
    number: int,
    before: list[np.ndarray],
) -> float:
    """Median shift in class gaps over images, directions and classifiers."""
    contrast, grid = cohort.target.contrasts[number], cohort.grid
    shifts = []
    for member, gaps, first in zip(opponent.members, opponent.gaps, before, strict=True):
        for sign in (1.0, -1.0):
            after = simulated_scores(member, simulator, images, sign, contrast, number, grid)
            shifts.append(sign * (after - first) / gaps[number])
    return float(np.median(np.concatenate(shifts)))
