"""Exchanges stay in their blocks and give a p that is never 0; what stands around them, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bids_interp.group.statistics.design_matrix import MIN_DF, DesignMatrix, make_design_matrix
from bids_interp.group.statistics.glm import fit_terms, freedman_lane, untestable_reason
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
    _, p = freedman_lane(SCORE, *pair_design(), PAIRS, draws=4000, seed=0)
    assert p == pytest.approx(EXACT, abs=0.008)
    _, anywhere = freedman_lane(SCORE, *pair_design(), np.zeros(12), draws=4000, seed=0)
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
    _, p = freedman_lane(score, full[:, :1], full, np.zeros(40), draws=draws, seed=0)
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
    f, p = freedman_lane(score, full[:, :2], full, np.zeros(40), draws=2000, seed=0)
    wanted = stats.f.sf(f, 1, 37)
    assert 0.3 < wanted < 0.8
    assert p == pytest.approx(wanted, abs=0.04)


def test_a_spread_multiplies_the_standard_deviation_of_the_null() -> None:
    """F values of the null are multiplied by its square."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(40)
    full = np.column_stack([np.ones(40), x])
    score = 0.2 * x + rng.standard_normal(40)
    f, p = freedman_lane(score, full[:, :1], full, np.zeros(40), draws=4000, seed=0, spread=2**0.5)
    assert p == pytest.approx(stats.f.sf(f / 2, 1, 38), abs=0.02)
    assert stats.f.sf(f / 2, 1, 38) > stats.f.sf(f / 2**0.5, 1, 38) + 0.04


def test_an_interval_holds_95_percent() -> None:
    rng = np.random.default_rng(0)
    age = rng.normal(60, 8, 30)
    score = 0.05 * age + rng.normal(0, 1, 30)
    design = make_design_matrix({'age': age.tolist()}, ['0'] * 30)
    (effect,) = fit_terms(score, design, draws=50, seed=0, spreads={})
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
