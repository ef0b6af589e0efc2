"""Exchanges stay in their blocks and give a p that is never 0; what stands around them, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_interp.evaluation.exchange import exchange_orders
from bids_interp.group.statistics.design_matrix import MIN_DF, DesignMatrix, make_design_matrix
from bids_interp.group.statistics.glm import (
    added_basis,
    fit_terms,
    freedman_lane,
    null_spread,
    untestable_reason,
)
from bids_interp.group.statistics.null import consistency
from bids_interp.group.statistics.voxelwise import max_t

#: Six pairs: within a pair an exchange changes a sign, which makes 64 outcomes.
PAIRS = np.repeat(np.arange(6), 2)
TESTED = np.tile([0.0, 1.0], 6)
#: Every pair has the same sign, so that two of the 64 outcomes reach the observed one.
SCORE = np.round(3 * PAIRS + TESTED * (1 + 0.1 * PAIRS), 3)
EXACT = 2 / 64


def pair_design() -> tuple[np.ndarray, np.ndarray]:
    """Designs without and with the tested column; each pair has its mean."""
    reduced = (PAIRS[:, None] == np.unique(PAIRS)).astype(float)
    return reduced, np.column_stack([reduced, TESTED])


def test_residuals_are_exchanged_within_their_block_only() -> None:
    """Across the pairs 924 outcomes were possible, and p below a third of the exact one."""
    _, p, _ = freedman_lane(SCORE, *pair_design(), PAIRS, draws=4000, seed=0)
    assert p == pytest.approx(EXACT, abs=0.008)
    _, anywhere, _ = freedman_lane(SCORE, *pair_design(), np.zeros(12), draws=4000, seed=0)
    assert anywhere < EXACT / 3


def test_maps_are_exchanged_within_their_block_only() -> None:
    reduced, _ = pair_design()
    values = SCORE[:, None].astype(np.float32)
    _, p = max_t(values, TESTED, reduced, PAIRS, draws=4000, seed=0)
    assert p[0] == pytest.approx(EXACT, abs=0.008)
    _, anywhere = max_t(values, TESTED, reduced, np.zeros(12), draws=4000, seed=0)
    assert anywhere[0] < EXACT / 3


@pytest.mark.parametrize('draws', [19, 99])
def test_the_observed_order_is_one_of_all(draws: int) -> None:
    """An effect that no exchange reaches has the smallest p that there can be."""
    rng = np.random.default_rng(0)
    group = np.repeat([0.0, 1.0], 20)
    full = np.column_stack([np.ones(40), group])
    score = 100 * group + rng.normal(0, 0.1, 40)
    _, p, _ = freedman_lane(score, full[:, :1], full, np.zeros(40), draws=draws, seed=0)
    assert p == pytest.approx(1 / (1 + draws))
    values = np.column_stack([score, rng.normal(0, 1, 40)]).astype(np.float32)
    _, corrected = max_t(values, group, full[:, :1], np.zeros(40), draws=draws, seed=0)
    assert corrected[0] == pytest.approx(1 / (1 + draws))
    assert corrected[1] > corrected[0]


def test_what_a_covariate_explains_is_not_exchanged() -> None:
    """One subject of extreme age has an extreme score; carried elsewhere, it would be all noise."""
    rng = np.random.default_rng(8)
    x, age = np.tile([-1.0, 1.0], 20), rng.standard_normal(40)
    age[0] = 60.0
    score = 20 * age + 0.25 * x + rng.standard_normal(40)
    full = np.column_stack([np.ones(40), age, x])
    f, p, _ = freedman_lane(score, full[:, :2], full, np.zeros(40), draws=2000, seed=0)
    wanted = stats.f.sf(f, 1, 37)
    assert 0.3 < wanted < 0.8
    assert p == pytest.approx(wanted, abs=0.04)


def directions(label: np.ndarray) -> np.ndarray:
    centred = (label - label.mean())[:, None]
    return centred / np.linalg.norm(centred)


def test_the_null_is_widened_as_far_as_a_covariate_follows_the_label() -> None:
    """The variance of its effect has the factor 1 + r^2."""
    rng = np.random.default_rng(3)
    label = np.tile([-1.0, 1.0], 20)
    noise = rng.standard_normal(40)
    noise -= noise.mean() + label * (noise @ label) / 40
    x = 0.6 * label + 0.8 * noise / noise.std()
    full = np.column_stack([np.ones(40), x])
    score = 0.3 * x + rng.standard_normal(40)
    plain, _, _ = freedman_lane(score, full[:, :1], full, np.zeros(40), draws=20, seed=0)
    f, p, _ = freedman_lane(
        score, full[:, :1], full, np.zeros(40), draws=4000, seed=0, learned=directions(label)
    )
    assert f == pytest.approx(plain / 1.36)
    assert p == pytest.approx(stats.f.sf(f, 1, 38), abs=0.02)
    beside = np.column_stack([np.ones(40), label])
    whole = np.column_stack([beside, x])
    assert null_spread(added_basis(beside, whole), directions(label)) == pytest.approx(1)


def test_only_the_part_of_a_term_along_the_label_is_widened() -> None:
    """Two columns: the label itself, with the factor 2, and one that has nothing to do with it."""
    rng = np.random.default_rng(4)
    label, other = np.tile([-1.0, 1.0], 20), np.tile([-1.0, -1.0, 1.0, 1.0], 10)
    full = np.column_stack([np.ones(40), label, other])
    score = rng.standard_normal(40) + 0.5 * label + 0.3 * other
    f, _, _ = freedman_lane(
        score, full[:, :1], full, np.zeros(40), draws=20, seed=0, learned=directions(label)
    )
    t = [label @ score / np.sqrt(40), other @ score / np.sqrt(40)]
    rest = ((score - score.mean()) ** 2).sum() - t[0] ** 2 - t[1] ** 2
    assert f == pytest.approx((t[0] ** 2 / 2 + t[1] ** 2) / 2 / (rest / 37))


def test_the_factor_is_the_variance_of_cross_fitted_effects() -> None:
    """Cross-fitted class means of noise, 2000 cohorts: the variance of the effect of a covariate.

    With exchanges and fixed models it would be 1 for every covariate.
    """
    rng = np.random.default_rng(0)
    n, folds = 40, np.arange(40) // 2 % 4
    label = np.tile([-1.0, 1.0], n // 2)
    noise = rng.standard_normal(n)
    for name in np.unique(folds):
        noise[folds == name] -= noise[folds == name].mean()
    noise -= label * (noise @ label) / n
    for r in (0.0, 0.5, 0.9, 1.0):
        x = r * label + np.sqrt(1 - r**2) * noise / noise.std()
        found = []
        for _ in range(2000):
            brains = rng.standard_normal((n, 60))
            similar = brains @ brains.T * (folds[:, None] != folds)
            score = similar @ label
            found.append((x @ score) ** 2 / (score @ score))
        assert np.mean(found) == pytest.approx(
            null_spread(x[:, None] / np.linalg.norm(x), directions(label)) ** 2, rel=0.12
        )


#: Two families of two and two of one in a block, and a family of three that no other one equals.
FAMILIES = np.array(['a', 'b', 'a', 'c', 'b', 'd', 'e', 'e', 'e'])


def test_a_family_is_never_split() -> None:
    orders = exchange_orders(FAMILIES, np.zeros(9), np.random.default_rng(0), 3000)
    assert all(sorted(order) == list(range(9)) for order in orders.tolist())
    for name in np.unique(FAMILIES):
        moved = FAMILIES[orders[:, name == FAMILIES]]
        assert (moved == moved[:, :1]).all()
    # Every arrangement: 2 families of 2 with 2 orders each, 2 singles, 3 siblings.
    assert len(np.unique(orders, axis=0)) == 2 * 2 * 2 * 2 * 6
    # Of two blocks, only families in the same ones take the place of one another.
    blocks = np.array(list('xyxyyxxxx'))
    orders = exchange_orders(FAMILIES, blocks, np.random.default_rng(0), 200)
    assert (blocks[orders] == blocks).all()
    assert (FAMILIES[orders[:, :3]] == FAMILIES[:3]).all()


def test_a_family_in_two_blocks_stays_together() -> None:
    families, blocks = np.array(list('aabbcc')), np.array(list('xyyxxx'))
    orders = exchange_orders(families, blocks, np.random.default_rng(0), 300)
    assert (blocks[orders] == blocks).all()
    assert {tuple(families[order]) for order in orders} == {tuple('aabbcc'), tuple('bbaacc')}


def test_strong_family_effects_give_a_uniform_p() -> None:
    """A covariate of the household; with siblings as independent, p is often below 0.05."""
    rng = np.random.default_rng(7)
    families = np.repeat(np.arange(24), np.tile([1, 2, 3, 4], 6))
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(100):
        x = rng.standard_normal(24)[families]
        score = 2 * rng.standard_normal(24)[families] + rng.standard_normal(60)
        full = np.column_stack([np.ones(60), x])
        for related, p in found.items():
            kin = families if related else None
            how = {'draws': 199, 'seed': 0, 'families': kin}
            p.append(freedman_lane(score, full[:, :1], full, np.zeros(60), **how)[1])
    assert stats.kstest(found[True], 'uniform').pvalue > 0.05
    assert np.mean(np.array(found[True]) < 0.05) <= 0.1
    assert np.mean(np.array(found[False]) < 0.05) > 0.15


def test_families_that_nobody_equals_allow_no_small_p() -> None:
    families = np.repeat(np.arange(5), [1, 2, 3, 4, 5])
    x = np.arange(5.0)[families]
    score = 10 * x + np.random.default_rng(0).standard_normal(15)
    full = np.column_stack([np.ones(15), x])
    _, p, least = freedman_lane(
        score, full[:, :1], full, np.zeros(15), draws=99, seed=0, families=families
    )
    assert (p, least) == (1, 1)


def test_intervals_take_families_as_clusters() -> None:
    """A covariate of the household, siblings alike: the effect of 12 families, not of 48 people."""
    families = np.repeat(np.arange(12), 4)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    names = [str(family) for family in families]
    many = make_design_matrix({'x': x[families].tolist()}, ['0'] * 48, families=names)
    one = make_design_matrix({'x': x.tolist()}, ['0'] * 12)
    wide = fit_terms(y[families], many, draws=20, seed=0)[0]
    few = fit_terms(y, one, draws=20, seed=0)[0]
    alone = make_design_matrix({'x': x[families].tolist()}, ['0'] * 48)
    narrow = fit_terms(y[families], alone, draws=20, seed=0)[0]
    assert wide.estimate == pytest.approx(few.estimate)
    assert wide.se == pytest.approx(few.se, rel=0.35)
    assert wide.se > 1.4 * narrow.se
    assert wide.high - wide.estimate == pytest.approx(stats.t.ppf(0.975, 10) * wide.se)


def test_an_interval_holds_95_percent() -> None:
    rng = np.random.default_rng(0)
    age = rng.normal(60, 8, 30)
    score = 0.05 * age + rng.normal(0, 1, 30)
    design = make_design_matrix({'age': age.tolist()}, ['0'] * 30)
    (effect,) = fit_terms(score, design, draws=50, seed=0)
    wanted = stats.linregress(age, score)
    assert effect.se == pytest.approx(wanted.stderr)
    reach = stats.t.ppf(0.975, 28) * wanted.stderr
    assert (effect.low, effect.high) == pytest.approx((wanted.slope - reach, wanted.slope + reach))


def test_covariates_are_centred() -> None:
    """An intercept is then the mean of its block at the mean of the covariates."""
    design = make_design_matrix(
        {'age': [60.0, 70.0, 80.0, 90.0], 'sex': ['f', 'm', 'm', 'm']}, ['0'] * 4
    )
    age, sex = (term.columns[:, 0] for term in design.terms)
    np.testing.assert_allclose(age, [-15, -5, 5, 15])
    np.testing.assert_allclose(sex, [-0.75, 0.25, 0.25, 0.25])


def test_the_smallest_design_that_is_tested() -> None:
    def design_of(n: int) -> DesignMatrix:
        return make_design_matrix({'age': np.arange(float(n)).tolist()}, ['0'] * n)

    # An intercept and a slope are estimated.
    assert untestable_reason(design_of(MIN_DF + 2)) == ''
    assert untestable_reason(design_of(MIN_DF + 1)) != ''


def test_agreement_of_folds_by_hand() -> None:
    """Errors of the mean of 1, 2 and 4; their median is added to each."""
    spread = np.array([1.0, 2.0, 4.0]) * np.sqrt(4)
    pattern = np.array([-1.0, -1.0, 1.0, 1.0]) * np.sqrt(3 / 4)
    maps = np.array([12.0, 12.0, -12.0]) + pattern[:, None] * spread
    np.testing.assert_allclose(consistency(maps), [12 / 3, 12 / 4, 12 / 6])
