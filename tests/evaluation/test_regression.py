"""Metrics of predicted numbers, on cases that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.evaluation.out_of_fold import OutOfFold
from bids_interp.evaluation.regression import regression_metrics

TRUTH = np.array([1.0, 2, 3, 4, 10, 12, 14, 20])
FOLDS = np.repeat([0, 1], 4)


def _answers(predicted: np.ndarray) -> OutOfFold:
    sites = np.array(['a'] * 6 + ['b'] * 2)
    return OutOfFold(
        'regression', (), TRUTH, predicted[:, None], np.zeros((8, 0)), FOLDS, np.arange(8), sites
    )


def test_errors_are_those_of_the_definition() -> None:
    predicted = TRUTH + np.array([1, -1, 1, -1, 2, -2, 2, -2])
    metrics = regression_metrics(_answers(predicted), seed=0, draws=50)
    assert metrics['mae']['value'] == pytest.approx(1.5)
    spread = ((TRUTH - TRUTH.mean()) ** 2).sum()
    assert metrics['r2']['value'] == pytest.approx(1 - 20 / spread)
    others = np.where(FOLDS == 0, TRUTH[4:].mean(), TRUTH[:4].mean())
    assert metrics['mae_of_mean']['value'] == pytest.approx(np.abs(TRUTH - others).mean())
    inside = [np.corrcoef(predicted[k == FOLDS], TRUTH[k == FOLDS])[0, 1] for k in (0, 1)]
    assert metrics['r_per_fold'] == pytest.approx(inside)


def test_r_is_free_of_differences_between_folds() -> None:
    """Predictions that only tell the folds apart: r over all images would be high."""
    predicted = np.where(FOLDS == 0, 0.0, 10.0) + np.array([1, 0, 0, 1, 0, 1, 1, 0])
    metrics = regression_metrics(_answers(predicted), seed=0, draws=50)
    assert np.corrcoef(predicted, TRUTH)[0, 1] > 0.8
    assert abs(metrics['pearson_r']['value']) < 0.5
    assert metrics['permutation_p'] > 0.1


def test_sites_have_their_own_error_and_r_needs_three_images() -> None:
    predicted = TRUTH + np.array([0, 0, 0, 0, 0, 0, 3, 5.0])
    table = regression_metrics(_answers(predicted), seed=0, draws=20)['per_site']
    assert table['a'] == {'n': 6, 'mae': 0.0, 'pearson_r': pytest.approx(1.0)}
    assert table['b'] == {'n': 2, 'mae': 4.0, 'pearson_r': None}
