"""Scores of all methods of one scenario, with bootstrap intervals over brains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from bids_interp.bench.group_ncc import (
    GroupAgreement,
    bootstrap_interval,
    bootstrap_weights,
    centred_interval,
    family_mean,
)
from bids_interp.bench.method_maps import LOG_JACOBIAN, OURS, MethodMaps
from bids_interp.bench.records import EXPLAINED, TRAINING, ImageScores, Score
from bids_interp.bench.truth_scores import SALIENCY_SMOOTHING_MM, score_map
from bids_interp.constants import DIRECTIONS
from bids_interp.evaluation.personal_share import personal_share
from bids_interp.evaluation.scores import Estimate, ncc
from bids_interp.evaluation.stability import reliable_voxels, sign_agreement
from bids_interp.evaluation.subtype_scores import (
    between_subject_ncc,
    subtype_auc,
    subtype_scores,
)
from bids_interp.spatial import Grid

BOTH = 'both'
#: Method that knows the subtypes.
ORACLE = 'oracle'
#: Metrics of single images whose means are reported.
MEANS = (
    'crosses',
    'effectiveness',
    'monotone',
    'transfer_right_way',
    'transfer_crosses',
    'volume_right_way',
    'volume_crosses',
    'roi_error_percent',
    'n_folded',
    'reversibility_rmse',
    'minimality_mm',
    'realism',
    'volume_share',
    'displacement_ncc',
    'motion_outside_mm',
    'remeasured_slope',
    'remeasured_r',
)


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of the images of a scenario.

    Parameters
    ----------
    labels : numpy.ndarray
        (N,) 0 controls, 1 patients.
    families : numpy.ndarray
        (N,) index of the brain of each image, from 0.
    truths : numpy.ndarray
        (N, X, Y, Z) exact log-Jacobians.
    grid, mask : Grid, numpy.ndarray
        Grid and brain mask of the images.
    subtypes : numpy.ndarray, optional
        (N,) number of the change of each patient, -1 for controls.
    """

    labels: np.ndarray
    families: np.ndarray
    truths: np.ndarray
    grid: Grid
    mask: np.ndarray
    subtypes: np.ndarray | None = None

    @property
    def null(self) -> bool:
        """True if nothing is planted."""
        return not self.truths.any()

    @property
    def n_subtypes(self) -> int:
        """Number of planted changes; each patient has one."""
        return 0 if self.subtypes is None or self.null else int(self.subtypes.max()) + 1


@dataclass
class ScenarioScores:
    """Scores of one scenario.

    Parameters
    ----------
    rows : list of Score
        Scores.
    maps : dict of numpy.ndarray
        Group map (X, Y, Z) float32 by ``<method>.<direction>``, including the method ``truth``.
    """

    rows: list[Score] = field(default_factory=list)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self,
        method: str,
        metric: str,
        direction: str,
        found: Estimate | float,
        classifier: str | None = None,
        covers: str = EXPLAINED,
    ) -> None:
        """Add a row; a number without an interval gets NaN for its ends.

        By default the classifier has the name of the method.
        """
        if not isinstance(found, Estimate):
            found = Estimate(float(found), float('nan'), float('nan'))
        explained = method if classifier is None else classifier
        covers = covers if np.isfinite(found.low) else ''
        self.rows.append(
            Score(method, explained, metric, direction, found.value, found.low, found.high, covers)
        )


def score_scenario(
    maps: Mapping[str, MethodMaps],
    images: Mapping[str, Sequence[ImageScores]],
    reference: GroundTruth,
    *,
    draws: int = 1000,
    seed: int = 0,
    warranted: Mapping[str, bool] | None = None,
) -> ScenarioScores:
    """Score every method.

    Unsigned maps are scored as ``|map|`` against ``|truth|``, smoothed or not, whichever is better.
    Intervals are 95 % percentile intervals over explained brains drawn with replacement, with the
    same trained models. Differences to our method use the same draws. The interval of the group NCC
    of a method that was fitted again to other training brains includes these.

    Parameters
    ----------
    maps : mapping
        Maps by method.
    images : mapping
        Scores of :func:`bids_interp.bench.simulations.explain_image` by method.
    reference : GroundTruth
        Labels, brains and truths of the images.
    draws, seed : int
        Number of draws and seed of the bootstrap.
    warranted : mapping, optional
        False for a method whose classifier is not above chance; then no voxel is reliable, as in
        the group reports. The default is True.
    """
    scores = ScenarioScores()
    n_families = int(reference.families.max()) + 1
    weights = bootstrap_weights(n_families, draws, seed)
    compared: dict[str, dict[str, np.ndarray]] = {}
    for method, found in maps.items():
        above_chance = (warranted or {}).get(method, True)
        compared[method] = _score_method(scores, method, found, reference, weights, above_chance)
    if not reference.null:
        _add_personal(scores, maps, reference, weights)
    for method, own in compared.items():
        for metric in own if method != OURS and OURS in compared else ():
            gain = compared[OURS][metric] - own[metric]
            estimate = bootstrap_interval(gain[0], gain[1:])
            scores.add(method, f'gain_{metric}', BOTH, estimate, maps[method].classifier)
    for method, rows in images.items():
        _add_means(scores, method, rows, reference, weights)
    return scores


def _score_method(
    scores: ScenarioScores,
    method: str,
    found: MethodMaps,
    reference: GroundTruth,
    weights: np.ndarray,
    above_chance: bool,
) -> dict[str, np.ndarray]:
    """Add the rows of a method; return the compared metrics: value first, then draws."""
    group, single, refitted = [], [], []
    for direction in DIRECTIONS:
        chosen = reference.labels[found.images] == DIRECTIONS.index(direction)
        if not chosen.any():
            continue
        images, values = found.images[chosen], found.values[chosen]
        if reference.null:
            _add_null(scores, method, direction, found, chosen, reference, above_chance)
            continue
        wanted = reference.truths[images][:, reference.mask]
        families = reference.families[images]
        agreement = _agreement(values, wanted, found.signed, families, reference, weights)
        group_ncc, values, wanted, each, _ = agreement
        again = _refitted_ncc(found, chosen, agreement, reference, weights)
        single_ncc = family_mean(each, families, weights)
        group.append(group_ncc)
        single.append(single_ncc)
        refitted.append(again)
        _add_group(scores, method, direction, group_ncc, again, found.classifier)
        estimate = bootstrap_interval(single_ncc[0], single_ncc[1:])
        scores.add(method, 'ncc_single', direction, estimate, found.classifier)
        group_map, truth = (_volume(part.mean(axis=0), reference.mask) for part in (values, wanted))
        detail = score_map(group_map, truth, reference.mask, signed=found.signed).to_dict()
        for metric in ('sign_accuracy', 'average_precision', 'iou', 'off_target_percent'):
            if metric != 'off_target_percent' or found.kind == LOG_JACOBIAN:
                scores.add(method, metric, direction, detail[metric], found.classifier)
        scores.maps[f'{method}.{direction}'] = group_map
        scores.maps[f'truth.{direction}'] = _volume(
            reference.truths[images][:, reference.mask].mean(axis=0), reference.mask
        )
    if not group:
        return {}
    kept = {'ncc_group': np.mean(group, axis=0), 'ncc_single': np.mean(single, axis=0)}
    again = np.mean(refitted, axis=0) if all(len(part) for part in refitted) else np.empty(0)
    _add_group(scores, method, BOTH, kept['ncc_group'], again, found.classifier)
    estimate = bootstrap_interval(kept['ncc_single'][0], kept['ncc_single'][1:])
    scores.add(method, 'ncc_single', BOTH, estimate, found.classifier)
    return kept


def _add_group(
    scores: ScenarioScores,
    method: str,
    direction: str,
    drawn: np.ndarray,
    refitted: np.ndarray,
    classifier: str,
) -> None:
    """Add the group NCC with the widest interval that is known."""
    if len(refitted):
        estimate = centred_interval(drawn[0], refitted)
        scores.add(method, 'ncc_group', direction, estimate, classifier, TRAINING)
        return
    estimate = bootstrap_interval(drawn[0], drawn[1:])
    scores.add(method, 'ncc_group', direction, estimate, classifier)


def _refitted_ncc(
    found: MethodMaps,
    chosen: np.ndarray,
    agreement: _Agreement,
    reference: GroundTruth,
    weights: np.ndarray,
) -> np.ndarray:
    """Group NCC (B,) of refits, each with another draw of explained brains; empty without refits.

    All images of a fold have the same refitted map.
    """
    images, folds = found.images[chosen], found.folds[chosen]
    if not set(folds) <= set(found.refits):
        return np.empty(0)
    sign = 1.0 if reference.labels[images[0]] == 0 else -1.0
    families, results = reference.families[images], []
    names = np.unique(folds)
    for number in range(min(len(maps) for maps in found.refits.values())):
        maps = sign * np.stack([found.refits[name][number] for name in names])
        if not found.signed:
            maps = np.abs(maps)
        if agreement.smoothed:
            maps = np.stack([_smoothed(one, reference) for one in maps])
        values = maps[np.searchsorted(names, folds)]
        products = GroupAgreement(values, agreement.wanted, families, weights.shape[1])
        # The first row of the weights counts every brain once.
        drawn = weights[1 + number % (len(weights) - 1)]
        results.append(products(drawn[None])[0])
    return np.array(results)


def _add_personal(
    scores: ScenarioScores,
    maps: Mapping[str, MethodMaps],
    reference: GroundTruth,
    weights: np.ndarray,
) -> None:
    """Add how personal the maps are, and whether they name the subtype of their own person."""
    areas = {}
    for method, found in maps.items():
        for direction in DIRECTIONS:
            chosen = reference.labels[found.images] == DIRECTIONS.index(direction)
            shares, pairs = _personal_of_folds(found, chosen, reference)
            scores.add(method, 'personal_share', direction, shares, found.classifier)
            scores.add(method, 'between_subject_ncc', direction, pairs, found.classifier)
        if reference.n_subtypes > 1:
            areas[method] = drawn = _subtype_areas(found, reference, weights)
            estimate = bootstrap_interval(drawn[0], drawn[1:])
            scores.add(method, 'subtype_auc', 'remove', estimate, found.classifier)
    for method, drawn in areas.items():
        if ORACLE in areas and method != ORACLE:
            share = drawn / areas[ORACLE]
            estimate = bootstrap_interval(share[0], share[1:])
            scores.add(method, 'subtype_auc_share', 'remove', estimate, maps[method].classifier)


def _personal_of_folds(
    found: MethodMaps, chosen: np.ndarray, reference: GroundTruth
) -> tuple[float, float]:
    """Mean personal share and between-subject NCC of the people that one model explains."""
    shares, pairs = [], []
    for fold in np.unique(found.folds[chosen]):
        own = chosen & (found.folds == fold)
        finite = personal_share(found.values[own])
        finite = finite[np.isfinite(finite)]
        shares.append(finite.mean() if len(finite) else np.nan)
        pairs.append(between_subject_ncc(found.values[own], reference.families[found.images[own]]))
    return float(np.mean(shares)), float(np.mean(pairs))


def _subtype_areas(found: MethodMaps, reference: GroundTruth, weights: np.ndarray) -> np.ndarray:
    """AUC (D,) with which the maps of patients name their own subtype, for all weights."""
    subtypes = np.asarray(reference.subtypes)
    truths = reference.truths[:, reference.mask]
    means = np.stack([truths[subtypes == k].mean(axis=0) for k in range(reference.n_subtypes)])
    own = subtypes[found.images] >= 0
    values = found.values[own]
    ratings = subtype_scores(
        *((values, means) if found.signed else (np.abs(values), np.abs(means)))
    )
    families = reference.families[found.images[own]]
    return subtype_auc(ratings, subtypes[found.images[own]], weights[:, families])


class _Agreement(NamedTuple):
    """Group NCC for all weights, the scored maps, the truths, and the NCC of each image."""

    group: np.ndarray
    values: np.ndarray
    wanted: np.ndarray
    each: np.ndarray
    #: Whether the maps were smoothed.
    smoothed: bool


def _agreement(
    values: np.ndarray,
    wanted: np.ndarray,
    signed: bool,
    families: np.ndarray,
    reference: GroundTruth,
    weights: np.ndarray,
) -> _Agreement:
    candidates = [values]
    if not signed:
        wanted = np.abs(wanted)
        plain = np.abs(values)
        candidates = [plain, np.stack([_smoothed(one, reference) for one in plain])]
    count = weights.shape[1]
    groups = [GroupAgreement(one, wanted, families, count)(weights) for one in candidates]
    best = int(np.argmax([group[0] for group in groups]))
    everything = np.ones(wanted.shape[1], bool)
    each = [
        max(ncc(one[row], wanted[row], everything) for one in candidates)
        for row in range(len(wanted))
    ]
    return _Agreement(groups[best], candidates[best], wanted, np.array(each), best == 1)


def _smoothed(values: np.ndarray, reference: GroundTruth) -> np.ndarray:
    volume = _volume(values, reference.mask).astype(np.float64)
    sigma = SALIENCY_SMOOTHING_MM / reference.grid.spacing
    return gaussian_filter(volume, sigma)[reference.mask].astype(np.float32)


def _volume(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put the values (V,) of the brain into a volume of zeros."""
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = values
    return volume


def _add_null(
    scores: ScenarioScores,
    method: str,
    direction: str,
    found: MethodMaps,
    chosen: np.ndarray,
    reference: GroundTruth,
    above_chance: bool,
) -> None:
    """Add the rows of a scenario in which nothing is planted."""
    values, folds = found.values[chosen], found.folds[chosen]
    mean = _volume(values.mean(axis=0), reference.mask)
    scores.maps[f'{method}.{direction}'] = mean
    if found.kind != LOG_JACOBIAN:
        return
    of_folds = np.stack([values[folds == fold].mean(axis=0) for fold in np.unique(folds)])
    reliable = reliable_voxels(
        values.mean(axis=0), sign_agreement(values), sign_agreement(of_folds)
    )
    agreeing = 100 * float(reliable.mean())
    scores.add(method, 'agreeing_percent', direction, agreeing)
    scores.add(method, 'reliable_percent', direction, agreeing if above_chance else 0.0)
    changed = score_map(mean, np.zeros_like(mean), reference.mask).off_target_percent
    scores.add(method, 'off_target_percent', direction, changed)


def _add_means(
    scores: ScenarioScores,
    method: str,
    rows: Sequence[ImageScores],
    reference: GroundTruth,
    weights: np.ndarray,
) -> None:
    """Add means over images, for each direction and for both."""
    families = reference.families[[row.image for row in rows]]
    directions = np.array([row.direction for row in rows])
    for metric in MEANS:
        values = np.array([getattr(row, metric) for row in rows])
        if not np.isfinite(values).any():
            continue
        for direction in (*DIRECTIONS, BOTH):
            chosen = (directions == direction) | (direction == BOTH)
            if np.isfinite(values[chosen]).any():
                drawn = family_mean(values[chosen], families[chosen], weights)
                scores.add(method, metric, direction, bootstrap_interval(drawn[0], drawn[1:]))
