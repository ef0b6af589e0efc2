"""Calibration of a classifier on the validation split: temperature and class gaps."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from bids_interp.models.target import Target

#: Smallest class gap in standard deviations of the scores (in logits if they are constant), so
#: that the simulator's hinge stays defined for a classifier at chance.
SMALLEST_GAP = 0.5


def fit_temperature(outputs: np.ndarray, labels: np.ndarray, target: Target) -> float:
    """Fit the temperature T in [0.25, 8] that minimises the cross-entropy of outputs / T.

    Parameters
    ----------
    outputs : numpy.ndarray
        (N, K) logits.
    labels : numpy.ndarray
        (N,) class indices.
    target : Target
        Meaning of the labels; the temperature of a regression is 1.

    References
    ----------
    Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017.
    """
    if target.kind == 'regression':
        return 1.0
    logits = as_class_logits(np.asarray(outputs, np.float64), target)
    chosen = np.asarray(labels, int)
    candidates = np.exp(np.linspace(np.log(0.25), np.log(8.0), 200))
    losses = []
    for temperature in candidates:
        scaled = logits / temperature
        own = scaled[np.arange(len(chosen)), chosen]
        losses.append((logsumexp(scaled, axis=1) - own).mean())
    return float(candidates[int(np.argmin(losses))])


def as_class_logits(outputs: np.ndarray, target: Target) -> np.ndarray:
    """Return logits (N, classes); a binary logit becomes two columns, 0 and the logit."""
    if target.kind == 'binary':
        return np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    return outputs


def probabilities(outputs: np.ndarray, temperature: float, target: Target) -> np.ndarray:
    """Return calibrated probabilities (N, classes), without columns for a regression."""
    if target.kind == 'regression':
        return np.zeros((len(outputs), 0))
    scaled = as_class_logits(np.asarray(outputs, np.float64), target) / temperature
    return np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True))


def class_gaps(outputs: np.ndarray, labels: np.ndarray, target: Target) -> list[float]:
    """Median score of the positive class minus that of the negative class, for each contrast.

    The smallest gap is half a standard deviation of the scores. The gap of a regression is 1, one
    standard deviation of the target.

    Examples
    --------
    >>> target = Target('binary', 'group', ('control', 'patient'))
    >>> class_gaps(np.array([[-1.0], [-3.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]), target)
    [3.5]
    """
    if target.kind == 'regression':
        return [1.0]
    gaps = []
    for contrast in target.contrasts:
        scores = outputs @ np.array(contrast.weights)
        sides = [
            scores[labels == target.classes.index(name)]
            for name in (contrast.negative, contrast.positive)
        ]
        gap = np.median(sides[1]) - np.median(sides[0]) if all(map(len, sides)) else 0.0
        gaps.append(max(float(gap), SMALLEST_GAP * (float(scores.std()) or 1.0)))
    return gaps
