"""Group NCC: agreement of group means with the truth, with draws of brains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bids_interp.evaluation.scores import Estimate

#: Number of refits of each fold.
REFITS = 50


def draw_weights(n_families: int, draws: int, seed: int) -> np.ndarray:
    """Return the count of each family in each bootstrap draw, (draws, families).

    Compared methods use the same weights, so that their differences are paired.
    """
    drawn = np.random.default_rng(seed).integers(n_families, size=(draws, n_families))
    return np.stack([np.bincount(row, minlength=n_families) for row in drawn]).astype(np.float64)


def bootstrap_weights(n_families: int, draws: int, seed: int) -> np.ndarray:
    """Return weights (1 + draws, families); the first row counts each family once."""
    everybody = np.ones((1, n_families))
    return np.concatenate([everybody, draw_weights(n_families, draws, seed)])


class GroupAgreement:
    """NCC of the mean map of weighted families with their mean truth.

    The NCC of two sums of maps needs only the products of all pairs of families, so the cost of a
    bootstrap draw does not depend on the number of voxels.

    Parameters
    ----------
    maps, truths : numpy.ndarray
        (N, V) inside the brain.
    families : numpy.ndarray
        (N,) index of the family of each map.
    n_families : int
        Number of families; some may have no map.

    Examples
    --------
    >>> truths = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    >>> maps = np.array([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
    >>> agreement = GroupAgreement(maps, truths, np.arange(2), 2)
    >>> agreement(np.array([[1.0, 0.0], [0.0, 1.0]])).round(3).tolist()
    [1.0, -0.866]
    """

    def __init__(
        self, maps: np.ndarray, truths: np.ndarray, families: np.ndarray, n_families: int
    ) -> None:
        found = _family_sums(maps, families, n_families)
        wanted = _family_sums(truths, families, n_families)
        self.cross = found @ wanted.T
        self.found, self.wanted = found @ found.T, wanted @ wanted.T

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """NCC (D,) for weights (D, families); 0 if a map is constant."""
        cross, found, wanted = (
            np.einsum('df,fg,dg->d', weights, product, weights, optimize=True)
            for product in (self.cross, self.found, self.wanted)
        )
        scale = np.sqrt(np.maximum(found, 0) * np.maximum(wanted, 0))
        return np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0)


def _family_sums(values: np.ndarray, families: np.ndarray, count: int) -> np.ndarray:
    """Sums (families, V), centred over the voxels."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, families, values)
    return sums - sums.mean(axis=1, keepdims=True)


def family_mean(values: np.ndarray, families: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the means (D,) of one number per image for weights (D, families), ignoring NaN.

    Examples
    --------
    >>> weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    >>> family_mean(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 1]), weights).tolist()
    [4.0, 2.0]
    """
    finite = np.isfinite(values)
    size = weights.shape[1]
    sums = np.bincount(families[finite], values[finite], minlength=size)
    counts = np.bincount(families[finite], minlength=size)
    total = weights @ counts
    return np.divide(weights @ sums, total, out=np.full(len(weights), np.nan), where=total > 0)


def bootstrap_interval(value: float, drawn: np.ndarray, level: float = 0.95) -> Estimate:
    """Return a number with the percentile interval of its bootstrap draws."""
    tail = (1 - level) / 2
    finite = drawn[np.isfinite(drawn)]
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def draw_families(families: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw families with replacement.

    Parameters
    ----------
    families : numpy.ndarray
        (N,) family of each image.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    indices : numpy.ndarray
        (M,) images of the drawn families, all images of a family together.
    drawn : numpy.ndarray
        (M,) their families; a family that was drawn twice counts as two.
    """
    names = np.unique(families)
    groups = [np.flatnonzero(families == name) for name in rng.choice(names, len(names))]
    drawn = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return np.concatenate(groups), drawn


def refit_maps(
    estimate: Callable[[np.ndarray, np.ndarray], np.ndarray],
    families: np.ndarray,
    seed: int,
    count: int = REFITS,
) -> np.ndarray:
    """Estimate a map from several draws of training brains.

    Parameters
    ----------
    estimate : callable
        Estimator (V,) of the indices (M,) of training images and of their families (M,).
    families : numpy.ndarray
        (N,) family of each training image.
    seed : int
        Seed of the draws.
    count : int
        Number of draws.

    Returns
    -------
    numpy.ndarray
        (count, V) float32.
    """
    rng = np.random.default_rng(seed)
    return np.stack(
        [np.asarray(estimate(*draw_families(families, rng)), np.float32) for _ in range(count)]
    )


def centred_interval(value: float, drawn: np.ndarray, level: float = 0.95) -> Estimate:
    """Return a number with the spread of its refits around it.

    A refit sees fewer different brains than the map itself and is less accurate on average; its
    quantiles are taken relative to the mean of all refits.

    Examples
    --------
    >>> centred_interval(0.9, np.array([0.7, 0.8, 0.75]), level=1.0)
    Estimate(value=0.9, low=0.85, high=0.95)
    """
    tail = (1 - level) / 2
    low, high = np.quantile(drawn - drawn.mean(), [tail, 1 - tail])
    return Estimate(float(value), round(float(value + low), 12), round(float(value + high), 12))
