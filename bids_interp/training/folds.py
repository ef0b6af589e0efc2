"""Folds: families on one side, classes in proportion, validation nested in training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from bids_interp.errors import TrainingError


@dataclass(frozen=True)
class Fold:
    """Indices of one fold: train, validation (early stopping, calibration) and test."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make_folds(
    labels: np.ndarray,
    families: np.ndarray,
    n_folds: int,
    seed: int,
    strata: np.ndarray | None = None,
) -> list[Fold]:
    """Split into folds.

    Parameters
    ----------
    labels : numpy.ndarray
        (N,) classes.
    families : numpy.ndarray
        (N,) groups that are never torn apart.
    n_folds : int
        Number of folds, at least 2.
    seed : int
        Of the shuffling.
    strata : numpy.ndarray, optional
        (N,) what to keep in proportion besides the label (age, sex, site binned into one code).

    Returns
    -------
    list of Fold
        The test sets are a partition of all indices.

    Raises
    ------
    TrainingError
        If a class has fewer families than there are folds.

    Examples
    --------
    >>> labels = np.array([0, 1] * 12)
    >>> folds = make_folds(labels, np.arange(24) // 2, 3, seed=0)
    >>> sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(24))
    True
    """
    for value in np.unique(labels):
        available = len(np.unique(families[labels == value]))
        if available < n_folds + 1:
            raise TrainingError(
                f'Class {value} has {available} families: too few for {n_folds} folds with '
                'validation.',
                'Use fewer folds or more subjects.',
            )
    target = np.asarray(labels).astype(str)
    if strata is not None:
        joint = np.char.add(np.char.add(target, '/'), np.asarray(strata).astype(str))
        smallest = np.unique(joint, return_counts=True)[1].min()
        target = joint if smallest >= n_folds else target
    everybody = np.arange(len(labels))
    outer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = []
    for rest, test in outer.split(everybody, target, families):
        inner = StratifiedGroupKFold(max(5, n_folds), shuffle=True, random_state=seed + 1)
        train, validation = next(inner.split(rest, target[rest], families[rest]))
        folds.append(Fold(rest[train], rest[validation], test))
    return folds
