"""Each number against one that was worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from bids_interp.errors import TrainingError
from bids_interp.evaluation.classification import (
    OutOfFold,
    _measure,
    _measure_of_draws,
    brier_score,
    calibration_error,
    out_of_fold_metrics,
    recalls,
    reliability,
)
from bids_interp.evaluation.out_of_fold import (
    class_scores,
    out_of_fold_rows,
    within_fold_auc,
    within_fold_correlation,
)
from bids_interp.evaluation.verdict import verdict_sentence

NUMBER = re.compile(r'\d+(?:\.\d+)?')


def binary(
    truth: list[int], logits: list[float], chances: list[float], folds: list[int]
) -> OutOfFold:
    """Answers of which every image is its own family."""
    p = np.array(chances)
    return OutOfFold(
        'binary',
        ('control', 'patient'),
        np.array(truth),
        np.array(logits)[:, None],
        np.stack([1 - p, p], axis=1),
        np.array(folds),
        np.arange(len(truth)),
    )


@pytest.fixture
def eight() -> OutOfFold:
    """Two folds of four; the logits of the second lie ten higher."""
    return binary(
        [0, 0, 1, 1, 0, 0, 1, 1],
        [0.1, 0.4, 0.35, 0.8, 10.0, 11.0, 12.0, 13.0],
        [0.15, 0.65, 0.35, 0.85, 0.15, 0.25, 0.55, 0.95],
        [0, 0, 0, 0, 1, 1, 1, 1],
    )


def test_area_counts_pairs_within_folds_only(eight: OutOfFold) -> None:
    metrics = out_of_fold_metrics(eight, seed=0, draws=50)
    # Fold 0: 3 of 4 pairs in order; fold 1: 4 of 4. Pooled it would be 13 of 16.
    assert metrics['auc_per_fold'] == [0.75, 1.0]
    assert metrics['auc']['value'] == pytest.approx(7 / 8)
    assert metrics['auc']['low'] <= 7 / 8 <= metrics['auc']['high'] <= 1


def test_folds_with_more_pairs_weigh_more() -> None:
    scores = np.array([0.0, 1, 2, 3, 1, 0])
    labels = np.array([0, 0, 1, 1, 0, 1])
    folds = np.array([0, 0, 0, 0, 1, 1])
    # 4 of 4 pairs and 0 of 1.
    assert within_fold_auc(scores, labels, folds) == pytest.approx(4 / 5)
    several = within_fold_auc(scores, np.stack([labels, 1 - labels]), folds)
    assert several == pytest.approx([4 / 5, 1 / 5])
    # Equal scores count half.
    assert within_fold_auc(np.zeros(6), labels, folds) == 0.5


def test_threshold_measures(eight: OutOfFold) -> None:
    metrics = out_of_fold_metrics(eight, seed=0, draws=50)
    # Called patient: 0.65, 0.85, 0.55, 0.95; of the four patients 0.35 is missed.
    assert metrics['sensitivity']['value'] == pytest.approx(3 / 4)
    assert metrics['specificity']['value'] == pytest.approx(3 / 4)
    assert metrics['balanced_accuracy']['value'] == pytest.approx(3 / 4)
    assert metrics['accuracy']['value'] == pytest.approx(6 / 8)
    assert metrics['n_per_class'] == {'control': 4, 'patient': 4}


def test_balanced_accuracy_is_not_accuracy_when_classes_differ() -> None:
    oof = binary([0, 0, 0, 0, 1], [-1, -1, -1, -1, -1.0], [0.3] * 5, [0] * 5)
    metrics = out_of_fold_metrics(oof, seed=0, draws=20)
    assert metrics['accuracy']['value'] == pytest.approx(4 / 5)
    assert metrics['balanced_accuracy']['value'] == pytest.approx(1 / 2)
    assert metrics['auc']['value'] == 0.5
    assert metrics['permutation_p'] == 1.0
    assert not metrics['explanation_warranted']


def test_brier_and_calibration(eight: OutOfFold) -> None:
    metrics = out_of_fold_metrics(eight, seed=0, draws=50)
    # Controls .15 .65 .15 .25, patients .35 .85 .55 .95.
    squares = 2 * 0.0225 + 0.4225 + 0.0625 + 0.4225 + 0.0225 + 0.2025 + 0.0025
    assert metrics['brier']['value'] == pytest.approx(squares / 8)
    # Bins: two of .15 (frequency 0), one each of .25 .65 (0) and .35 .55 .85 .95 (1).
    gaps = 2 * 0.15 + 0.25 + 0.65 + 0.65 + 0.45 + 0.15 + 0.05
    assert metrics['ece']['value'] == pytest.approx(gaps / 8)
    assert metrics['ece_bins'] == 10
    assert metrics['ece']['low'] <= metrics['ece']['value'] <= metrics['ece']['high']
    assert metrics['reliability'][0] == {
        'low': 0.1,
        'high': 0.2,
        'n': 2,
        'probability': pytest.approx(0.15),
        'frequency': 0.0,
    }


def test_certainty_belongs_to_the_last_bin() -> None:
    oof = binary([0, 1], [-9.0, 9.0], [0.0, 1.0], [0, 0])
    metrics = out_of_fold_metrics(oof, seed=0, draws=20)
    assert metrics['ece']['value'] == 0.0
    assert [row['high'] for row in metrics['reliability']] == [0.1, 1.0]


def test_sites(eight: OutOfFold) -> None:
    sites = np.array(['A', 'A', 'A', 'A', 'A', 'B', 'A', 'A'])
    table = out_of_fold_metrics(replace(eight, sites=sites), seed=0, draws=20)['per_site']
    # Site A: fold 0 as before (3 of 4), fold 1 with one control and two patients (2 of 2).
    assert table['A']['auc'] == pytest.approx(5 / 6)
    assert table['A']['balanced_accuracy'] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert table['B'] == {
        'n': 1,
        'n_per_class': {'control': 1, 'patient': 0},
        'auc': None,
        'balanced_accuracy': None,
    }


def test_three_classes_by_hand() -> None:
    logits = np.log(
        [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.1, 0.2, 0.7]]
    )
    oof = OutOfFold(
        'multiclass',
        ('a', 'b', 'c'),
        np.array([0, 1, 1, 2, 2]),
        logits,
        np.exp(logits),
        np.zeros(5, dtype=int),
        np.arange(5),
    )
    metrics = out_of_fold_metrics(oof, seed=0, draws=50)
    areas = metrics['auc_per_class']
    assert areas['a']['value'] == pytest.approx(1)  # .6 over .5 .2 .4 .1
    assert areas['b']['value'] == pytest.approx(1)  # .4 .5 over .3 .2 .2
    assert areas['c']['value'] == pytest.approx(1)  # .4 .7 over .1 .1 .3
    assert metrics['auc']['value'] == pytest.approx(1)
    # Most probable: a, a, b, c (of equals the last), c.
    assert metrics['confusion'] == [[1, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert metrics['sensitivity_per_class']['b']['value'] == 0.5
    assert metrics['balanced_accuracy']['value'] == pytest.approx((1 + 0.5 + 1) / 3)
    squares = [0.26, 0.62, 0.38, 0.56, 0.14]
    assert metrics['brier']['value'] == pytest.approx(np.mean(squares))
    # Confidence and outcome: .6 1, .5 0, .5 1, .4 1, .7 1; the two of .5 share a bin.
    assert metrics['ece']['value'] == pytest.approx((0.4 + 2 * 0.0 + 0.6 + 0.3) / 5)


def test_score_of_a_class_is_its_log_odds() -> None:
    chances = np.array([[0.2, 0.3, 0.5]])
    assert class_scores(np.log(chances) + 7) == pytest.approx(np.log(chances / (1 - chances)))


def test_regression_by_hand() -> None:
    oof = OutOfFold(
        'regression',
        (),
        np.array([1.0, 3, 11, 13]),
        np.array([[2.0], [3], [10], [15]]),
        np.zeros((4, 0)),
        np.array([0, 0, 1, 1]),
        np.arange(4),
        np.array(['A', 'A', 'A', 'B']),
    )
    metrics = out_of_fold_metrics(oof, seed=0, draws=50)
    assert metrics['mae']['value'] == pytest.approx((1 + 0 + 1 + 2) / 4)
    # The mean of the other fold: 12 for 1 and 3, 2 for 11 and 13.
    assert metrics['mae_of_mean']['value'] == pytest.approx((11 + 9 + 9 + 11) / 4)
    # About the mean of 7: 36 + 16 + 16 + 36.
    assert metrics['r2']['value'] == pytest.approx(1 - 6 / 104)
    # Centred within folds: truth -1 1 -1 1, predictions -.5 .5 -2.5 2.5.
    assert metrics['pearson_r']['value'] == pytest.approx(6 / np.sqrt(4 * 13))
    assert metrics['r_per_fold'] == pytest.approx([1, 1])
    assert metrics['per_site']['A']['mae'] == pytest.approx(2 / 3)
    assert metrics['per_site']['B'] == {'n': 1, 'mae': 2.0, 'pearson_r': None}


def test_saying_the_mean_has_no_correlation() -> None:
    truth, folds = np.arange(9.0), np.arange(9) % 3
    others = np.array([truth[folds != fold].mean() for fold in folds])
    assert np.corrcoef(others, truth)[0, 1] < -0.1
    assert within_fold_correlation(others, truth, folds) == 0.0


def test_metrics_are_json_and_the_seed_repeats_them(eight: OutOfFold) -> None:
    first = out_of_fold_metrics(eight, seed=3, draws=50)
    assert first == out_of_fold_metrics(eight, seed=3, draws=50)
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_intervals_are_those_of_families() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    logits = truth + rng.normal(0, 1, 40)
    once = binary(truth.tolist(), logits.tolist(), [0.5] * 40, [0] * 40)
    four = binary(
        np.repeat(truth, 4).tolist(), np.repeat(logits, 4).tolist(), [0.5] * 160, [0] * 160
    )
    four = replace(four, families=np.repeat(np.arange(40), 4))
    single = out_of_fold_metrics(once, seed=1, draws=400)['auc']
    copies = out_of_fold_metrics(four, seed=1, draws=400)['auc']
    assert copies == pytest.approx(single)


@pytest.mark.parametrize('classes', [('control', 'patient'), ('a', 'b', 'c')])
def test_draws_are_measured_as_by_scikit_learn(classes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    count = len(classes)
    # Coarse probabilities, many of which lie on an edge of the bins.
    chances = rng.multinomial(10, [1 / count] * count, 30) / 10
    truth = rng.integers(count, size=30)
    kind = 'binary' if count == 2 else 'multiclass'
    outputs = chances[:, 1:] if count == 2 else chances
    oof = OutOfFold(kind, classes, truth, outputs, chances, np.zeros(30), np.arange(30))
    measure = _measure_of_draws(oof, truth)
    draws = [np.arange(30), *rng.integers(30, size=(20, 30)), np.flatnonzero(truth != 1)]
    for index in draws:
        part = replace(
            oof,
            **{
                name: getattr(oof, name)[index]
                for name in ('truth', 'outputs', 'probabilities', 'folds', 'families')
            },
        )
        assert measure(index) == pytest.approx(_measure(part, part.truth), nan_ok=True)


def test_rows_for_the_table(eight: OutOfFold) -> None:
    rows = out_of_fold_rows(
        replace(eight, sites=np.repeat('A', 8)),
        [{'participant_id': f'sub-{index}'} for index in range(8)],
    )
    assert rows[1] == {
        'participant_id': 'sub-1',
        'fold': 0,
        'site': 'A',
        'truth': 'control',
        'predicted': 'patient',
        'logit': 0.4,
        'probability': 0.65,
    }


def test_what_does_not_fit_is_an_error(eight: OutOfFold) -> None:
    with pytest.raises(TrainingError, match=r'probabilities .*\(8, 1\).*\(8, 2\)'):
        replace(eight, probabilities=eight.probabilities[:, :1])
    with pytest.raises(TrainingError, match=r'\b1 \w+ 8\b'):
        replace(eight, outputs=np.where(eight.outputs > 12.5, np.nan, eight.outputs))
    with pytest.raises(TrainingError, match='ordinal'):
        replace(eight, kind='ordinal')
    with pytest.raises(TrainingError, match=r'\b3 sites \w+ 8\b'):
        replace(eight, sites=np.repeat('A', 3))
    with pytest.raises(TrainingError) as caught:
        out_of_fold_metrics(replace(eight, folds=np.arange(8)), seed=0, draws=10)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ('kind', 'key', 'name'),
    [
        ('binary', 'auc', 'AUC'),
        ('multiclass', 'auc', 'AUC'),
        ('regression', 'pearson_r', "Pearson's r"),
    ],
)
def test_verdict(kind: str, key: str, name: str) -> None:
    metrics = {'kind': kind, key: {'value': 0.931, 'low': 0.85, 'high': 0.98}}

    def said(p: float, **more: bool) -> tuple[str, list[str]]:
        """Words and numbers of a verdict."""
        text = verdict_sentence({**metrics, 'permutation_p': p, **more})
        assert name in text
        return NUMBER.sub('', text), NUMBER.findall(text)

    yes, no = said(0.0005), said(0.0501)
    assert yes[1] == ['0.93', '95', '0.85', '0.98', '0.0005']
    assert no[1] == ['0.93', '95', '0.85', '0.98', '0.050']
    assert yes[0] != no[0]
    # What the metrics say goes before the level of p.
    assert said(0.0501, explanation_warranted=True)[0] == yes[0]
    assert said(0.0005, explanation_warranted=False)[0] == no[0]


def test_verdict_without_a_pattern() -> None:
    """A classifier above chance that does not respond to the measured difference."""
    metrics = {'auc': {'value': 0.9, 'low': 0.8, 'high': 0.95}, 'permutation_p': 0.001}
    none = {'explanation_warranted': False, 'simulator': {'pattern': {'found': 1, 'count': 3}}}
    most = {'simulator': {'pattern': {'found': 2, 'count': 3}}}
    plain, lacking, found = (verdict_sentence({**metrics, **more}) for more in ({}, none, most))
    assert plain == found
    assert NUMBER.findall(lacking) == [*NUMBER.findall(plain), '2', '3']
    assert lacking.split(':')[0] != plain.split(':')[0]


def test_verdict_without_trained_simulators() -> None:
    """A classifier above chance that is too weak for the published method."""
    metrics = {'auc': {'value': 0.8, 'low': 0.7, 'high': 0.9}, 'permutation_p': 0.001}
    gate = {'count': 5, 'least_auc': 0.85}
    few = {'explanation_warranted': False, 'simulator': {'gate': {**gate, 'trained': 2}}}
    most = {'simulator': {'gate': {**gate, 'trained': 3}}}
    plain, lacking, found = (verdict_sentence({**metrics, **more}) for more in ({}, few, most))
    assert plain == found
    assert NUMBER.findall(lacking) == [*NUMBER.findall(plain), '3', '5', '0.85']
    assert lacking.split(':')[0] != plain.split(':')[0]
    chance = verdict_sentence({**metrics, **few, 'permutation_p': 0.3})
    assert chance.split(':')[0] not in (lacking.split(':')[0], plain.split(':')[0])


def test_a_class_without_images_has_no_recall() -> None:
    found = recalls(np.array([0, 1, 2, 2]), np.array([0, 0, 2, 0]), 3)
    np.testing.assert_allclose(found, [1 / 3, np.nan, 1])


def test_brier_by_hand() -> None:
    two = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    assert brier_score(two, np.array([0, 0, 1])) == pytest.approx((0.04 + 0.36 + 0.01) / 3)
    # With one class alone, too.
    assert brier_score(two, np.array([0, 0, 0])) == pytest.approx((0.04 + 0.36 + 0.81) / 3)
    three = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    wanted = (0.3**2 + 0.2**2 + 0.1**2 + 0.3**2 + 0.7**2 + 0.4**2) / 2
    assert brier_score(three, np.array([0, 1])) == pytest.approx(wanted)


def test_bins_of_calibration_by_hand() -> None:
    probability = np.array([0.05, 0.1, 0.12, 0.18, 0.93])
    outcome = np.array([False, True, True, False, True])
    # A probability on an edge belongs to the lower bin.
    found = reliability(probability, outcome)
    assert [(row['low'], row['n'], row['frequency']) for row in found] == [
        (0.0, 2, 0.5),
        (0.1, 2, 0.5),
        (0.9, 1, 1.0),
    ]
    gaps = 2 * abs(0.075 - 0.5) + 2 * abs(0.15 - 0.5) + 0.07
    assert calibration_error(probability, outcome) == pytest.approx(gaps / 5)
