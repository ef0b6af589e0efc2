"""Folds that keep families together and classes in proportion, with nested validation splits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
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
    strata: Sequence[np.ndarray] = (),
    *,
    names: Sequence[str] | None = None,
) -> list[Fold]:
    """Split into folds.

    Parameters
    ----------
    labels : numpy.ndarray
        (N,) classes, or binned values of a regression.
    families : numpy.ndarray
        (N,) groups that are never divided.
    n_folds : int
        Number of folds, at least 2.
    seed : int
        Random seed of the shuffling.
    strata : sequence of numpy.ndarray
        (N,) codes of covariates to balance besides the label, the most important first. The last
        ones are dropped while a combination has fewer families than there are folds.
    names : sequence of str, optional
        Class names for messages.

    Returns
    -------
    list of Fold
        Folds whose test sets partition all indices.

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
    check_families(labels, families, n_folds, names)
    codes = list(strata)
    while True:
        try:
            return _split(labels, families, n_folds, seed, _joint(labels, families, codes, n_folds))
        except TrainingError:
            if not codes:
                raise
            codes.pop()


def check_families(
    labels: np.ndarray, families: np.ndarray, n_folds: int, names: Sequence[str] | None = None
) -> None:
    """Refuse classes with too few families: one per test split and two more for training.

    Raises
    ------
    TrainingError
        If a class has too few families; the message names it.
    """
    for value in np.unique(labels):
        available = len(np.unique(families[labels == value]))
        if available < n_folds or available - math.ceil(available / n_folds) < 2:
            name = str(value) if names is None else names[int(value)]
            raise TrainingError(
                f'Class {name} has {available} families, too few for {n_folds} folds with a '
                'validation split.',
                'Use fewer folds (--folds) or more subjects.',
            )


def _split(
    labels: np.ndarray, families: np.ndarray, n_folds: int, seed: int, target: np.ndarray
) -> list[Fold]:
    indices = np.arange(len(labels))
    outer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = []
    for rest, test in outer.split(indices, target, families):
        train, validation = _inner_split(labels[rest], target[rest], families[rest], n_folds, seed)
        folds.append(Fold(rest[train], rest[validation], test))
    return folds


def _inner_split(
    labels: np.ndarray, target: np.ndarray, families: np.ndarray, n_folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split the images outside the test set, with every class on both sides."""
    classes = np.unique(labels)
    scarcest = min(len(np.unique(families[labels == value])) for value in classes)
    parts = max(2, min(max(5, n_folds), scarcest))
    for code in (target, np.asarray(labels)):
        if np.unique(code, return_counts=True)[1].max() < parts:
            continue
        inner = StratifiedGroupKFold(parts, shuffle=True, random_state=seed + 1)
        with warnings.catch_warnings():
            # Rare combinations of covariates may fall on one side, whole classes may not.
            warnings.filterwarnings('ignore', message='The least populated class')
            splits = list(inner.split(labels, code, families))
        for train, validation in splits:
            if all(len(np.unique(labels[part])) == len(classes) for part in (train, validation)):
                return train, validation
    raise TrainingError(
        'The families cannot be split so that each fold trains and validates every class.',
        'Use fewer --folds or more subjects.',
    )


def _joint(
    labels: np.ndarray, families: np.ndarray, strata: list[np.ndarray], n_folds: int
) -> np.ndarray:
    """Combine label and strata into one code (N,), dropping strata with too few families."""
    while True:
        code = np.asarray(labels).astype(str)
        for part in strata:
            code = np.char.add(np.char.add(code, '/'), np.asarray(part).astype(str))
        smallest = min(len(np.unique(families[code == value])) for value in np.unique(code))
        if smallest >= n_folds or not strata:
            return code
        strata = strata[:-1]
