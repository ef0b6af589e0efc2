"""Truth scores: agreement of a map with the known truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from bids_interp.evaluation.scores import ncc, sign_accuracy
from bids_interp.models.networks.simulator import Simulator
from bids_interp.spatial import (
    exponential,
    gradient_velocity,
    log_jacobian,
    resample,
    smooth,
)

#: Smallest |truth| of voxels that must be found with the correct sign.
RELEVANT = 0.02
#: Largest |truth| of voxels that must not change.
UNTOUCHED = 0.005
#: Standard deviation in mm of the optional smoothing of saliency maps.
SALIENCY_SMOOTHING_MM = 6.0


@dataclass(frozen=True)
class MapScores:
    """Agreement of a map with the truth inside the brain.

    Parameters
    ----------
    ncc : float
        Normalised cross-correlation.
    sign_accuracy : float
        Share of the voxels with ``|truth| > 0.02`` with the correct sign; NaN for unsigned maps.
    average_precision : float
        Area under the precision-recall curve of ``|map|`` for ``|truth| > 0.02``.
    iou : float
        Intersection over union of these voxels and as many with the largest ``|map|``.
    off_target_percent : float
        Mean absolute volume change in percent where ``|truth| < 0.005``; NaN for unsigned maps.
    """

    ncc: float
    sign_accuracy: float
    average_precision: float
    iou: float
    off_target_percent: float

    def to_dict(self) -> dict[str, float]:
        """Return plain types."""
        return asdict(self)


def score_map(
    estimate: np.ndarray, truth: np.ndarray, mask: np.ndarray, *, signed: bool = True
) -> MapScores:
    """Score one map.

    Parameters
    ----------
    estimate, truth : numpy.ndarray
        (X, Y, Z).
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.
    signed : bool
        True for log-Jacobians; otherwise ``|map|`` is compared with ``|truth|``.

    Examples
    --------
    >>> truth = np.array([[[0.5, -0.5, 0.0, 0.0]]])
    >>> scores = score_map(0.5 * truth, truth, np.ones_like(truth, bool))
    >>> round(scores.ncc, 6), scores.sign_accuracy, scores.iou, scores.off_target_percent
    (1.0, 1.0, 1.0, 0.0)
    """
    found, wanted = (estimate, truth) if signed else (np.abs(estimate), np.abs(truth))
    relevant = np.abs(truth[mask]) > RELEVANT
    strength = np.abs(estimate[mask])
    untouched = mask & (np.abs(truth) < UNTOUCHED)
    has_both = relevant.any() and not relevant.all()
    return MapScores(
        ncc(found, wanted, mask),
        sign_accuracy(estimate, truth, mask, RELEVANT) if signed else float('nan'),
        float(average_precision_score(relevant, strength)) if has_both else float('nan'),
        _iou(strength, relevant),
        float(np.abs(100 * np.expm1(estimate[untouched])).mean())
        if signed and untouched.any()
        else float('nan'),
    )


def _iou(strength: np.ndarray, relevant: np.ndarray) -> float:
    """Intersection over union of the relevant voxels and as many of the strongest."""
    count = int(relevant.sum())
    if count == 0:
        return float('nan')
    top = np.zeros(len(strength), bool)
    top[np.argsort(strength, kind='stable')[-count:]] = True
    return float((top & relevant).sum() / (top | relevant).sum())


def volume_change_error(estimate: np.ndarray, truth: np.ndarray, region: np.ndarray) -> float:
    """Return the error of the volume change of a region, in percent of the true change.

    Parameters
    ----------
    estimate, truth : numpy.ndarray
        (X, Y, Z) log-Jacobians.
    region : numpy.ndarray
        (X, Y, Z) weights or bool.

    Examples
    --------
    >>> truth = np.log(np.full((1, 1, 2), 0.8))
    >>> round(volume_change_error(np.log(np.full((1, 1, 2), 0.9)), truth, np.ones((1, 1, 2))), 6)
    50.0
    """
    weights = region / region.sum()
    found, wanted = (
        float((np.expm1(np.asarray(m, np.float64)) * weights).sum()) for m in (estimate, truth)
    )
    return 100 * abs(found - wanted) / abs(wanted)


def displacement_ncc(displacement: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Return the NCC of two displacements over all components inside the brain.

    Parameters
    ----------
    displacement, truth : numpy.ndarray
        (3, X, Y, Z) mm, movements of tissue.
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.

    Examples
    --------
    >>> truth = np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2)), np.zeros((2, 2, 2))])
    >>> turned = truth[[1, 0, 2]]
    >>> brain = np.ones((2, 2, 2), bool)
    >>> round(displacement_ncc(3 * truth, truth, brain), 6)
    1.0
    >>> round(displacement_ncc(turned, truth, brain), 6)
    -0.5
    """
    return ncc(displacement, truth, np.broadcast_to(mask, truth.shape))


def motion_outside(displacement: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean length in mm of a displacement where the truth does not change volumes.

    Parameters
    ----------
    displacement : numpy.ndarray
        (3, X, Y, Z) mm.
    truth : numpy.ndarray
        (X, Y, Z) exact log-Jacobian; outside means ``|truth| < 0.005``.
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.
    """
    outside = mask & (np.abs(truth) < UNTOUCHED)
    lengths = np.linalg.norm(displacement, axis=0)[outside]
    return float(lengths.mean()) if outside.any() else float('nan')


def basis_ceiling(truth: np.ndarray, mask: np.ndarray, simulator: Simulator) -> float:
    """Return the NCC of the truth with its projection on the velocity basis of a simulator.

    The velocity with the divergence of the truth is resampled to the lattice, smoothed and
    integrated as in the simulator. Training cannot exceed the resulting NCC.
    """
    grid, lattice = simulator.grid, simulator.lattice
    velocity = torch.from_numpy(gradient_velocity(truth.astype(np.float32), grid))[None]
    coefficients = smooth(
        resample(velocity, grid, lattice, antialias=True), simulator.smoothing_mm, lattice
    )
    with torch.no_grad():
        again = simulator.evaluate_spline(coefficients)
        projected = log_jacobian(exponential(again, grid), grid)[0, 0].numpy()
    return ncc(projected, truth, mask)
