"""Scores of maps against a truth and of classifiers against labels, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score


def ncc(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Normalised cross-correlation of two maps inside a mask, in [-1, 1].

    Parameters
    ----------
    first, second : numpy.ndarray
        Maps of equal shape.
    mask : numpy.ndarray
        Boolean mask of the same shape.

    Returns
    -------
    float
        Pearson's correlation over the voxels, 0 if a map is constant.

    Examples
    --------
    >>> ramp = np.arange(8.0)
    >>> round(ncc(ramp, 1 - 2 * ramp, ramp >= 0), 6)
    -1.0
    """
    a = np.asarray(first, dtype=np.float64)[mask]
    b = np.asarray(second, dtype=np.float64)[mask]
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def sign_accuracy(
    estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray, threshold: float = 0.02
) -> float:
    """Share of voxels with ``|truth| > threshold`` in which both maps have the same sign."""
    where = mask & (np.abs(truth) > threshold)
    if not where.any():
        return float('nan')
    return float((np.sign(estimate[where]) == np.sign(truth[where])).mean())


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the receiver operating characteristic of scores for labels 0 and 1.

    Raises
    ------
    ValueError
        If there is only one class.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError('The area under the curve needs both classes.')
    return float(roc_auc_score(labels, scores))


def weighted_auc(scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the curve for many weightings of the same scores, such as bootstrap draws.

    Parameters
    ----------
    scores : numpy.ndarray
        (N,) scores.
    is_positive : numpy.ndarray
        (N,) bool.
    weights : numpy.ndarray
        (D, N) weights.

    Returns
    -------
    numpy.ndarray
        (D,) share of the pairs in which the positive one has the larger score, ties counted by
        half; NaN where a class has no weight.

    Examples
    --------
    >>> weights = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
    >>> weighted_auc(np.array([0.0, 2.0, 1.0]), np.array([False, False, True]), weights)
    array([0.5, 1. , nan])
    """
    difference = scores[is_positive][:, None] - scores[~is_positive]
    wins = 0.5 * (np.sign(difference) + 1)
    ours, others = weights[:, is_positive], weights[:, ~is_positive]
    total = ours.sum(axis=1) * others.sum(axis=1)
    won = ((ours @ wins) * others).sum(axis=1)
    return np.divide(won, total, out=np.full(len(weights), np.nan), where=total > 0)


@dataclass(frozen=True)
class Estimate:
    """Value with its interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Convert to JSON types."""
        return {'value': self.value, 'low': self.low, 'high': self.high}


def bootstrap_by_family(
    statistic: Callable[[np.ndarray], float],
    families: np.ndarray,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Bootstrap the percentile interval of a statistic by drawing families with replacement.

    Parameters
    ----------
    statistic : callable
        Function from an array of indices to a number. Draws for which it raises ValueError or is
        not finite (one class only) are omitted.
    families : numpy.ndarray
        (N,) units that are independent of each other.
    seed, draws, level
        Random seed, number of draws and confidence level.
    """

    def measure(index: np.ndarray) -> dict[str, float]:
        try:
            return {'': statistic(index)}
        except ValueError:
            return {'': float('nan')}

    drawn = bootstrap_measures(measure, families, seed, draws, level)['']
    return Estimate(statistic(np.arange(len(families))), drawn.low, drawn.high)


def bootstrap_measures(
    measure: Callable[[np.ndarray], Mapping[str, float]],
    families: np.ndarray,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Bootstrap percentile intervals of several measures from the same draws of families.

    Parameters
    ----------
    measure : callable
        Function from an array of indices to named numbers; those that are not finite are omitted.
    families : numpy.ndarray
        (N,) units that are independent of each other.
    seed, draws, level
        Random seed, number of draws and confidence level.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(families == family) for family in np.unique(families)]
    drawn = []
    for _ in range(draws):
        chosen = rng.integers(len(members), size=len(members))
        drawn.append(measure(np.concatenate([members[i] for i in chosen])))
    tail = (1 - level) / 2
    found = {}
    for name, value in measure(np.arange(len(families))).items():
        values = np.array([one[name] for one in drawn])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (np.nan, np.nan)
        found[name] = Estimate(float(value), float(low), float(high))
    return found


def permutation_p(scores: np.ndarray, labels: np.ndarray, seed: int, draws: int = 2000) -> float:
    """One-sided p value of the AUC under permuted labels, (1 + #beyond) / (1 + draws)."""
    rng = np.random.default_rng(seed)
    observed = auc(scores, labels)
    beyond = sum(auc(scores, rng.permutation(labels)) >= observed for _ in range(draws))
    return (1 + beyond) / (1 + draws)
