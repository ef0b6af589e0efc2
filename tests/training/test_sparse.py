"""The sparse linear model finds what matters, in whole families, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from bids_interp.training.sparse import FACTORS, fit_sparse, log_losses

FAMILIES = np.repeat(np.arange(40), 4)


def features_of(seed: int = 0, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((len(FAMILIES), count))


def test_two_classes() -> None:
    features = features_of()
    noise = np.random.default_rng(1).standard_normal(len(features))
    labels = (features[:, 3] - features[:, 8] + noise > 0).astype(int)
    weights, offsets, _ = fit_sparse(
        features, labels, FAMILIES, absolute=0.5, is_regression=False, seed=0
    )
    assert weights.shape == (1, 60)
    assert offsets.shape == (1,)
    assert set(np.argsort(-np.abs(weights[0]))[:2]) == {3, 8}
    assert weights[0, 3] > 0 > weights[0, 8]
    assert (weights == 0).sum() > 10
    answers = features_of(5) @ weights[0] + offsets[0]
    # The logits are about as large as those that the labels were made with.
    assert 1 < answers.std() < 5


def test_several_classes() -> None:
    features = features_of()
    labels = np.digitize(features[:, 2], [-0.5, 0.5])
    weights, offsets, _ = fit_sparse(
        features, labels, FAMILIES, absolute=0.5, is_regression=False, seed=0
    )
    assert weights.shape == (3, 60)
    assert weights[0, 2] < 0 < weights[2, 2]
    found = (features @ weights.T + offsets).argmax(axis=1)
    assert (found == labels).mean() > 0.8


def test_numbers() -> None:
    features = 0.01 * features_of() + 7.0
    values = 100 * (features[:, 1] - features[:, 5])
    weights, offsets, _ = fit_sparse(
        features, values, FAMILIES, absolute=0.5, is_regression=True, seed=0
    )
    answers = features @ weights[0] + offsets[0]
    assert np.corrcoef(answers, values)[0, 1] > 0.98
    assert np.polyfit(values, answers, 1)[0] == pytest.approx(1, abs=0.1)


def test_the_scale_of_the_features_does_not_matter() -> None:
    features = features_of()
    labels = (features[:, 0] > 0).astype(int)
    plain, *_ = fit_sparse(features, labels, FAMILIES, absolute=0.5, is_regression=False, seed=0)
    small, *_ = fit_sparse(
        1e-3 * features, labels, FAMILIES, absolute=0.5, is_regression=False, seed=0
    )
    np.testing.assert_allclose(1e-3 * small, plain, rtol=1e-4, atol=1e-6)


def test_what_is_the_family_s_own_is_not_taken_for_the_label() -> None:
    """Random features that are alike within families would tell the label if these were torn."""
    rng = np.random.default_rng(2)
    own = np.repeat(rng.standard_normal((40, 300)), 4, axis=0)
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 4)
    weights, *_ = fit_sparse(own, labels, FAMILIES, absolute=0.5, is_regression=False, seed=0)
    # With torn families the parts left out would be known, and the model sure of itself.
    torn, *_ = fit_sparse(
        own, labels, np.arange(len(own)), absolute=0.5, is_regression=False, seed=0
    )
    others = rng.standard_normal((200, 300))
    assert (others @ weights[0]).std() < 0.5 * (others @ torn[0]).std()


def test_few_families() -> None:
    features = features_of()[:8]
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    features[:, 0] = 3.0 * labels
    weights, *_ = fit_sparse(
        features, labels, FAMILIES[:8], absolute=0.5, is_regression=False, seed=0
    )
    assert np.isfinite(weights).all()
    assert weights[0, 0] > 0


def test_features_that_say_nothing_give_numbers() -> None:
    labels = np.arange(len(FAMILIES)) % 2
    weights, offsets, _ = fit_sparse(
        np.zeros((len(FAMILIES), 5)), labels, FAMILIES, absolute=0.5, is_regression=False, seed=0
    )
    assert not weights.any()
    assert np.isfinite(offsets).all()


def test_fewer_absolute_values_keep_what_says_the_same() -> None:
    """Two features that say the same share the weight where squares rule the penalty."""
    rng = np.random.default_rng(3)
    features = features_of()
    labels = (features[:, 0] + 0.5 * rng.standard_normal(len(features)) > 0).astype(int)
    features[:, 1] = features[:, 0] + 0.5 * rng.standard_normal(len(features))
    shares = []
    for absolute in (1.0, 0.01):
        weights, *_ = fit_sparse(
            features, labels, FAMILIES, absolute=absolute, is_regression=False, seed=0
        )
        shares.append(weights[0, 1] / weights[0, 0])
    assert shares[0] < 0.5
    assert shares[1] > 0.6


@pytest.mark.parametrize('classes', [2, 3])
def test_losses_of_many_factors_are_those_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(4)
    truth = np.arange(24) % classes
    outputs = rng.standard_normal((24, 1 if classes == 2 else classes))
    factors = np.geomspace(*FACTORS, 7)
    expected = [
        log_loss(truth, expit(f * outputs[:, 0]) if classes == 2 else softmax(f * outputs, axis=1))
        for f in factors
    ]
    np.testing.assert_allclose(log_losses(outputs, truth, factors), expected, rtol=1e-9)
