"""Design and test: known answers, honest p, clear words where nothing can be tested."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from bids_interp.errors import UsageError
from bids_interp.group.statistics.design_matrix import MIN_DF, NO_VALUES, make_design_matrix
from bids_interp.group.statistics.glm import (
    NO_VARIATION,
    fit_terms,
    freedman_lane,
    untestable_reason,
)


def design_of(**variables):
    n = len(next(iter(variables.values())))
    return make_design_matrix(variables, ['0'] * n)


def test_effect_and_interval_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    group, age = np.tile(['b', 'a'], 20), rng.normal(60, 8, 40)
    score = 1.5 * (group == 'b') + 0.05 * age + rng.normal(0, 1, 40)
    design = design_of(group=group.tolist(), age=age.tolist())
    effect, slope = fit_terms(score, design, draws=500, seed=0)
    matrix = np.column_stack([np.ones(40), group == 'b', age]).astype(float)
    coefficients, rest, *_ = np.linalg.lstsq(matrix, score, rcond=None)
    sigma = np.sqrt(rest[0] / 37)
    errors = sigma * np.sqrt(np.diag(np.linalg.inv(matrix.T @ matrix)))
    assert (effect.contrast, effect.df) == ('b - a', 37)
    assert effect.estimate == pytest.approx(coefficients[1])
    assert effect.se == pytest.approx(errors[1])
    assert effect.statistic == pytest.approx(coefficients[1] / errors[1])
    assert effect.cohen_d == pytest.approx(coefficients[1] / sigma)
    t = coefficients[2] / errors[2]
    assert slope.partial_r == pytest.approx(t / np.sqrt(t**2 + 37))
    assert effect.p < 0.01


def test_permutation_p_is_near_the_parametric_one() -> None:
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((2, 60))
    score = 0.25 * x + z + rng.standard_normal(60)
    full = np.column_stack([np.ones(60), z, x])
    f, p, _ = freedman_lane(score, full[:, :2], full, np.zeros(60), draws=4000, seed=1)
    assert p == pytest.approx(stats.f.sf(f, 1, 57), abs=0.03)


def test_exchanges_stay_within_blocks() -> None:
    """A difference between blocks alone is nothing that a test finds."""
    blocks = np.repeat(['0', '1'], 20)
    group = np.where(np.arange(40) % 20 < 10, 'a', 'b')
    score = 5.0 * (blocks == '1') + np.random.default_rng(0).normal(0, 1, 40)
    design = make_design_matrix({'group': group.tolist()}, blocks.tolist())
    assert design.intercepts.shape == (40, 2)
    effect = fit_terms(score, design, draws=500, seed=0)[0]
    assert abs(effect.statistic) < 3
    assert effect.df == 37


def test_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(100):
        age = rng.standard_normal(24)
        design = make_design_matrix(
            {'group': rng.permutation(np.tile(['a', 'b'], 12)).tolist(), 'age': age.tolist()},
            np.repeat(['0', '1', '2'], 8).tolist(),
        )
        score = 2 * age + rng.standard_t(3, 24)
        effect = fit_terms(score, design, draws=199, seed=0)[0]
        found.append(effect.p)
    assert stats.kstest(found, 'uniform').pvalue > 0.01


def test_widening_makes_p_larger_and_intervals_longer() -> None:
    rng = np.random.default_rng(1)
    group = np.tile(['a', 'b'], 15)
    score = (group == 'b') + rng.standard_normal(30)
    label = np.where(group == 'b', 1.0, -1.0) / np.sqrt(30)
    design = design_of(group=group.tolist())
    plain = fit_terms(score, design, draws=2000, seed=0)[0]
    wide = fit_terms(score, design, draws=2000, seed=0, learned=label[:, None])[0]
    assert wide.p > plain.p
    assert wide.estimate == pytest.approx(plain.estimate)
    assert wide.se == pytest.approx(2**0.5 * plain.se)
    assert wide.statistic == pytest.approx(wide.estimate / wide.se)


def test_more_than_two_levels_are_one_f_test() -> None:
    site = np.repeat(['x', 'y', 'z'], 10)
    score = 3.0 * (site == 'z') + np.random.default_rng(0).standard_normal(30)
    effect = fit_terms(score, design_of(site=site.tolist()), draws=300, seed=0)[0]
    groups = [score[site == name] for name in 'xyz']
    assert effect.kind == 'F'
    assert effect.statistic == pytest.approx(stats.f_oneway(*groups).statistic)
    assert effect.p < 0.05


def test_complete_cases_are_counted() -> None:
    design = design_of(group=['a', 'b'] * 5, age=['1', None, '3', *'4567', None, '9', '10'])
    assert design.missing == {'age': 2}
    assert design.rows.tolist() == [0, 2, 3, 4, 5, 6, 8, 9]


def test_the_negative_class_is_the_reference() -> None:
    values = {'group': ['a', 'b'] * 4}
    design = make_design_matrix(values, ['0'] * 8, first={'group': 'b'})
    assert design.terms[0].contrast == 'a - b'


def test_groups_that_are_named_by_numbers() -> None:
    design = make_design_matrix(
        {'group': ['1', '0'] * 4}, ['0'] * 8, first={'group': '1'}, levels=['group']
    )
    assert design.terms[0].levels == ('1', '0')


def test_levels_that_are_written_as_numbers_make_no_slope() -> None:
    """A site in the middle that is unlike the others is seen."""
    site = np.repeat(['1', '2', '3'], 10)
    score = 3.0 * (site == '2') + np.random.default_rng(0).standard_normal(30)
    as_number = fit_terms(score, design_of(site=site.tolist()), draws=300, seed=0)[0]
    design = make_design_matrix({'site': site.tolist()}, ['0'] * 30, levels=['site'])
    as_levels = fit_terms(score, design, draws=300, seed=0)[0]
    assert (as_number.kind, as_levels.kind) == ('t', 'F')
    assert as_number.p > 0.1
    assert as_levels.p < 0.01


def test_levels_that_others_determine_in_part_are_told() -> None:
    site = ['a'] * 5 + ['b', 'c'] * 3
    design = make_design_matrix({'group': ['x'] * 5 + ['y'] * 6, 'site': site}, ['0'] * 11)
    assert list(design.left_out) == ['site']
    assert re.search(r'\bgroup\b.*\b3\b', design.left_out['site'])


@pytest.mark.parametrize(
    ('variables', 'name', 'words'),
    [
        ({'group': ['a', 'b'] * 5, 'age': ['60'] * 10}, 'age', r'\b10\b'),
        ({'group': ['a', 'b'] * 5, 'age': [None] * 10}, 'age', NO_VALUES),
        ({'group': ['a', 'b'] * 5, 'dx': ['x', 'y'] * 5}, 'dx', r'\bgroup$'),
    ],
)
def test_what_cannot_be_in_the_model_is_left_out_and_told(variables, name, words) -> None:
    design = design_of(**variables)
    assert re.search(words, design.left_out[name])
    assert [term.name for term in design.terms] == ['group']


def test_a_collinear_design_that_was_asked_for_is_an_error() -> None:
    variables = {'group': ['a', 'b'] * 5, 'site': ['x', 'y'] * 5}
    with pytest.raises(UsageError, match=r'\bsite\b.*\bgroup\b.* 10 ') as caught:
        make_design_matrix(variables, ['0'] * 10, required=['group', 'site'])
    assert '--covariates' in caught.value.advice


def test_a_number_that_is_the_sum_of_others() -> None:
    age, years = np.arange(12.0), np.random.default_rng(0).normal(5, 1, 12)
    with pytest.raises(UsageError, match=r'\bonset\b.*\bage, years\b.* 12 '):
        make_design_matrix(
            {'age': age.tolist(), 'years': years.tolist(), 'onset': (age - years).tolist()},
            ['0'] * 12,
            required=['age', 'years', 'onset'],
        )


def test_too_few_are_not_tested() -> None:
    design = design_of(group=['a', 'b', 'a', 'b', 'a'])
    assert [int(n) for n in re.findall(r'\d+', untestable_reason(design))] == [5, 3, 2, MIN_DF]
    assert untestable_reason(design_of(group=['a'] * 10)) == NO_VARIATION
    assert untestable_reason(design_of(group=['a', 'b'] * 5)) == ''


def test_scores_without_any_spread() -> None:
    design = design_of(group=['a', 'b'] * 5)
    effect = fit_terms(np.zeros(10), design, draws=100, seed=0)[0]
    assert effect.p == 1
    assert effect.estimate == 0
