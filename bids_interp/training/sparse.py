"""Sparse linear model, with a penalty chosen by inner folds and weights averaged over them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

#: Candidate penalties, as shares of the smallest one that sets all weights to zero.
SHARES = (0.35, 0.25, 0.15, 0.1, 0.07, 0.05)
INNER_FOLDS = 5
#: Range of the factor that undoes the shrinkage by the penalty.
FACTORS = (0.1, 10000.0)


class SparseFit(NamedTuple):
    """Sparse linear model with its penalty.

    Parameters
    ----------
    weights : numpy.ndarray
        (K, V); one row for two classes or a regression.
    offsets : numpy.ndarray
        (K,).
    share : float
        Penalty, one of :data:`SHARES`.
    """

    weights: np.ndarray
    offsets: np.ndarray
    share: float


def fit_sparse(
    features: np.ndarray,
    values: np.ndarray,
    families: np.ndarray,
    *,
    absolute: float,
    is_regression: bool,
    seed: int,
    shares: Sequence[float] = SHARES,
) -> SparseFit:
    """Fit a logistic (or linear) regression with an elastic-net penalty.

    The training data are divided into inner folds of whole families. Because a penalty shrinks the
    outputs, they are rescaled to fit the held-out values. The strongest penalty that is not clearly
    worse on these values than the best one is used. The model is the mean over the inner folds,
    which is more stable than one fit to all data.

    Parameters
    ----------
    features : numpy.ndarray
        (N, V) features on a common scale.
    values : numpy.ndarray
        (N,) class indices, or standardised values.
    families : numpy.ndarray
        (N,) groups that are never divided.
    absolute : float
        Share of the L1 term in the penalty, above 0 and up to 1. It makes the model sparse; the L2
        term keeps correlated features together.
    is_regression : bool
        Whether ``values`` are values of a regression.
    seed : int
        Random seed of the inner folds and the solver.
    shares : sequence of float
        Candidate penalties, from the strongest to the weakest.

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
        return SparseFit(np.zeros((count, features.shape[1])), np.zeros(count), shares[0])
    scaled = (features - centre) / scale
    parts = _inner_folds(values, families, is_regression, seed)
    truths = [values[held_out] for _, held_out in parts]
    tried = []
    for share in shares:
        fits = [
            _fit(scaled[train], values[train], share, absolute, is_regression, seed)
            for train, _ in parts
        ]
        outputs = [
            _outputs(fit, scaled[held_out]) for fit, (_, held_out) in zip(fits, parts, strict=True)
        ]
        factor = _factor(np.concatenate(outputs), np.concatenate(truths), is_regression)
        losses = [
            _loss(factor * found, truth, values, is_regression)
            for found, truth in zip(outputs, truths, strict=True)
        ]
        tried.append((np.array(losses), fits, factor))
    chosen = sparsest_adequate([losses for losses, _, _ in tried])
    _, fits, factor = tried[chosen]
    weights = factor * np.mean([_weights(fit)[0] for fit in fits], axis=0) / scale
    offsets = factor * np.mean([_weights(fit)[1] for fit in fits], axis=0)
    return SparseFit(weights, offsets - weights @ centre, shares[chosen])


def _inner_folds(
    values: np.ndarray, families: np.ndarray, is_regression: bool, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return training and held-out indices; all images are both if there are too few families."""
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
    parts = [(train, held_out) for train, held_out in splitter.split(values, values, families)]
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
    """Fit with a share of the smallest penalty that sets all weights to zero."""
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
    """Return outputs (N, K)."""
    weights, offsets = _weights(model)
    return features @ weights.T + offsets


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    two = outputs.shape[-1] == 1
    logits = np.concatenate([0 * outputs, outputs], axis=-1) if two else outputs
    chances: np.ndarray = softmax(logits, axis=-1)
    return chances


def _loss(outputs: np.ndarray, truth: np.ndarray, values: np.ndarray, is_regression: bool) -> float:
    """Return the loss on held-out values."""
    if is_regression:
        return float(((outputs[:, 0] - truth) ** 2).mean())
    return float(log_loss(truth, _probabilities(outputs), labels=np.unique(values)))


def sparsest_adequate(losses: Sequence[np.ndarray]) -> int:
    """Index of the strongest penalty that is not clearly worse than the best one.

    Parameters
    ----------
    losses : sequence of numpy.ndarray
        Losses of the inner folds for each penalty, from the strongest to the weakest.

    Returns
    -------
    int
        First index whose mean loss is within one standard error of the smallest.

    References
    ----------
    Hastie T, Tibshirani R, Friedman J. The Elements of Statistical Learning, 2nd edition, 2009,
    section 7.10.

    Examples
    --------
    >>> sparsest_adequate([np.array([0.9, 0.9]), np.array([0.6, 0.7]), np.array([0.55, 0.7])])
    1
    """
    means = np.array([one.mean() for one in losses])
    best = losses[int(means.argmin())]
    error = best.std(ddof=1) / np.sqrt(len(best)) if len(best) > 1 else 0.0
    return int(np.flatnonzero(means <= means.min() + error)[0])


def _factor(outputs: np.ndarray, truth: np.ndarray, is_regression: bool) -> float:
    """Return the factor on the outputs that fits the held-out values best."""
    if is_regression:
        slope = float(LinearRegression().fit(outputs, truth).coef_[0]) if outputs.std() else 1.0
    elif not outputs.std():
        slope = 1.0
    else:
        factors = np.geomspace(*FACTORS, 60)
        slope = float(factors[int(np.argmin(log_losses(outputs, truth, factors)))])
    return float(np.clip(slope, *FACTORS))


def log_losses(outputs: np.ndarray, truth: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Log loss (F,) of outputs (N, K) for each of many factors, as scikit-learn has it for one."""
    chances = _probabilities(factors[:, None, None] * outputs)[:, np.arange(len(truth)), truth]
    smallest = np.finfo(chances.dtype).eps
    losses: np.ndarray = -np.log(np.clip(chances, smallest, 1 - smallest)).mean(axis=1)
    return losses
