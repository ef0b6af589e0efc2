from __future__ import annotations

import numpy as np
import pytest

from bids_interp.evaluation.scores import (
    auc,
    bootstrap_by_family,
    ncc,
    permutation_p,
    sign_accuracy,
)


def test_ncc_by_hand():
    mask = np.array([True, True, True, False])
    assert ncc(np.array([0.0, 1, 2, 99]), np.array([0.0, 1, 2, -99]), mask) == pytest.approx(1)
    # (-1, 0, 1) and (0, -1, 1) after centring: 1 / sqrt(2 * 2)
    assert ncc(np.array([1.0, 2, 3, 0]), np.array([5.0, 4, 6, 0]), mask) == pytest.approx(0.5)
    assert ncc(np.ones(4), np.arange(4.0), mask) == 0.0


def test_sign_accuracy_looks_where_there_is_truth():
    truth = np.array([0.5, -0.5, 0.01, 0.3])
    estimate = np.array([0.1, 0.1, -0.1, 0.0])
    everywhere = np.ones(4, bool)
    assert sign_accuracy(estimate, truth, everywhere) == pytest.approx(1 / 3)
    assert np.isnan(sign_accuracy(estimate, 0 * truth, everywhere))


def test_auc_by_hand():
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == pytest.approx(0.75)
    with pytest.raises(ValueError, match='both classes'):
        auc(np.zeros(3), np.zeros(3))


def test_bootstrap_covers_the_mean():
    rng = np.random.default_rng(0)
    families = np.repeat(np.arange(50), 2)
    values = np.repeat(rng.normal(0, 1, 50), 2)
    mean = bootstrap_by_family(lambda i: float(values[i].mean()), families, seed=1)
    # The interval is that of 50 independent values, not of 100.
    assert (mean.high - mean.low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(50), rel=0.2)
    assert mean.low < mean.value < mean.high


def test_bootstrap_leaves_out_draws_of_one_class():
    labels, scores = np.array([0, 1, 1]), np.array([0.0, 1.0, 2.0])
    area = bootstrap_by_family(lambda i: auc(scores[i], labels[i]), np.arange(3), 0, draws=50)
    assert area.value == area.low == area.high == 1.0


def test_permutation_p():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    assert permutation_p(labels + rng.normal(0, 0.1, 40), labels, 0, draws=199) == 1 / 200
    assert permutation_p(rng.normal(0, 1, 40), labels, 0, draws=199) > 0.05
