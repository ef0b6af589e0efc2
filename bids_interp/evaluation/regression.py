"""Regression metrics of out-of-fold predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import mean_absolute_error, r2_score

from bids_interp.evaluation.exchange import permutation_test
from bids_interp.evaluation.out_of_fold import OutOfFold, within_fold_correlation
from bids_interp.evaluation.scores import bootstrap_by_family, bootstrap_measures


def regression_metrics(oof: OutOfFold, seed: int, draws: int = 1000) -> dict[str, Any]:
    """Measure out-of-fold predictions of a number.

    Parameters
    ----------
    oof : OutOfFold
        Predictions of kind ``'regression'``.
    seed, draws : int
        Random seed and number of bootstrap draws over families.

    Returns
    -------
    dict
        With ``value``, ``low``, ``high``: ``mae`` and ``mae_of_mean`` (of predicting the mean of
        the other folds) in units of the target, ``r2`` (1 - SS of the error / SS about the mean),
        ``pearson_r`` within folds; ``r_per_fold``, ``permutation_p`` (one-sided, of r),
        ``per_site``.
    """
    truth, predicted, folds = oof.truth.astype(float), oof.outputs[:, 0], oof.folds
    baseline = _mean_of_others(truth, folds)

    def measure(i: np.ndarray) -> dict[str, float]:
        # If all values are equal, R2 is not finite and the draw is omitted.
        return {
            'mae': float(mean_absolute_error(truth[i], predicted[i])),
            'mae_of_mean': float(mean_absolute_error(truth[i], baseline[i])),
            'r2': float(r2_score(truth[i], predicted[i], force_finite=False)),
        }

    measured = bootstrap_measures(measure, oof.families, seed, draws)
    metrics: dict[str, Any] = {name: found.to_dict() for name, found in measured.items()}
    metrics |= correlation_metrics(predicted, truth, folds, oof.families, seed, draws)
    metrics['r_rule'] = 'means of the folds taken away'
    metrics['r_per_fold'] = [
        float(within_fold_correlation(predicted[inside], truth[inside], folds[inside]))
        for inside in (folds == fold for fold in np.unique(folds))
    ]
    metrics['per_site'] = _per_site(oof, predicted, truth)
    return metrics


def correlation_metrics(
    predicted: np.ndarray,
    truth: np.ndarray,
    folds: np.ndarray,
    families: np.ndarray,
    seed: int,
    draws: int = 1000,
) -> dict[str, Any]:
    """Measure Pearson's r within folds, with its interval and one-sided p value.

    Parameters
    ----------
    predicted, truth, folds, families : numpy.ndarray
        (N,) each.
    seed, draws : int
        Random seed and number of bootstrap draws.
    """
    estimate = bootstrap_by_family(
        lambda i: float(within_fold_correlation(predicted[i], truth[i], folds[i])),
        families,
        seed,
        draws,
    )
    test = permutation_test(
        lambda values: within_fold_correlation(predicted, values, folds),
        truth,
        families,
        folds,
        seed,
        blocks=True,
    )
    return {
        'pearson_r': estimate.to_dict(),
        'permutation_p': test.p,
        'permutation_p_fixed_models': test.p_fixed_models,
    }


def _mean_of_others(truth: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return, for each image, the mean of the other folds (of all images, if one fold)."""
    means = np.full(len(truth), truth.mean())
    for fold in np.unique(folds):
        inside = folds == fold
        if not inside.all():
            means[inside] = truth[~inside].mean()
    return means


def _per_site(oof: OutOfFold, predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Measure count, error and r of each site; r needs three images."""
    if oof.sites is None:
        return {}
    table: dict[str, Any] = {}
    for site in np.unique(oof.sites):
        inside = oof.sites == site
        few = inside.sum() < 3
        folds = oof.folds[inside]
        r = within_fold_correlation(predicted[inside], truth[inside], folds)
        table[str(site)] = {
            'n': int(inside.sum()),
            'mae': float(mean_absolute_error(truth[inside], predicted[inside])),
            'pearson_r': None if few else float(r),
        }
    return table
