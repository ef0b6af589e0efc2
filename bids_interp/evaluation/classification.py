"""Classification metrics of out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix, recall_score

from bids_interp.bids.write.atomic import to_json_types
from bids_interp.errors import TrainingError
from bids_interp.evaluation.exchange import permutation_test
from bids_interp.evaluation.out_of_fold import (
    OutOfFold,
    class_scores,
    predicted_classes,
    within_fold_auc,
)
from bids_interp.evaluation.regression import regression_metrics
from bids_interp.evaluation.scores import Estimate, bootstrap_by_family, bootstrap_measures
from bids_interp.evaluation.verdict import LEVEL, verdict_sentence

#: Number of equal-width bins of probability for the calibration error.
ECE_BINS = 10
#: Edges between the bins. As in calibration_curve, a probability on an edge is in the lower bin.
INNER_EDGES = np.linspace(0, 1, ECE_BINS + 1)[1:-1]


def out_of_fold_metrics(oof: OutOfFold, seed: int, draws: int = 1000) -> dict[str, Any]:
    """Measure out-of-fold predictions.

    Intervals are 95 % percentile intervals over families drawn with replacement. They do not
    include the variation between trainings on other subjects. Areas count pairs within folds, see
    :func:`bids_interp.evaluation.out_of_fold.within_fold_auc`; for p values see
    :func:`bids_interp.evaluation.exchange.permutation_test`.

    Parameters
    ----------
    oof : OutOfFold
        Out-of-fold predictions.
    seed : int
        Random seed of bootstrap and permutations.
    draws : int
        Number of bootstrap draws.

    Returns
    -------
    dict
        JSON types, None for measures that cannot be computed. All kinds: ``kind``, ``n``,
        ``n_families``, ``n_folds``, ``permutation_p``, ``permutation_p_fixed_models``,
        ``explanation_warranted`` (p < 0.05), ``per_site``, ``verdict``.

        Binary, each with ``value``, ``low``, ``high``: ``auc``, ``balanced_accuracy``,
        ``sensitivity``, ``specificity``, ``accuracy``, ``brier``, ``ece``; and ``auc_per_fold``,
        ``n_per_class``, ``ece_bins``, ``reliability``.

        Multi-class: ``auc`` (mean of one against the rest), ``balanced_accuracy``, ``accuracy``,
        ``brier``, ``ece`` (of the most probable class); ``auc_per_class`` and
        ``sensitivity_per_class`` by name, ``confusion`` (rows: truth), ``auc_per_fold``.

        Regression: see :func:`bids_interp.evaluation.regression.regression_metrics`.

    Raises
    ------
    TrainingError
        If no fold has test images of two classes.
    """
    metrics: dict[str, Any] = {
        'kind': oof.kind,
        'n': len(oof.truth),
        'n_families': len(np.unique(oof.families)),
        'n_folds': len(np.unique(oof.folds)),
    }
    if oof.kind == 'regression':
        metrics |= regression_metrics(oof, seed, draws)
    else:
        metrics |= _classification_metrics(oof, seed, draws)
    metrics['explanation_warranted'] = metrics['permutation_p'] < LEVEL
    metrics['verdict'] = verdict_sentence(metrics)
    cleaned: dict[str, Any] = to_json_types(metrics)
    return cleaned


def discrimination(
    scores: np.ndarray,
    truth: np.ndarray,
    folds: np.ndarray,
    families: np.ndarray,
    seed: int,
    draws: int = 1000,
    participants: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measure the area under the curve within folds, with its interval and p value.

    Parameters
    ----------
    scores : numpy.ndarray
        (N, 1) for two classes, (N, C) for more.
    truth : numpy.ndarray
        (N,) class indices.
    folds, families : numpy.ndarray
        (N,) each.
    seed, draws : int
        Random seed and number of bootstrap draws.
    participants : numpy.ndarray, optional
        See :func:`bids_interp.evaluation.exchange.exchange_labels`.

    Raises
    ------
    TrainingError
        If no fold has test images of two classes.
    """

    def area(index: np.ndarray) -> float:
        return float(_macro_auc(scores[index], truth[index], folds[index]))

    try:
        estimate = bootstrap_by_family(area, families, seed, draws)
    except ValueError as error:
        raise TrainingError(
            'No fold has test images of every class.',
            'Use fewer folds or more subjects.',
        ) from error
    test = permutation_test(
        lambda labels: _macro_auc(scores, labels, folds),
        truth,
        families,
        folds,
        seed,
        participants=participants,
    )
    return {
        'auc': estimate.to_dict(),
        'permutation_p': test.p,
        'permutation_p_fixed_models': test.p_fixed_models,
    }


def _macro_auc(scores: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the mean area of each class against the rest, (...,) from truth (..., N)."""
    if scores.shape[1] == 1:
        return within_fold_auc(scores[:, 0], np.asarray(truth) == 1, folds)
    areas = [
        within_fold_auc(column, np.asarray(truth) == value, folds)
        for value, column in enumerate(scores.T)
    ]
    return np.mean(areas, axis=0)


def _classification_metrics(oof: OutOfFold, seed: int, draws: int) -> dict[str, Any]:
    truth = oof.truth.astype(int)
    binary = oof.kind == 'binary'
    scores = oof.outputs if binary else class_scores(oof.outputs)
    metrics = discrimination(scores, truth, oof.folds, oof.families, seed, draws, oof.participants)
    metrics['auc_rule'] = 'pairs of images of one fold' + ('' if binary else '; mean over classes')
    metrics['auc_per_fold'] = [
        _or_nan(_macro_auc, scores[inside], truth[inside], oof.folds[inside])
        for inside in (oof.folds == fold for fold in np.unique(oof.folds))
    ]
    drawn = bootstrap_measures(_measure_of_draws(oof, truth), oof.families, seed, draws)
    for name, value in _measure(oof, truth).items():
        metrics[name] = _with_value(replace(drawn[name], value=value))
    metrics['n_per_class'] = {
        name: int((truth == value).sum()) for value, name in enumerate(oof.classes)
    }
    metrics['ece_bins'] = ECE_BINS
    metrics['reliability'] = reliability(*_confidence(oof.probabilities, truth))
    if not binary:
        metrics |= _per_class(oof, scores, truth, seed, draws)
    metrics['per_site'] = _per_site(oof, scores, truth)
    return metrics


def _measure(oof: OutOfFold, truth: np.ndarray) -> dict[str, float]:
    """Return the measures by name, NaN if a class has no image."""
    predicted = predicted_classes(oof.probabilities)
    shares = recalls(predicted, truth, len(oof.classes))
    return _named_shares(oof, shares) | {
        'accuracy': float((predicted == truth).mean()),
        'brier': brier_score(oof.probabilities, truth),
        'ece': calibration_error(*_confidence(oof.probabilities, truth)),
    }


def _named_shares(oof: OutOfFold, shares: np.ndarray) -> dict[str, float]:
    """Name the measures that are made of the recall of each class."""
    measured = {'balanced_accuracy': float(shares.mean())}
    if oof.kind == 'binary':
        measured |= {'sensitivity': float(shares[1]), 'specificity': float(shares[0])}
    return measured


def _measure_of_draws(
    oof: OutOfFold, truth: np.ndarray
) -> Callable[[np.ndarray], dict[str, float]]:
    """Return a function that gives the measures of some images, as :func:`_measure` of all.

    It adds up what each image contributes: a thousand calls of scikit-learn take many seconds.
    """
    of_class = truth[:, None] == np.arange(len(oof.classes))
    correct = predicted_classes(oof.probabilities) == truth
    # With two classes, the score counts the positive class alone.
    scored = slice(1, None) if len(oof.classes) == 2 else slice(None)
    loss = ((oof.probabilities - of_class)[:, scored] ** 2).sum(axis=1)
    probability, outcome = _confidence(oof.probabilities, truth)
    bins, excess = np.searchsorted(INNER_EDGES, probability), probability - outcome

    def measure(index: np.ndarray) -> dict[str, float]:
        gaps = np.bincount(bins[index], excess[index])
        return _named_shares(oof, _recalls_of_draw(correct, of_class, index)) | {
            'accuracy': float(correct[index].mean()),
            'brier': float(loss[index].mean()),
            'ece': float(np.abs(gaps).sum() / len(index)),
        }

    return measure


def _recalls_of_draw(correct: np.ndarray, of_class: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Recall of each class in some images, as :func:`recalls`."""
    with np.errstate(invalid='ignore'):
        shares: np.ndarray = correct[index] @ of_class[index].astype(float) / of_class[index].sum(0)
    return shares


def _confidence(chances: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability and outcome (N,) for calibration.

    They refer to the positive class or, with more than two classes, to the most probable one.
    """
    if chances.shape[1] == 2:
        return chances[:, 1], truth == 1
    return chances.max(axis=1), predicted_classes(chances) == truth


def recalls(predicted: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Recall of each class, (C,), NaN for classes without images."""
    labels = range(n_classes)
    return np.asarray(
        recall_score(truth, predicted, labels=labels, average=None, zero_division=np.nan)
    )


def brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Brier score of probabilities (N, C); with two classes, of the positive class alone."""
    if probabilities.shape[1] == 2:
        return float(brier_score_loss(truth == 1, probabilities[:, 1]))
    labels = range(probabilities.shape[1])
    return float(brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False))


def reliability(probability: np.ndarray, outcome: np.ndarray) -> list[dict[str, float]]:
    """Mean probability and frequency of the outcome in each non-empty bin."""
    frequency, mean = calibration_curve(outcome, probability, n_bins=ECE_BINS)
    counts = np.bincount(np.searchsorted(INNER_EDGES, probability), minlength=ECE_BINS)
    return [
        {
            'low': used / ECE_BINS,
            'high': (used + 1) / ECE_BINS,
            'n': int(counts[used]),
            'probability': float(mean[index]),
            'frequency': float(frequency[index]),
        }
        for index, used in enumerate(np.flatnonzero(counts))
    ]


def calibration_error(probability: np.ndarray, outcome: np.ndarray) -> float:
    """Expected calibration error: mean over images of |probability - frequency| of their bin.

    References
    ----------
    Naeini MP, Cooper GF, Hauskrecht M. Obtaining well calibrated probabilities using Bayesian
    binning. AAAI 2015.
    """
    bins = reliability(probability, outcome)
    gaps = [item['n'] * abs(item['probability'] - item['frequency']) for item in bins]
    return float(sum(gaps) / len(probability))


def _with_value(drawn: Estimate) -> dict[str, float]:
    """Extend the interval to the value, because the ECE grows when bins lose images."""
    low, high = min(drawn.low, drawn.value), max(drawn.high, drawn.value)
    return Estimate(drawn.value, low, high).to_dict()


def _or_nan(measure: Callable[..., Any], *arguments: Any) -> float:
    """Return a measure, or NaN if it is undefined for the images."""
    try:
        return float(measure(*arguments))
    except ValueError:
        return float('nan')


def _per_class(
    oof: OutOfFold, scores: np.ndarray, truth: np.ndarray, seed: int, draws: int
) -> dict[str, Any]:
    """Measure each of more than two classes."""
    predicted = predicted_classes(oof.probabilities)
    areas = {}
    for value, name in enumerate(oof.classes):
        column = scores[:, value]

        def area(i: np.ndarray, column: np.ndarray = column, value: int = value) -> float:
            return float(within_fold_auc(column[i], truth[i] == value, oof.folds[i]))

        areas[name] = _with_value(bootstrap_by_family(area, oof.families, seed, draws))

    of_class = truth[:, None] == np.arange(len(oof.classes))

    def shares(i: np.ndarray) -> dict[str, float]:
        found = _recalls_of_draw(predicted == truth, of_class, i)
        return dict(zip(oof.classes, found.tolist(), strict=True))

    found = bootstrap_measures(shares, oof.families, seed, draws)
    return {
        'auc_per_class': areas,
        'sensitivity_per_class': {name: _with_value(one) for name, one in found.items()},
        'confusion': confusion_matrix(truth, predicted, labels=range(len(oof.classes))),
    }


def _per_site(oof: OutOfFold, scores: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Measure each site; area and balanced accuracy need all classes."""
    if oof.sites is None:
        return {}
    predicted = predicted_classes(oof.probabilities)
    table = {}
    for site in np.unique(oof.sites):
        inside = oof.sites == site
        counts = {name: int((truth[inside] == c).sum()) for c, name in enumerate(oof.classes)}
        table[str(site)] = {
            'n': int(inside.sum()),
            'n_per_class': counts,
            'auc': _or_nan(_macro_auc, scores[inside], truth[inside], oof.folds[inside]),
            'balanced_accuracy': float(
                recalls(predicted[inside], truth[inside], len(oof.classes)).mean()
            ),
        }
    return table
