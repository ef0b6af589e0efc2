"""The classifier that is explained is the better one on the validation splits alone."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.evaluation.classifier_choice import choose_classifier, discrimination_score
from bids_interp.models.target import Target

BINARY = Target('binary', 'group', ('control', 'patient'))
SEVERAL = Target('multiclass', 'dx', ('CN', 'MCI', 'AD'))
NUMBER = Target('regression', 'age', (), 50.0, 10.0)


def test_scores_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    outputs = np.array([[-3.0], [1.0], [0.5], [4.0]])
    assert discrimination_score(outputs, labels, BINARY) == 0.75
    assert discrimination_score(100 * outputs - 7, labels, BINARY) == 0.75
    # CN against MCI is right, CN against AD is half right, MCI against AD is wrong.
    three = np.array([[0.0, 1, 2], [2, 1, 0], [0, 3, 1.5], [0, 3, 1]])
    found = discrimination_score(three, np.array([0, 0, 1, 2]), SEVERAL)
    assert found == pytest.approx((1 + 0.5 + 0) / 3)
    values = np.array([30.0, 40.0, 50.0, 70.0])
    assert discrimination_score(values[:, None] / 10, values, NUMBER) == pytest.approx(1)
    assert discrimination_score(np.ones((4, 1)), values, NUMBER) == 0


def test_a_split_without_a_class_says_nothing() -> None:
    assert discrimination_score(np.ones((3, 1)), np.zeros(3), BINARY) == 0.5


def test_the_best_mean_of_the_validation_splits_wins() -> None:
    scores = {
        'morphometric': [(0.70, 0.99), (0.80, 0.99)],
        'robust': [(0.60, 0.50), (0.95, 0.50)],
    }
    choice = choose_classifier(scores, BINARY, {'sfcn': 'why'})
    assert (choice.explained, choice.measure) == ('robust', 'auc')
    first, second = choice.candidates
    assert (first.validation, first.test) == pytest.approx((0.75, 0.99))
    assert (second.validation, second.test) == pytest.approx((0.775, 0.5))
    assert second.validation_per_fold == [0.60, 0.95]
    assert choice.left_out == {'sfcn': 'why'}


def test_the_first_one_of_equals_wins() -> None:
    same = {'morphometric': [(0.75, 0.5)], 'robust': [(0.75, 0.9)]}
    assert choose_classifier(same, NUMBER, {}).explained == 'morphometric'
    assert choose_classifier(same, NUMBER, {}).measure == 'pearson_r'
