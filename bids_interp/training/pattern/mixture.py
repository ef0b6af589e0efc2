"""Mixture of patterns: subtypes of a class, told apart by the directions of their changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold

from bids_interp.models.networks.pattern_simulator import (
    expected_amounts,
    pattern_log_likelihoods,
)

#: Largest number of subtypes.
MOST = 3
ITERATIONS = 200
#: Smallest variance of the amount of change; the largest would make the amount meaningless.
SPREADS = (1e-3, 1.0)
FOLDS = 5
STARTS = 10
#: Standard errors by which the held-out likelihood of more subtypes must be better.
BETTER = 2.0
#: Smallest cosine between the directions of a subtype in two halves of the people.
STABLE = 0.7
#: Smallest share of a subtype, and smallest number of families that have mostly this one.
SMALLEST_SHARE, FEWEST_FAMILIES = 0.1, 5


@dataclass(frozen=True)
class Mixture:
    """Subtypes of a class in coordinates in which controls have unit covariance around zero.

    A patient of subtype k has the change s m_k plus the variation of controls, where the amount s
    is normal with mean 1.

    Parameters
    ----------
    centres : numpy.ndarray
        (K, P) mean changes m_k.
    spreads : numpy.ndarray
        (K,) variances of the amount.
    shares : numpy.ndarray
        (K,) shares of the subtypes.
    """

    centres: np.ndarray
    spreads: np.ndarray
    shares: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(K,) squared lengths of the mean changes."""
        return np.square(self.centres).sum(axis=1)

    def log_likelihoods(self, points: np.ndarray) -> np.ndarray:
        """Return log-likelihoods (N, K) of points (N, P), relative to no change, with shares."""
        shares = torch.from_numpy(np.maximum(self.shares, 1e-12))
        return pattern_log_likelihoods(*self._scores(points), shares).numpy()

    def memberships(self, points: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, K) of the subtypes of patients at points (N, P)."""
        found: np.ndarray = softmax(self.log_likelihoods(points), axis=1)
        return found

    def amounts(self, points: np.ndarray) -> np.ndarray:
        """Return the expected amounts (N, K) of each subtype's change, if it is the own one."""
        return expected_amounts(*self._scores(points)).numpy()

    def _scores(self, points: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores = torch.from_numpy(points.astype(np.float64) @ self.centres.T)
        return scores, torch.from_numpy(self.sizes), torch.from_numpy(self.spreads)

    def likelihood(self, points: np.ndarray) -> np.ndarray:
        """Return the log-likelihood (N,) of each point, relative to no change."""
        return np.logaddexp.reduce(self.log_likelihoods(points), axis=1)


def fit_mixture(points: np.ndarray, count: int, seed: int) -> Mixture:
    """Fit subtypes to patients by expectation maximisation.

    Parameters
    ----------
    points : numpy.ndarray
        (N, P) changes of patients; controls have unit covariance around zero.
    count : int
        Number of subtypes.
    seed : int
        Seed of the starts.
    """
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    directions = points / np.where(lengths > 0, lengths, 1)
    starts = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(directions)
    shares = np.eye(count)[starts]
    amounts = np.ones(shares.shape)
    squares = np.ones(shares.shape)
    for _ in range(ITERATIONS):
        weights = shares * amounts
        totals = np.maximum((shares * squares).sum(axis=0), 1e-9)
        centres = weights.T @ points / totals[:, None]
        deviations = shares * (squares - 2 * amounts + 1)
        spreads = deviations.sum(axis=0) / np.maximum(shares.sum(axis=0), 1e-9)
        found = Mixture(centres, np.clip(spreads, *SPREADS), shares.mean(axis=0))
        shares = found.memberships(points)
        amounts = found.amounts(points)
        squares = np.square(amounts) + found.spreads / (1 + found.spreads * found.sizes)
    return found


@dataclass(frozen=True)
class Subtypes:
    """Chosen mixture, and how it was chosen.

    Parameters
    ----------
    mixture : Mixture
        Subtypes.
    gains : tuple of float
        Held-out log-likelihood per patient of 1, 2, ... subtypes.
    stability : float
        Smallest cosine of the direction of a subtype in two halves of the families; 1 for one.
    """

    mixture: Mixture
    gains: tuple[float, ...]
    stability: float


def find_subtypes(points: np.ndarray, families: np.ndarray, seed: int) -> Subtypes:
    """Choose the number of subtypes by their held-out likelihood and their stability.

    There is one, unless more describe held-out families clearly better, each of them has enough
    people, and two halves of the families show the same directions.

    Parameters
    ----------
    points : numpy.ndarray
        (N, P) see :func:`fit_mixture`.
    families : numpy.ndarray
        (N,) groups of related images.
    seed : int
        Random seed.
    """
    single = Subtypes(fit_mixture(points, 1, seed), (), 1.0)
    folds = min(FOLDS, len(np.unique(families)))
    # One piece has only one direction.
    if folds < 2 or points.shape[1] < 2:
        return single
    chosen, gains = single, []
    best = _held_out(points, families, folds, 1, seed)
    gains.append(float(best.mean()))
    for count in range(2, MOST + 1):
        if len(np.unique(families)) < count * FEWEST_FAMILIES:
            break
        tried = _held_out(points, families, folds, count, seed)
        gains.append(float(tried.mean()))
        if not is_better(tried, best, families):
            break
        mixture = fit_mixture(points, count, seed)
        stability = _stability(points, families, mixture, seed)
        if stability < STABLE or not _has_people(mixture, points, families):
            break
        chosen, best = Subtypes(mixture, (), stability), tried
    return Subtypes(chosen.mixture, tuple(gains), chosen.stability)


def _held_out(
    points: np.ndarray, families: np.ndarray, folds: int, count: int, seed: int
) -> np.ndarray:
    """Return the log-likelihood (N,) of each point under a mixture of other families."""
    found = np.zeros(len(points))
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(
        points, groups=families
    ):
        found[test] = fit_mixture(points[train], count, seed).likelihood(points[test])
    return found


def is_better(first: np.ndarray, second: np.ndarray, families: np.ndarray) -> bool:
    """Return whether log-likelihoods (N,) are clearly higher, judged between whole families.

    Examples
    --------
    >>> families = np.array([0, 1, 2, 3])
    >>> is_better(np.ones(4), np.array([0.1, 0.0, 0.1, 0.0]), families)
    True
    >>> is_better(np.array([9.0, 0, 0, 0]), np.zeros(4), families)
    False
    """
    _, codes = np.unique(families, return_inverse=True)
    gains = np.bincount(codes, first - second)
    error = gains.std(ddof=1) * np.sqrt(len(gains))
    return bool(gains.sum() > BETTER * error)


def _has_people(mixture: Mixture, points: np.ndarray, families: np.ndarray) -> bool:
    """Return True if every subtype has a sufficient share and enough families."""
    own = mixture.memberships(points).argmax(axis=1)
    counts = [len(np.unique(families[own == k])) for k in range(len(mixture.shares))]
    return bool(mixture.shares.min() >= SMALLEST_SHARE and min(counts) >= FEWEST_FAMILIES)


def _stability(points: np.ndarray, families: np.ndarray, mixture: Mixture, seed: int) -> float:
    """Return the smallest cosine of matched directions of two halves of the families."""
    names = np.random.default_rng(seed).permutation(np.unique(families))
    halves = [np.isin(families, part) for part in np.array_split(names, 2)]
    count = len(mixture.shares)
    first, second = (_directions(fit_mixture(points[half], count, seed)) for half in halves)
    whole = _directions(mixture)
    pairs = [(whole @ part.T).argmax(axis=1) for part in (first, second)]
    if any(len(set(pair.tolist())) < count for pair in pairs):
        return 0.0
    return float(min((first[i] @ second[j]) for i, j in zip(*pairs, strict=True)))


def _directions(mixture: Mixture) -> np.ndarray:
    return mixture.centres / np.sqrt(np.maximum(mixture.sizes, 1e-12))[:, None]
