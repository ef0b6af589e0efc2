"""Confounds: prediction of the target from covariates alone and from brain masks alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bids_interp.bids.write.atomic import to_json_types
from bids_interp.evaluation.classification import discrimination
from bids_interp.evaluation.out_of_fold import OutOfFold
from bids_interp.evaluation.regression import correlation_metrics

#: Largest number of principal components of the masks.
COMPONENTS = 20

_MISSING = {'', 'n/a', 'na', 'nan', '<na>', 'nat', 'inf', '-inf'}

FoldIndices = Sequence[tuple[np.ndarray, np.ndarray]]


def covariate_metrics(
    oof: OutOfFold,
    covariates: Any,
    fold_indices: FoldIndices,
    seed: int,
    draws: int = 1000,
    *,
    categories: Collection[str] = (),
) -> dict[str, Any]:
    """Predict the target from covariates alone, in the same folds.

    A balanced logistic regression (ridge regression for numbers) is fitted on the training part of
    each fold, including the standardisation of numbers and the indicators of categories. Missing
    numbers are replaced by the training mean, with an indicator; missing categories are a category
    of their own.

    Parameters
    ----------
    oof : OutOfFold
        Source of targets and families; its predictions are not used.
    covariates : pandas.DataFrame or mapping of str to sequence
        N values of each covariate.
    fold_indices : sequence of (train, test)
        Indices of each fold.
    seed, draws : int
        Random seed of bootstrap and permutations, and number of bootstrap draws.
    categories : collection of str
        Categorical covariates, even if their values look like numbers.

    Returns
    -------
    dict
        ``auc`` or, for regression, ``pearson_r`` with interval; ``permutation_p``; ``used`` and
        ``left_out`` (name to reason); ``n_missing`` of each covariate used; ``per_covariate``, the
        same measures of each covariate alone. Without usable covariates, only ``used`` and
        ``left_out``.
    """
    columns = {str(name): _values(covariates[name]) for name in _names(covariates)}
    left_out = {name: reason for name, cells in columns.items() if (reason := _useless(cells))}
    used = [name for name in columns if name not in left_out]
    found: dict[str, Any] = {'used': used, 'left_out': left_out}
    if not used:
        return found

    def measure(names: list[str]) -> dict[str, Any]:
        def features(train: np.ndarray) -> np.ndarray:
            parts = [_encode(columns[name], train, name in categories) for name in names]
            return np.concatenate(parts, axis=1)

        return _measure(
            oof, [features(train) for train, _ in fold_indices], fold_indices, seed, draws
        )

    found |= measure(used)
    found['n_missing'] = {name: int(_is_missing(columns[name]).sum()) for name in used}
    found['per_covariate'] = {name: measure([name]) for name in used}
    cleaned: dict[str, Any] = to_json_types(found)
    return cleaned


def covariate_columns(covariates: Any, categories: Collection[str] = ()) -> np.ndarray:
    """Encode covariates as columns (N, C) of a linear model, without useless ones.

    Numbers are standardised; a missing one is the mean, with a column that marks it. Categories
    have a column for each value.

    Parameters
    ----------
    covariates, categories
        See :func:`covariate_metrics`.

    Examples
    --------
    >>> covariate_columns({'age': ['20', '40'], 'sex': ['F', 'M'], 'site': ['1', '1']}).tolist()
    [[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    columns = {str(name): _values(covariates[name]) for name in _names(covariates)}
    used = {name: cells for name, cells in columns.items() if not _useless(cells)}
    parts = [
        _encode(cells, np.arange(len(cells)), name in categories) for name, cells in used.items()
    ]
    count = len(next(iter(columns.values()), []))
    return np.concatenate(parts, axis=1) if parts else np.zeros((count, 0))


def mask_metrics(
    oof: OutOfFold, masks: np.ndarray, fold_indices: FoldIndices, seed: int, draws: int = 1000
) -> dict[str, Any]:
    """Predict the target from the brain mask alone, in the same folds.

    The features are the first principal components of the training masks (at most 20, on a common
    scale, so that weak ones are shrunk). The model is a balanced logistic regression, or a ridge
    regression for numbers.

    Parameters
    ----------
    oof : OutOfFold
        Source of targets and families; its predictions are not used.
    masks : numpy.ndarray
        (N, V) masks, boolean or partial volumes.
    fold_indices : sequence of (train, test)
        Indices of each fold.
    seed, draws : int
        Random seed of bootstrap and permutations, and number of bootstrap draws.

    Returns
    -------
    dict
        Same measures as :func:`covariate_metrics`, and ``n_components`` of each fold. If all masks
        are equal, only ``left_out``.
    """
    from sklearn.decomposition import PCA

    varying = np.ptp(np.asarray(masks, dtype=np.float32), axis=0) > 0
    if not varying.any():
        return {'left_out': {'mask': 'the same for all images'}}
    shapes = np.asarray(masks, dtype=np.float32)[:, varying]
    features, kept = [], []
    for train, _ in fold_indices:
        count = min(COMPONENTS, len(train) - 1, shapes.shape[1])
        reduced = PCA(count, random_state=seed).fit(shapes[train])
        scale = np.sqrt(reduced.explained_variance_[0])
        features.append(reduced.transform(shapes) / (scale if scale > 0 else 1.0))
        kept.append(count)
    found = _measure(oof, features, fold_indices, seed, draws)
    cleaned: dict[str, Any] = to_json_types({**found, 'n_components': kept})
    return cleaned


def _measure(
    oof: OutOfFold,
    features: Sequence[np.ndarray],
    fold_indices: FoldIndices,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    """Fit on the training part of each fold and measure on the test part."""
    width = len(oof.classes) if oof.kind == 'multiclass' else 1
    scores = np.full((len(oof.truth), width), np.nan)
    folds = np.zeros(len(oof.truth), dtype=int)
    for fold, (design, (train, test)) in enumerate(zip(features, fold_indices, strict=True)):
        scores[test] = _predict(oof, design, train, test)
        folds[test] = fold
    tested = np.isfinite(scores).all(axis=1)
    scores, folds, families = scores[tested], folds[tested], oof.families[tested]
    if oof.kind == 'regression':
        return correlation_metrics(scores[:, 0], oof.truth[tested], folds, families, seed, draws)
    truth = oof.truth[tested].astype(int)
    participants = None if oof.participants is None else oof.participants[tested]
    return discrimination(scores, truth, folds, families, seed, draws, participants)


def _predict(oof: OutOfFold, design: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predict scores (n_test, K) with a linear model fitted on the training part."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if oof.kind == 'regression':
        ridge = Ridge(1.0).fit(design[train], oof.truth[train])
        return np.asarray(ridge.predict(design[test]))[:, None]
    labels = oof.truth[train].astype(int)
    logistic = LogisticRegression(C=1.0, class_weight='balanced', max_iter=2000)
    if len(np.unique(labels)) == 1:
        return np.zeros((len(test), len(oof.classes) if oof.kind == 'multiclass' else 1))
    logistic.fit(design[train], labels)
    if oof.kind == 'binary':
        return np.asarray(logistic.decision_function(design[test]))[:, None]
    scores = np.full((len(test), len(oof.classes)), -30.0)
    scores[:, logistic.classes_] = logistic.predict_log_proba(design[test])
    return scores


def _names(covariates: Any) -> Iterable[Any]:
    return list(covariates) if isinstance(covariates, Mapping) else list(covariates.columns)


def _values(cells: Iterable[Any]) -> np.ndarray:
    texts = ['' if cell is None else str(cell).strip() for cell in cells]
    return np.array(texts, dtype=object)


def _is_missing(cells: np.ndarray) -> np.ndarray:
    return np.array([cell.lower() in _MISSING for cell in cells])


def _useless(cells: np.ndarray) -> str:
    """Return the reason why a covariate is useless, or an empty string."""
    values = set(cells[~_is_missing(cells)])
    if not values:
        return 'no values'
    return 'constant' if len(values) == 1 else ''


def _numbers(cells: np.ndarray, missing: np.ndarray) -> np.ndarray | None:
    """Parse numbers (N,), with NaN for missing ones; None if a value is not a number."""
    try:
        return np.array(
            [np.nan if gap else float(c) for c, gap in zip(cells, missing, strict=True)]
        )
    except ValueError:
        return None


def _encode(cells: np.ndarray, train: np.ndarray, is_category: bool) -> np.ndarray:
    """Encode one covariate as features (N, d) with the scale and levels of its training values."""
    missing = _is_missing(cells)
    numbers = None if is_category else _numbers(cells, missing)
    if numbers is None:
        levels = sorted(set(cells[train]))
        return np.stack([cells == level for level in levels], axis=1).astype(float)
    measured = train[~missing[train]]
    centre = numbers[measured].mean() if measured.size else 0.0
    spread = numbers[measured].std() if measured.size else 0.0
    scaled = np.where(missing, 0.0, (numbers - centre) / (spread if spread > 0 else 1.0))
    parts = [scaled, missing.astype(float)] if missing.any() else [scaled]
    return np.stack(parts, axis=1)
