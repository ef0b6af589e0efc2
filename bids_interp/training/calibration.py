"""Calibration of a classifier on the validation split: temperature, intercepts, class gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from bids_interp.models.target import Target

#: Range of the temperature.
TEMPERATURES = (0.25, 8.0)
#: Smallest class gap in standard deviations of the scores (in logits if they are constant), so
#: that the simulator's hinge stays defined for a classifier at chance.
SMALLEST_GAP = 0.5


@dataclass(frozen=True)
class Calibration:
    """Calibration of a classifier: class logits are outputs / temperature + intercept.

    Parameters
    ----------
    temperature : float
        Divisor of the outputs.
    intercept : tuple of float
        Added to each of the K outputs after the division.
    """

    temperature: float = 1.0
    intercept: tuple[float, ...] = (0.0,)


def fit_calibration(outputs: np.ndarray, labels: np.ndarray, target: Target) -> Calibration:
    """Fit temperature and intercepts that minimise the cross-entropy of the labels.

    Classifiers are trained with balanced classes, so that a temperature alone cannot reach the
    frequency of the classes. Few images cannot determine the parameters, which are therefore shrunk
    by normal priors: the logarithm of the temperature has mean 0, and the difference of two
    intercepts the logarithm of the ratio of the class sizes, both with a standard deviation of 1.

    Parameters
    ----------
    outputs : numpy.ndarray
        (N, K) outputs for images that the classifier was not trained with.
    labels : numpy.ndarray
        (N,) class indices.
    target : Target
        Meaning of the labels; a regression is not calibrated.

    References
    ----------
    Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017.
    Saerens M, Latinne P, Decaestecker C. Adjusting the outputs of a classifier to new a priori
    probabilities. Neural Computation 2002;14(1):21-41.
    """
    if target.kind == 'regression':
        return Calibration()
    logits = as_class_logits(np.asarray(outputs, np.float64), target)
    chosen = np.asarray(labels, int)
    # Half an image more in each class keeps the logarithm finite.
    expected = np.log(np.bincount(chosen, minlength=logits.shape[1]) + 0.5)
    expected -= expected.mean()

    def loss(parameters: np.ndarray) -> float:
        scaled = logits * np.exp(-parameters[0]) + parameters[1:]
        entropy = logsumexp(scaled, axis=1) - scaled[np.arange(len(chosen)), chosen]
        prior = parameters[0] ** 2 / 2 + np.square(parameters[1:] - expected).sum()
        return float(entropy.sum() + prior)

    bounds = [tuple(np.log(TEMPERATURES)), *[(None, None)] * len(expected)]
    found = minimize(loss, [0.0, *expected], method='L-BFGS-B', bounds=bounds).x
    intercepts = found[1:] - found[1:].mean()
    if target.kind == 'binary':
        intercepts = intercepts[1:] - intercepts[:1]
    return Calibration(float(np.exp(found[0])), tuple(intercepts.tolist()))


def as_class_logits(outputs: np.ndarray, target: Target) -> np.ndarray:
    """Return logits (N, classes); a binary logit becomes two columns, 0 and the logit."""
    if target.kind == 'binary':
        return np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    return outputs


def probabilities(outputs: np.ndarray, calibration: Calibration, target: Target) -> np.ndarray:
    """Return calibrated probabilities (N, classes), without columns for a regression."""
    if target.kind == 'regression':
        return np.zeros((len(outputs), 0))
    calibrated = np.asarray(outputs, np.float64) / calibration.temperature + calibration.intercept
    scaled = as_class_logits(calibrated, target)
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
