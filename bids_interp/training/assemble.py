"""Assembly of trained folds: out-of-fold predictions, metrics, maps and subject folds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from bids_interp.constants import DIRECTIONS
from bids_interp.evaluation.classification import out_of_fold_metrics
from bids_interp.evaluation.confounds import covariate_metrics, mask_metrics
from bids_interp.evaluation.out_of_fold import OutOfFold
from bids_interp.evaluation.scores import auc, ncc
from bids_interp.evaluation.verdict import verdict_sentence
from bids_interp.models.bundle.fingerprint import scan_sketch
from bids_interp.models.bundle.fold_metrics import (
    PatternMetrics,
    SimulatorMetrics,
    has_pattern,
    is_explained,
)
from bids_interp.models.bundle.schema import TrainingScan
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.training.calibration import Calibration, probabilities
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult


@dataclass(frozen=True)
class Assembled:
    """Combined results of all folds.

    Parameters
    ----------
    oof : OutOfFold
        Out-of-fold predictions.
    fold_of : numpy.ndarray
        (N,) fold that tests each image.
    metrics : dict
        Metrics of classifier, confounds and simulators.
    maps : dict of numpy.ndarray
        (X, Y, Z) mean maps over the folds.
    """

    oof: OutOfFold
    fold_of: np.ndarray
    metrics: dict[str, Any]
    maps: dict[str, np.ndarray]


def assemble(
    cohort: Cohort,
    folds: Sequence[Fold],
    results: Sequence[FoldResult],
    *,
    covariates: Mapping[str, Sequence[str | None]],
    site: str | None,
    seed: int,
    categories: Collection[str] = (),
) -> Assembled:
    """Combine the folds and measure them on their test images.

    Parameters
    ----------
    cohort, folds, results
        Cohort, folds and results in the order of the folds.
    covariates : mapping
        Column name to N values, None where missing.
    site : str, optional
        Covariate that is the site.
    seed : int
        Random seed of bootstrap and permutations.
    categories : collection of str
        Categorical columns, even if their values look like numbers. The site is always one.
    """
    categories = {*categories, *([] if site is None else [site])}
    fold_of = np.zeros(len(cohort), int)
    outputs = np.zeros((len(cohort), cohort.target.n_outputs))
    calibrated = np.zeros((len(cohort), len(cohort.target.classes)))
    for index, (fold, result) in enumerate(zip(folds, results, strict=True)):
        fold_of[fold.test] = index
        outputs[fold.test] = result.test_outputs
        _measure_test(cohort, fold, result)
        calibrated[fold.test] = probabilities(
            result.test_outputs, _calibration(result.trained), cohort.target
        )
    target = cohort.target
    if target.kind == 'regression':
        outputs = outputs * target.sd + target.mean
    oof = OutOfFold(
        target.kind,
        target.classes,
        np.asarray(cohort.labels),
        outputs,
        calibrated,
        fold_of,
        cohort.families,
        None if site is None else np.array([str(v) for v in covariates[site]]),
        cohort.participants,
    )
    parts = [(np.concatenate([fold.train, fold.validation]), fold.test) for fold in folds]
    metrics = out_of_fold_metrics(oof, seed)
    if covariates:
        metrics['covariates'] = covariate_metrics(
            oof, covariates, parts, seed, categories=categories
        )
    # Only the background is exactly 0; z-scores of dark voxels in the brain are negative.
    inside = cohort.images[:, 0].numpy()[:, cohort.mask] != 0
    metrics['mask'] = mask_metrics(oof, inside, parts, seed)
    # A simulator that was not trained has a map of zeros, which would dilute the mean.
    shown = _explained(cohort, results) or results
    maps = {
        name: np.mean([result.maps[name] for result in shown], axis=0) for name in results[0].maps
    }
    metrics['simulator'] = simulator_metrics(cohort, results)
    if not (has_pattern(metrics) and is_explained(metrics)):
        # Without a pattern that the classifier uses, there is nothing to show.
        metrics['explanation_warranted'] = False
        metrics['verdict'] = verdict_sentence(metrics)
    return Assembled(oof, fold_of, metrics, maps)


def _explained(cohort: Cohort, results: Sequence[FoldResult]) -> list[FoldResult]:
    """Return the folds with a trained simulator of the first contrast, whose maps are shown."""
    first = cohort.target.contrasts[0].name
    measured = [(result.trained.metrics.simulator, result) for result in results]
    return [result for own, result in measured if own is None or own.explains(first)]


def _calibration(trained: TrainedFold) -> Calibration:
    temperature, intercept = (
        value if isinstance(value, Sequence) else [value]
        for value in (trained.temperature, trained.intercept)
    )
    return Calibration(temperature[0], tuple(intercept))


def _measure_test(cohort: Cohort, fold: Fold, result: FoldResult) -> None:
    labels = cohort.labels[fold.test]
    if cohort.target.kind == 'binary' and len(np.unique(labels)) == 2:
        area = auc(result.test_outputs[:, 0], labels)
        result.trained.metrics = replace(result.trained.metrics, test_auc=area)


def simulator_metrics(cohort: Cohort, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Measure the agreement of the folds and the validity of held-out simulations.

    Returns
    -------
    dict
        ``fold_ncc``, mean NCC between the maps of two folds for each direction; ``validity`` and
        ``effectiveness``, means over folds, contrasts and directions; ``split_half_ncc`` and
        ``audit_ncc``, means over the folds, if they were measured; ``gate``, of published
        simulators: their ``count``, those that were ``trained``, and ``least_auc``.
    """
    measured = [result.trained.metrics.simulator or SimulatorMetrics() for result in results]
    sides = [side for fold in measured for row in fold.validity for side in row.sides]
    metrics: dict[str, Any] = {
        'validity': _mean([side.validity for side in sides]),
        'effectiveness': _mean([side.effectiveness for side in sides]),
        'fold_ncc': {
            direction: _mean(
                [
                    ncc(one.maps[direction], two.maps[direction], cohort.mask)
                    for one, two in combinations(_explained(cohort, results), 2)
                ]
            )
            for direction in DIRECTIONS
        },
    }
    chosen = [fold.chosen.split_half_ncc for fold in measured if fold.chosen]
    if chosen:
        metrics['split_half_ncc'] = _mean(chosen)
    audits = [fold.audit_ncc for fold in measured if fold.audit_ncc is not None]
    if len(audits) == len(measured):
        metrics['audit_ncc'] = _mean(audits)
    patterns = [row for fold in measured for row in fold.patterns or ()]
    if patterns:
        metrics['pattern'] = pattern_metrics(patterns)
    gates = [row for fold in measured for row in fold.gates or ()]
    if gates:
        trained = sum(not gate.reason for gate in gates)
        metrics['gate'] = {
            'count': len(gates),
            'trained': trained,
            'least_auc': gates[0].least_auc,
        }
    return metrics


def pattern_metrics(patterns: Sequence[PatternMetrics]) -> dict[str, Any]:
    """Summarise the patterns of all folds and contrasts.

    Returns
    -------
    dict
        ``count``, number of patterns that were looked for; ``found``, number of those to which the
        classifier responds; ``subtypes``, the largest number of subtypes; ``consent``, the median
        standard score; and, of the patterns that were found, the means of ``personal_share`` and
        ``weights_ncc``.
    """
    found = [row for row in patterns if row.found]
    return {
        'count': len(patterns),
        'found': len(found),
        'subtypes': max(row.subtypes for row in patterns),
        'consent': float(np.median([row.consent for row in patterns])),
        'personal_share': _mean([row.personal_share for row in found]),
        'weights_ncc': _mean([row.weights_ncc for row in found]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def training_scans(
    cohort: Cohort, fold_of: np.ndarray, mean: np.ndarray
) -> tuple[TrainingScan, ...]:
    """Return the sketches of all training scans with the folds that may explain them.

    Parameters
    ----------
    cohort : Cohort
        Training images.
    fold_of : numpy.ndarray
        (N,) fold that held each image out.
    mean : numpy.ndarray
        (X, Y, Z) mean image of the model.
    """
    scans = [
        TrainingScan(scan_sketch(image[0].numpy(), mean, cohort.mask), (int(fold),))
        for image, fold in zip(cohort.images, fold_of, strict=True)
    ]
    # The order of the cohort is that of the labels.
    return tuple(sorted(scans, key=lambda scan: scan.sketch))
