"""Shrinkage: sparse effects are kept, noise vanishes, and the prior comes from the data."""

from __future__ import annotations

import numpy as np

from bids_interp.training.pattern.shrinkage import shrink_effects


def test_sparse_effects_stay_and_noise_vanishes():
    rng = np.random.default_rng(0)
    truth = np.zeros(20000)
    truth[:200] = 8.0
    effects = truth + rng.standard_normal(len(truth))
    found = shrink_effects(effects, np.ones(len(truth)))
    assert np.corrcoef(found, truth)[0, 1] > 0.97 > 0.9 > np.corrcoef(effects, truth)[0, 1]
    assert np.abs(found[200:]).mean() < 0.05
    assert 0.9 < found[:200].mean() / 8 < 1.02


def test_errors_decide_how_much_is_left():
    """The same effects are shrunk more where their errors are larger."""
    rng = np.random.default_rng(1)
    errors = np.repeat([1.0, 3.0], 5000)
    effects = 3 * rng.standard_normal(10000) + errors * rng.standard_normal(10000)
    left = np.abs(shrink_effects(effects, errors)) / np.abs(effects)
    assert left[:5000].mean() > 1.1 * left[5000:].mean()


def test_dense_effects_are_hardly_shrunk():
    rng = np.random.default_rng(2)
    effects = 10 * rng.standard_normal(3000)
    found = shrink_effects(effects, np.ones(3000))
    # The posterior mean under a normal prior of this variance is 100 / 101 of the effect.
    slope = float(found @ effects / (effects @ effects))
    assert 0.97 < slope < 1.0


def test_effects_without_errors_become_zero():
    found = shrink_effects(np.array([5.0, 5.0]), np.array([0.0, 1.0]))
    assert found[0] == 0 < found[1] <= 5
    assert not shrink_effects(np.ones(3), np.zeros(3)).any()
