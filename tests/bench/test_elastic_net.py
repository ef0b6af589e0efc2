"""The quick elastic net has the solution of scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bids_interp.bench.power.elastic_net import fit_elastic_net
from bids_interp.training.sparse import fit_sparse


def made_up(people: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.arange(people) % 2
    shared = rng.normal(size=(people, 4)) @ rng.normal(size=(4, 150))
    features = 3 + 0.5 * shared + rng.normal(size=(people, 150))
    features[:, :20] -= 1.5 * labels[:, None]
    return features, labels


@pytest.mark.parametrize(('share', 'absolute'), [(0.15, 0.01), (0.3, 0.5)])
def test_the_solution_is_that_of_scikit_learn(share, absolute):
    features, labels = made_up()
    scale = features.std(axis=0).mean()
    scaled = (features - features.mean(axis=0)) / scale
    largest = np.abs(scaled.T @ (labels - 0.5)).max()
    wanted = LogisticRegression(
        C=absolute / (share * largest),
        l1_ratio=absolute,
        solver='saga',
        class_weight='balanced',
        max_iter=20000,
        tol=1e-8,
    ).fit(scaled, labels)
    found = fit_elastic_net(features, labels, share=share, absolute=absolute)
    weights = wanted.coef_[0] / scale
    assert np.abs(found.weights - weights).max() < 0.02 * np.abs(weights).max()
    assert 0 < (found.weights == 0).sum() < len(weights)
    logits = wanted.decision_function(scaled)
    np.testing.assert_allclose(found.decide(features), logits, atol=0.02 * np.abs(logits).max())


def test_people_are_ordered_as_by_the_training():
    features, labels = made_up(40)
    train = np.arange(40) < 28
    wanted = fit_sparse(
        features[train],
        labels[train],
        np.arange(28),
        absolute=0.01,
        is_regression=False,
        seed=0,
        shares=(0.15,),
    )
    found = fit_elastic_net(features[train], labels[train], share=0.15, absolute=0.01)
    outputs = features[~train] @ wanted.weights[0], found.decide(features[~train])
    assert np.corrcoef(*outputs)[0, 1] > 0.95


def test_features_without_variation_have_no_weight():
    found = fit_elastic_net(np.ones((8, 3)), np.arange(8) % 2, share=0.15, absolute=0.01)
    assert not found.weights.any()
    assert found.offset == pytest.approx(0)
