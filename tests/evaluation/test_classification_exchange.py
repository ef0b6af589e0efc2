"""Which labels change places, and that p is what it says when there is nothing to find."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from bids_interp.evaluation.classification import OutOfFold, out_of_fold_metrics
from bids_interp.evaluation.exchange import exchange_labels, permutation_test
from bids_interp.evaluation.out_of_fold import within_fold_auc
from bids_interp.evaluation.verdict import verdict_sentence

TWENTY = np.arange(20)


def _area(scores: np.ndarray, folds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return within_fold_auc(scores, labels, folds)


def test_labels_stay_in_their_fold() -> None:
    labels, folds = (TWENTY % 4 == 0).astype(int), TWENTY // 10
    drawn = exchange_labels(labels, TWENTY, folds, np.random.default_rng(0), 50)
    for fold in (0, 1):
        assert (drawn[:, folds == fold].sum(axis=1) == labels[folds == fold].sum()).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_families_of_one_label_exchange_it_as_families() -> None:
    families = TWENTY // 4
    drawn = exchange_labels(families % 2, families, 0 * TWENTY, np.random.default_rng(0), 50)
    by_family = drawn.reshape(50, 5, 4)
    assert (by_family == by_family[:, :, :1]).all()
    assert len(np.unique(drawn, axis=0)) == 10  # two families of five


def test_families_of_several_labels_keep_them() -> None:
    families, labels = TWENTY // 4, TWENTY % 2
    drawn = exchange_labels(labels, families, 0 * TWENTY, np.random.default_rng(0), 50)
    assert (drawn.reshape(50, 5, 4).sum(axis=2) == 2).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_scans_of_a_sibling_move_together() -> None:
    """Five families of two siblings with two scans each, one of them ill."""
    families, siblings = TWENTY // 4, TWENTY // 2
    drawn = exchange_labels(
        siblings % 2, families, 0 * TWENTY, np.random.default_rng(0), 200, participants=siblings
    )
    by_sibling = drawn.reshape(200, 5, 2, 2)
    assert (by_sibling == by_sibling[..., :1]).all()
    assert (by_sibling[..., 0].sum(axis=2) == 1).all()
    assert len(np.unique(drawn, axis=0)) == 2**5


def test_what_a_participant_has_several_of_is_exchanged_among_its_images() -> None:
    """Ill and sham warps of one brain that go by the name of its participant."""
    brains, labels = TWENTY // 4, TWENTY % 2
    drawn, alone = (
        exchange_labels(
            labels, brains, 0 * TWENTY, np.random.default_rng(0), 50, participants=people
        )
        for people in (brains, None)
    )
    assert (drawn == alone).all()
    assert (drawn.reshape(50, 5, 4).sum(axis=2) == 2).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_values_of_a_family_move_together_and_in_order() -> None:
    ages, families = 50.0 + TWENTY, TWENTY // 4
    drawn = exchange_labels(ages, families, 0 * TWENTY, np.random.default_rng(0), 50, blocks=True)
    assert (np.diff(drawn.reshape(50, 5, 4), axis=2) == 1).all()
    assert (np.sort(drawn, axis=1) == ages).all()
    assert len(np.unique(drawn[:, 0])) == 5


def test_more_scans_of_the_same_siblings_are_no_more_evidence() -> None:
    """In all of five families the ill one ranks higher: chance is one in 32."""
    siblings = np.arange(40) // 4
    truth = siblings % 2
    logits = (2.0 * truth - 1)[:, None]
    chances = 1 / (1 + np.exp(-np.concatenate([-logits, logits], axis=1)))
    answers = OutOfFold(
        'binary', ('no', 'yes'), truth, logits, chances, siblings // 2 % 2, siblings // 2
    )
    p = {}
    for name, people in (('images', None), ('siblings', siblings)):
        known = replace(answers, participants=people)
        p[name] = out_of_fold_metrics(known, 0, draws=50)['permutation_p_fixed_models']
    assert p['images'] < 0.001
    assert p['siblings'] == pytest.approx(1 / 32, abs=0.015)


def _pure_noise(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, folds and logits of a class-mean classifier trained on noise."""
    labels = rng.permutation(np.arange(36) % 2)
    images = rng.normal(size=(36, 30))
    logits, folds = np.zeros(36), np.zeros(36, dtype=int)
    split = StratifiedKFold(3, shuffle=True, random_state=int(rng.integers(2**31)))
    for fold, (train, test) in enumerate(split.split(images, labels)):
        here, seen = labels[train], images[train]
        logits[test] = images[test] @ (seen[here == 1].mean(0) - seen[here == 0].mean(0))
        folds[test] = fold
    return labels, folds, logits


def test_p_is_uniform_for_cross_validated_noise() -> None:
    rng = np.random.default_rng(0)
    tests = []
    for seed in range(300):
        labels, folds, logits = _pure_noise(rng)
        area = partial(_area, logits, folds)
        tests.append(permutation_test(area, labels, np.arange(36), folds, seed, draws=200))
    p = np.array([test.p for test in tests])
    fixed = np.array([test.p_fixed_models for test in tests])
    # Standard errors of the shares: 0.013, 0.023, 0.029.
    assert (p <= 0.05).mean() < 0.08
    assert (p <= 0.2).mean() == pytest.approx(0.2, abs=0.06)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.09)
    # What the factor is for.
    assert (fixed <= 0.05).mean() > 0.08


def test_p_with_fixed_models_is_uniform_for_independent_families() -> None:
    """Four images a family, one label a family: exchanging images would find far too much."""
    rng = np.random.default_rng(1)
    families = np.repeat(np.arange(24), 4)
    folds = families % 3
    by_family, by_image = [], []
    for seed in range(300):
        labels = np.repeat(rng.permutation(np.arange(24) % 2), 4)
        logits = np.repeat(rng.normal(size=24), 4) + rng.normal(0, 0.2, 96)
        area = partial(_area, logits, folds)
        for units, found in ((families, by_family), (np.arange(96), by_image)):
            outcome = permutation_test(area, labels, units, folds, seed, draws=100)
            found.append(outcome.p_fixed_models)
    assert (np.array(by_family) <= 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert (np.array(by_family) <= 0.5).mean() == pytest.approx(0.5, abs=0.09)
    assert (np.array(by_image) <= 0.05).mean() > 0.15


def test_a_signal_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    truth = np.arange(60) % 2

    def answers(logits: np.ndarray) -> OutOfFold:
        p = 1 / (1 + np.exp(-logits))
        return OutOfFold(
            'binary',
            ('no', 'yes'),
            truth,
            logits[:, None],
            np.stack([1 - p, p], axis=1),
            (np.arange(60) // 2) % 3,
            np.arange(60),
        )

    strong = out_of_fold_metrics(answers(3.0 * truth - 1.5 + rng.normal(size=60)), 0, draws=50)
    assert strong['permutation_p'] == 1 / 2001
    assert strong['explanation_warranted']
    assert strong['verdict'] == verdict_sentence(strong)
    assert f'AUC {strong["auc"]["value"]:.2f}' in strong['verdict']
    noise = out_of_fold_metrics(answers(rng.normal(size=60)), 0, draws=50)
    assert noise['permutation_p'] > 0.05
    assert noise['verdict'] == verdict_sentence(noise)
    assert not noise['explanation_warranted']
