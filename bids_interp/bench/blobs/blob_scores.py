"""Blob scores: agreement of the maps of a method with what is right for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score

from bids_interp.bench.blobs.blob_cohort import BlobTruth
from bids_interp.bench.group_ncc import (
    GroupAgreement,
    bootstrap_interval,
    bootstrap_weights,
    family_mean,
)
from bids_interp.bench.method_maps import LOG_JACOBIAN, SIZE
from bids_interp.bench.truth_scores import RELEVANT, UNTOUCHED
from bids_interp.constants import DIRECTIONS
from bids_interp.evaluation.scores import Estimate, ncc
from bids_interp.evaluation.subtype_scores import subtype_auc, subtype_scores

BOTH = 'both'
#: Standard deviation in mm of the optional smoothing of maps that have only a size.
SMOOTHING_MM = 4.0


@dataclass(frozen=True)
class BlobMaps:
    """Maps of one method for the tested images.

    Parameters
    ----------
    method : str
        Name.
    kind : {'log-jacobian', 'signed', 'size'}
        Meaning of the values, see :mod:`bids_interp.bench.method_maps`.
    values : numpy.ndarray
        (N, X, Y, Z) float32.
    """

    method: str
    kind: str
    values: np.ndarray


@dataclass(frozen=True)
class BlobReference:
    """What the maps are compared with.

    Parameters
    ----------
    truth : BlobTruth
        Truth of the tested images.
    labels : numpy.ndarray
        (N,) 0 controls, 1 patients.
    mask : numpy.ndarray
        (X, Y, Z) bool.
    spacing : numpy.ndarray
        (3,) mm.
    weights : numpy.ndarray
        (1 + draws, N) weight of each image; the first row counts each once.
    """

    truth: BlobTruth
    labels: np.ndarray
    mask: np.ndarray
    spacing: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls,
        truth: BlobTruth,
        labels: np.ndarray,
        mask: np.ndarray,
        spacing: np.ndarray,
        draws: int,
        seed: int,
    ) -> BlobReference:
        """Draw the weights of the bootstrap."""
        return cls(truth, labels, mask, spacing, bootstrap_weights(len(labels), draws, seed))

    def types_of(self, direction: str) -> list[np.ndarray]:
        """Return the indices of the images of each type that go in a direction."""
        own = self.labels == DIRECTIONS.index(direction)
        types = self.truth.types
        return [np.flatnonzero(own & (types == name)) for name in np.unique(types[own])]


def map_scores(found: BlobMaps, reference: BlobReference) -> dict[tuple[str, str], Estimate]:
    """Score the maps of a method.

    Images are grouped by type: a map of all controls of the variant `xor` would mean nothing, since
    a blob must shrink in some of them and grow in others. Where either of two changes is right, the
    one that fits the mean map of a type better is its truth, for every method alike. Maps that have
    only a size are compared with the size of the truth, smoothed or not, whichever is better.

    Parameters
    ----------
    found : BlobMaps
        Maps.
    reference : BlobReference
        Truth.

    Returns
    -------
    dict
        Estimate, with 95 % bootstrap interval over the tested images, by metric and direction:
        ``ncc_group``, ``ncc_single``, ``average_precision`` and ``off_target_percent`` (both
        without interval), ``lookalike_share`` and, if each type of patients has an alternative of
        its own, ``type_auc``.
    """
    scores: dict[tuple[str, str], Estimate] = {}
    drawn: dict[str, list[np.ndarray]] = {}
    for direction in DIRECTIONS:
        parts = [_score_type(found, reference, own) for own in reference.types_of(direction)]
        if reference.truth.truths.shape[1]:
            group = np.mean([part.group for part in parts], axis=0)
            single = _mean_single(parts, reference)
            drawn.setdefault('ncc_group', []).append(group)
            drawn.setdefault('ncc_single', []).append(single)
            scores['ncc_group', direction] = bootstrap_interval(group[0], group[1:])
            scores['ncc_single', direction] = bootstrap_interval(single[0], single[1:])
            precision = float(np.mean([part.precision for part in parts]))
            scores['average_precision', direction] = Estimate(precision, np.nan, np.nan)
        own = np.concatenate(reference.types_of(direction))
        share = family_mean(_lookalike_share(found, reference)[own], own, reference.weights)
        scores['lookalike_share', direction] = bootstrap_interval(share[0], share[1:])
        if found.kind == LOG_JACOBIAN:
            changed = _off_target(found.values[own], reference.truth.truths[own], reference.mask)
            scores['off_target_percent', direction] = Estimate(changed, np.nan, np.nan)
    for metric, sides in drawn.items():
        mean = np.mean(sides, axis=0)
        scores[metric, BOTH] = bootstrap_interval(mean[0], mean[1:])
    if len(reference.types_of('remove')) == reference.truth.truths.shape[1] > 1:
        scores['type_auc', 'remove'] = _type_auc(found, reference)
    return scores


@dataclass(frozen=True)
class _TypeScores:
    """Group NCC (D,), images, NCC of each image, and AUPRC of the mean map of a type."""

    group: np.ndarray
    images: np.ndarray
    single: np.ndarray
    precision: float


def _score_type(found: BlobMaps, reference: BlobReference, own: np.ndarray) -> _TypeScores:
    """Score the images of one type against the alternative that fits their mean map best."""
    candidates = [found.values[own][:, reference.mask]]
    truths = reference.truth.truths[own][:, :, reference.mask]
    if found.kind == SIZE:
        truths = np.abs(truths)
        smoothed = np.stack(
            [
                gaussian_filter(np.abs(one), SMOOTHING_MM / reference.spacing)[reference.mask]
                for one in found.values[own]
            ]
        )
        candidates = [np.abs(candidates[0]), smoothed]
    best = _TypeScores(np.full(len(reference.weights), -np.inf), own, np.empty(0), 0.0)
    everything = np.ones(candidates[0].shape[1], bool)
    for values in candidates:
        for alternative in range(truths.shape[1]):
            wanted = truths[:, alternative]
            agreement = GroupAgreement(values, wanted, own, reference.weights.shape[1])
            group = agreement(reference.weights)
            if group[0] > best.group[0]:
                single = [ncc(*pair, everything) for pair in zip(values, wanted, strict=True)]
                relevant = np.abs(wanted.mean(axis=0)) > RELEVANT
                precision = average_precision_score(relevant, np.abs(values.mean(axis=0)))
                best = _TypeScores(group, own, np.array(single), float(precision))
    return best


def _mean_single(parts: list[_TypeScores], reference: BlobReference) -> np.ndarray:
    """Mean NCC of single images for all weights."""
    images = np.concatenate([part.images for part in parts])
    single = np.concatenate([part.single for part in parts])
    return family_mean(single, images, reference.weights)


def _lookalike_share(found: BlobMaps, reference: BlobReference) -> np.ndarray:
    """Share (N,) of the sum of squares of each map that lies in blobs that never differ."""
    squares = np.square(found.values, dtype=np.float64) * reference.mask
    inside = (squares * reference.truth.lookalikes).sum(axis=(1, 2, 3))
    total = squares.sum(axis=(1, 2, 3))
    return np.divide(inside, total, out=np.full(len(total), np.nan), where=total > 0)


def _off_target(values: np.ndarray, truths: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute volume change in percent of the mean map where nothing changes."""
    changes = np.abs(truths).mean(axis=0).sum(axis=0)
    untouched = mask & (changes < UNTOUCHED)
    change = np.expm1(values.mean(axis=0)[untouched])
    return float(100 * np.abs(change).mean()) if untouched.any() else float('nan')


def _type_auc(found: BlobMaps, reference: BlobReference) -> Estimate:
    """AUC with which the maps of patients name the blob that is small in their own image."""
    groups = reference.types_of('remove')
    patients = np.concatenate(groups)
    own = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    truths = reference.truth.truths[:, :, reference.mask]
    # The small blob of a patient can be restored; the alternatives are in the order of the blobs.
    means = np.stack([truths[group, k].mean(axis=0) for k, group in enumerate(groups)])
    values = found.values[patients][:, reference.mask]
    ratings = subtype_scores(
        *((np.abs(values), np.abs(means)) if found.kind == SIZE else (values, means))
    )
    drawn = subtype_auc(ratings, own, reference.weights[:, patients])
    return bootstrap_interval(drawn[0], drawn[1:])
