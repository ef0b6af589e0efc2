"""A sparse linear model whose penalty is chosen, and which is averaged, over inner folds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

#: Penalties to choose from: shares of the one under which no weight is left.
SHARES = (0.35, 0.25, 0.15, 0.1, 0.07, 0.05)
INNER_FOLDS = 5
#: Limits of the factor that undoes the shrinkage of the penalty.
FACTORS = (0.1, 10000.0)


def fit_sparse(
    features: np.ndarray,
    values: np.ndarray,
    families: np.ndarray,
    *,
    absolute: float,
    is_regression: bool,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic (or linear) regression with an elastic-net penalty.

    The training data are cut into inner folds of whole families. A penalty makes outputs small, so
    that they are scaled to fit the values of the parts left out. The penalty is the strongest one
    that does not do clearly worse there than the best; the model is the mean of those of the inner
    folds, which is steadier than one of all data.

    Parameters
    ----------
    features : numpy.ndarray
        (N, V) on one scale.
    values : numpy.ndarray
        (N,) numbers of the classes from 0, or standardised values.
    families : numpy.ndarray
        (N,) groups that are never torn apart.
    absolute : float
        Share of absolute values in the penalty, above 0 to 1: they make the model sparse. The rest
        are squares, which keep features together that say the same.
    is_regression : bool
        Whether ``values`` are numbers.
    seed : int
        Of the inner folds and of the solver.

    Returns
    -------
    weights : numpy.ndarray
        (K, V); one row for two classes or a regression.
    offsets : numpy.ndarray
        (K,).

    References
    ----------
    Zou H, Hastie T. Regularization and variable selection via the elastic net. Journal of the Royal
    Statistical Society B 2005;67(2):301-320.
    """
    centre = features.mean(axis=0)
    scale = float(features.std(axis=0).mean())
    if not scale:
        classes = 0 if is_regression else len(np.unique(values))
        count = classes if classes > 2 else 1
        return np.zeros((count, features.shape[1])), np.zeros(count)
    scaled = (features - centre) / scale
    parts = _inner_folds(values, families, is_regression, seed)
    truths = [values[left] for _, left in parts]
    tried = []
    for share in SHARES:
        fits = [
            _fit(scaled[train], values[train], share, absolute, is_regression, seed)
            for train, _ in parts
        ]
        outputs = [_outputs(fit, scaled[left]) for fit, (_, left) in zip(fits, parts, strict=True)]
        factor = _factor(np.concatenate(outputs), np.concatenate(truths), is_regression)
        losses = [
            _loss(factor * found, truth, values, is_regression)
            for found, truth in zip(outputs, truths, strict=True)
        ]
        tried.append((np.array(losses), fits, factor))
    _, fits, factor = tried[choose([losses for losses, _, _ in tried])]
    weights = factor * np.mean([_weights(fit)[0] for fit in fits], axis=0) / scale
    offsets = factor * np.mean([_weights(fit)[1] for fit in fits], axis=0)
    return weights, offsets - weights @ centre


def _inner_folds(
    values: np.ndarray, families: np.ndarray, is_regression: bool, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices to train with, and those left out; everything is both where families are too few."""
    everything = np.arange(len(values))
    if is_regression:
        count = min(INNER_FOLDS, len(np.unique(families)))
        splitter: Any = GroupKFold(count) if count > 1 else None
    else:
        fewest = min(len(np.unique(families[values == value])) for value in np.unique(values))
        count = min(INNER_FOLDS, fewest)
        splitter = (
            StratifiedGroupKFold(count, shuffle=True, random_state=seed) if count > 1 else None
        )
    if splitter is None:
        return [(everything, everything)]
    parts = [(train, left) for train, left in splitter.split(values, values, families)]
    if is_regression:
        return parts
    classes = len(np.unique(values))
    whole = [part for part in parts if len(np.unique(values[part[0]])) == classes]
    return whole or [(everything, everything)]


def _fit(
    features: np.ndarray,
    values: np.ndarray,
    share: float,
    absolute: float,
    is_regression: bool,
    seed: int,
) -> Any:
    """Fit with a share of the penalty under which no weight is left."""
    count = len(values)
    if is_regression:
        largest = np.abs(features.T @ (values - values.mean())).max() / count
        alpha = share * largest / absolute
        model: Any = ElasticNet(alpha=alpha, l1_ratio=absolute, max_iter=2000)
    else:
        classes = np.unique(values)
        balance = count / (len(classes) * np.bincount(np.searchsorted(classes, values)))
        residuals = (values[:, None] == classes) - 1 / len(classes)
        weighted = balance[np.searchsorted(classes, values)][:, None] * residuals
        largest = np.abs(features.T @ weighted).max()
        model = LogisticRegression(
            C=absolute / (share * largest),
            l1_ratio=absolute,
            solver='saga',
            class_weight='balanced',
            max_iter=200,
            tol=1e-3,
            random_state=seed,
        )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        return model.fit(features, values)


def _weights(model: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)


def _outputs(model: Any, features: np.ndarray) -> np.ndarray:
    """Outputs (N, K)."""
    weights, offsets = _weights(model)
    return features @ weights.T + offsets


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    logits = np.concatenate([0 * outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _loss(outputs: np.ndarray, truth: np.ndarray, values: np.ndarray, is_regression: bool) -> float:
    """Loss of a part left out."""
    if is_regression:
        return float(((outputs[:, 0] - truth) ** 2).mean())
    return float(log_loss(truth, _probabilities(outputs), labels=np.unique(values)))


def choose(losses: Sequence[np.ndarray]) -> int:
    """The strongest penalty that is not clearly worse than the best one.

    Parameters
    ----------
    losses : sequence of numpy.ndarray
        From the strongest penalty on, the losses of the inner folds.

    Returns
    -------
    int
        The first whose mean loss is within one standard error of the smallest.

    References
    ----------
    Hastie T, Tibshirani R, Friedman J. The Elements of Statistical Learning, 2nd edition, 2009,
    section 7.10.

    Examples
    --------
    >>> choose([np.array([0.9, 0.9]), np.array([0.6, 0.7]), np.array([0.55, 0.7])])
    1
    """
    means = np.array([one.mean() for one in losses])
    best = losses[int(means.argmin())]
    error = best.std(ddof=1) / np.sqrt(len(best)) if len(best) > 1 else 0.0
    return int(np.flatnonzero(means <= means.min() + error)[0])


def _factor(outputs: np.ndarray, truth: np.ndarray, is_regression: bool) -> float:
    """Factor on the outputs that fits them best to what was left out."""
    if is_regression:
        slope = float(LinearRegression().fit(outputs, truth).coef_[0]) if outputs.std() else 1.0
    elif not outputs.std():
        slope = 1.0
    else:
        factors = np.geomspace(*FACTORS, 60)
        losses = [log_loss(truth, _probabilities(factor * outputs)) for factor in factors]
        slope = float(factors[int(np.argmin(losses))])
    return float(np.clip(slope, *FACTORS))
