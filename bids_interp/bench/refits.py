"""Refits of a map to training brains drawn with replacement, for intervals that include them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bids_interp.evaluation.scores import Estimate

#: Number of refits of each fold.
REFITS = 50


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
