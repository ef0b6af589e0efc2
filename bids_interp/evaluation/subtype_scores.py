"""Subtype scores: whether maps of different people differ, and name their own subtypes."""

from __future__ import annotations

import numpy as np

from bids_interp.evaluation.scores import weighted_auc


def between_subject_ncc(maps: np.ndarray, families: np.ndarray) -> float:
    """Return the mean NCC of the maps of two people, over all pairs of different families.

    Parameters
    ----------
    maps : numpy.ndarray
        (N, V) maps inside the brain, by the same model.
    families : numpy.ndarray
        (N,) family of each map.

    Examples
    --------
    >>> maps = np.array([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0], [2.0, 1.0, 0.0]])
    >>> round(between_subject_ncc(maps, np.array([0, 1, 1])), 6)
    0.0
    """
    products = _standardised(maps) @ _standardised(maps).T
    others = families[:, None] != families
    return float(products[others].mean()) if others.any() else float('nan')


def subtype_scores(maps: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Return how much better each map fits the truth of a subtype than that of any other.

    Parameters
    ----------
    maps : numpy.ndarray
        (N, V) maps.
    truths : numpy.ndarray
        (K, V) mean truth of each subtype, K of 2 or more.

    Returns
    -------
    numpy.ndarray
        (N, K) NCC with the truth of the subtype minus the largest NCC with another one.
    """
    fits = _standardised(maps) @ _standardised(truths).T
    others = np.stack([np.delete(fits, k, axis=1).max(axis=1) for k in range(len(truths))], axis=1)
    return np.asarray(fits - others)


def subtype_auc(
    scores: np.ndarray, subtypes: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the AUC with which maps name the subtype of their own person.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, K) of :func:`subtype_scores`.
    subtypes : numpy.ndarray
        (N,) true subtype of each person.
    weights : numpy.ndarray, optional
        (D, N) weights of the people, such as draws of a bootstrap; by default each counts once.

    Returns
    -------
    numpy.ndarray
        (D,) mean over the subtypes of the AUC of one against the rest; 0.5 if all maps are alike,
        NaN if a subtype is missing.
    """
    drawn = np.ones((1, len(subtypes))) if weights is None else weights
    # Equal maps give scores that are equal up to rounding.
    rounded = np.round(scores, 6)
    areas = [weighted_auc(rounded[:, k], subtypes == k, drawn) for k in range(scores.shape[1])]
    return np.asarray(np.mean(areas, axis=0))


def _standardised(values: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and norm 1; constant rows become zeros."""
    centred = np.asarray(values, np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
