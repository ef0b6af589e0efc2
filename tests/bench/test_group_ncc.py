from __future__ import annotations

import numpy as np
import pytest

from bids_interp.bench.group_ncc import (
    GroupAgreement,
    bootstrap_interval,
    centred_interval,
    draw_families,
    draw_weights,
    family_mean,
    refit_maps,
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


def test_families_are_drawn_whole_and_copies_count_as_others():
    families = np.array([4, 4, 4, 7, 9, 9])
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        indices, drawn = draw_families(families, rng)
        assert len(np.unique(drawn)) == 3
        for name in np.unique(drawn):
            (family,) = set(families[indices[drawn == name]])
            assert sorted(indices[drawn == name]) == np.flatnonzero(families == family).tolist()
            seen.add(family)
    assert seen == {4, 7, 9}


def test_refits_see_the_drawn_images():
    families = np.repeat(np.arange(20), 2)
    values = np.random.default_rng(1).normal(size=(40, 3)) + families[:, None]
    found = refit_maps(lambda chosen, _: values[chosen].mean(axis=0), families, 0, count=300)
    assert found.shape == (300, 3)
    means = values.reshape(20, 2, 3).mean(axis=1)
    assert found.std(axis=0) == pytest.approx(means.std(axis=0) / np.sqrt(20), rel=0.15)
    again = refit_maps(lambda chosen, _: values[chosen].mean(axis=0), families, 0, count=300)
    np.testing.assert_array_equal(found, again)


def test_the_interval_of_refits_stands_around_the_number():
    found = centred_interval(0.9, np.linspace(0.6, 0.8, 101), level=0.9)
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.81, 0.99))
