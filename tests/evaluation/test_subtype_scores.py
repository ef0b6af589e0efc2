"""Between-subject NCC and AUC of the own subtype against hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.evaluation.subtype_scores import (
    between_subject_ncc,
    subtype_auc,
    subtype_scores,
)

FIRST, SECOND = np.array([-1.0, 1, 0, 0]), np.array([0.0, 0, -1, 1])
TRUTHS = np.stack([FIRST, SECOND])


def test_pairs_of_one_family_do_not_count() -> None:
    maps = np.stack([FIRST, FIRST, SECOND])
    assert between_subject_ncc(maps, np.array([0, 0, 1])) == pytest.approx(0)
    assert between_subject_ncc(maps, np.arange(3)) == pytest.approx(1 / 3)
    assert np.isnan(between_subject_ncc(maps, np.zeros(3)))


def test_scores_are_own_minus_the_best_other() -> None:
    mixed = 3 * FIRST + 4 * SECOND
    scores = subtype_scores(np.stack([FIRST, mixed]), TRUTHS)
    assert scores[0] == pytest.approx([1, -1])
    assert scores[1] == pytest.approx([-0.2, 0.2])
    three = np.stack([FIRST, SECOND, FIRST + SECOND])
    assert subtype_scores(FIRST[None], three)[0] == pytest.approx(
        [1 - np.sqrt(0.5), -1, np.sqrt(0.5) - 1]
    )


def test_the_area_under_the_curve_of_the_own_subtype() -> None:
    subtypes = np.array([0, 0, 1, 1])
    own = subtype_scores(TRUTHS[subtypes], TRUTHS)
    assert subtype_auc(own, subtypes) == 1.0
    assert subtype_auc(own, 1 - subtypes) == 0.0
    common = subtype_scores(np.tile(FIRST + SECOND, (4, 1)) + 1e-12 * np.arange(4)[:, None], TRUTHS)
    assert subtype_auc(common, subtypes) == 0.5
    # Scores 0.4, 0.1 of the first and 0.2, -0.3 of the second: 3 of 4 pairs are right.
    some = np.array([0.4, 0.1, 0.2, -0.3])
    assert subtype_auc(np.stack([some, -some], axis=1), subtypes) == 0.75


def test_weights_are_copies_and_a_missing_subtype_has_no_area() -> None:
    subtypes, some = np.array([0, 0, 1, 1]), np.array([0.4, 0.1, 0.2, -0.3])
    scores = np.stack([some, -some], axis=1)
    weights = np.array([1.0, 2.0, 1.0, 0.0])
    copies = np.repeat(np.arange(4), weights.astype(int))
    assert subtype_auc(scores, subtypes, weights[None]) == pytest.approx(
        subtype_auc(scores[copies], subtypes[copies])
    )
    assert np.isnan(subtype_auc(scores, subtypes, np.array([[1.0, 1.0, 0.0, 0.0]])))
