from __future__ import annotations

import numpy as np
import pytest

from bids_interp.bench.group_ncc import (
    GroupAgreement,
    bootstrap_interval,
    draw_weights,
    family_mean,
)
from bids_interp.evaluation.scores import ncc


def test_the_products_of_families_give_the_ncc_of_the_mean_maps():
    rng = np.random.default_rng(0)
    maps, truths = rng.normal(size=(2, 7, 50))
    families = np.array([0, 0, 1, 2, 2, 2, 4])
    agreement = GroupAgreement(maps, truths, families, 5)
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 0], [0, 3, 0, 5, 1.0]])
    everywhere = np.ones(50, bool)
    for found, weight in zip(agreement(weights), weights, strict=True):
        of_each = weight[families]
        wanted = ncc(of_each @ maps, of_each @ truths, everywhere)
        assert found == pytest.approx(wanted, abs=1e-10)


def test_a_draw_without_any_map_has_no_agreement():
    agreement = GroupAgreement(np.ones((1, 4)), np.arange(4.0)[None], np.zeros(1, int), 2)
    assert agreement(np.array([[0.0, 2.0], [1.0, 1.0]])).tolist() == [0.0, 0.0]


def test_every_draw_has_as_many_families_as_there_are():
    weights = draw_weights(6, 40, seed=3)
    assert weights.shape == (40, 6)
    assert (weights.sum(axis=1) == 6).all()
    assert np.array_equal(weights, draw_weights(6, 40, seed=3))
    assert not np.array_equal(weights, draw_weights(6, 40, seed=4))


def test_numbers_that_are_missing_do_not_count():
    values = np.array([1.0, np.nan, 5.0])
    found = family_mean(values, np.array([0, 0, 1]), np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 0.0]]))
    assert found.tolist() == [3.0, 5.0, 1.0]
    assert np.isnan(family_mean(values[1:2], np.zeros(1, int), np.ones((1, 1)))).all()


def test_an_interval_holds_the_middle_of_the_draws():
    found = bootstrap_interval(0.5, np.linspace(0, 1, 101), level=0.9)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.05, 0.95))
    assert np.isnan(bootstrap_interval(0.5, np.full(3, np.nan)).low)
