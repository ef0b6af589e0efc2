"""Fit of a pattern simulator to the measured volumes of a fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bids_interp.constants import COMMON_SHARE
from bids_interp.evaluation.scores import ncc
from bids_interp.models.bundle.fold_metrics import PatternMetrics
from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.models.networks.pattern_simulator import REGISTRATION, PatternSimulator
from bids_interp.models.networks.registry import joined
from bids_interp.spatial import Grid, VolumeFlow, divergence, smooth
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.dose import balanced_subset, scale_to_dose
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.pattern.consent import Consent, ask_consent, velocity_gradient
from bids_interp.training.pattern.contrast import ContrastDesign, contrast_volumes
from bids_interp.training.pattern.mixture import Mixture, Subtypes, find_subtypes
from bids_interp.training.pattern.pieces import divide_pattern
from bids_interp.training.pattern.response import Response, measure_response
from bids_interp.training.pattern.shrinkage import shrink_effects
from bids_interp.training.simulator import Opponent

#: Held-out images whose score is asked for consent.
ASKED_IMAGES = 16
#: Share of the diagonal in the covariance of controls.
DIAGONAL = 0.2
BATCH = 8
#: Standard deviation of the Gaussian that smooths the weights.
WEIGHTS_MM = 4.0


@dataclass(frozen=True)
class PatternRecipe:
    """Settings of the fit of a pattern.

    Parameters
    ----------
    smoothing_mm : float
        Standard deviation of the Gaussian that smooths the volume maps.
    capacity : str
        Always ``'pattern'``.
    """

    smoothing_mm: float = 3.0
    capacity: str = 'pattern'

    def network_arguments(self) -> dict[str, Any]:
        """Return the arguments of the simulator as stored in the bundle."""
        return {'capacity': self.capacity}


@dataclass(frozen=True)
class Measurement:
    """Volumes of the images of a fold but for the test split, measured without labels.

    Parameters
    ----------
    volumes : VolumeMeasure
        Registration to the mean image of the training split.
    images : numpy.ndarray
        (N,) indices in the cohort.
    maps : numpy.ndarray
        (N, V) float32 smoothed log volumes inside the brain.
    response : Response
        Response of the volumes to known changes.
    """

    volumes: VolumeMeasure
    images: np.ndarray
    maps: np.ndarray
    response: Response


@dataclass(frozen=True)
class PatternFit:
    """Pattern of one contrast.

    Parameters
    ----------
    patterns : numpy.ndarray
        (K, X, Y, Z) log-Jacobian of each subtype; zero without the classifier's consent.
    consent : Consent
        Response of the classifier to the common pattern.
    subtypes : Subtypes, optional
        Mixture of the patients, if the classifier consents.
    readout : numpy.ndarray
        (K, X, Y, Z) weights of the smoothed volumes in the score of each subtype.
    offset : numpy.ndarray
        (K,) score of the mean control.
    personal_share : float
        Root mean square deviation of the patients' amounts from their mean, relative to the root
        mean square amount.
    weights : numpy.ndarray
        (X, Y, Z) map of what moves the classifier most, see :func:`weights_map`.
    """

    patterns: np.ndarray
    consent: Consent
    subtypes: Subtypes | None
    readout: np.ndarray
    offset: np.ndarray
    personal_share: float
    weights: np.ndarray

    @property
    def is_personal(self) -> bool:
        """True if what is removed differs enough between people to be called personal."""
        return self.personal_share >= COMMON_SHARE


def measure_cohort(
    cohort: Cohort, fold: Fold, recipe: PatternRecipe, seed: int, device: str = 'cpu'
) -> Measurement:
    """Measure the volumes of the training and validation images of a fold."""
    images, brains = np.concatenate([fold.train, fold.validation]), cohort.brains
    volumes = VolumeMeasure(cohort.grid.shape, REGISTRATION).eval()
    volumes.mean.copy_(brains[fold.train].mean(dim=0, keepdim=True))
    volumes.to(device)
    maps = []
    with torch.no_grad():
        for part in brains[images].split(BATCH):
            found = volumes.log_jacobian(part.to(device))
            smoothed = smooth(found, recipe.smoothing_mm, cohort.grid)[:, 0]
            maps.append(smoothed.cpu().numpy()[:, cohort.mask])
    response = measure_response(volumes, brains[fold.train], cohort.grid, cohort.mask, seed, device)
    return Measurement(volumes.cpu(), images, np.concatenate(maps), response)


def fit_pattern(
    cohort: Cohort,
    fold: Fold,
    measured: Measurement,
    classifier: nn.Module,
    number: int,
    gap: float,
    seed: int,
) -> PatternFit:
    """Estimate the pattern of a contrast, keep what the classifier uses, and find its subtypes.

    Parameters
    ----------
    cohort, fold
        Cohort and fold; the test split is not used.
    measured : Measurement
        Result of :func:`measure_cohort`.
    classifier : torch.nn.Module
        Classifier in evaluation mode.
    number : int
        Index of the contrast.
    gap : float
        Class gap of the classifier.
    seed : int
        Random seed.
    """
    inside = cohort.mask
    contrast = cohort.target.contrasts[number]
    values, rows = _regressor(cohort, measured.images, number)
    images = measured.images[rows]
    volumes = measured.maps if len(rows) == len(measured.maps) else measured.maps[rows]
    design = _design(cohort, images, values)
    common = _shrunk(volumes, design, inside, derived_seed(seed, 'contrast'))
    pieces = divide_pattern(common, cohort.grid)
    asked = balanced_subset(cohort, np.intersect1d(fold.validation, images), ASKED_IMAGES)
    gradient = velocity_gradient(classifier, cohort.images[asked], contrast, cohort.grid)
    weights_of_score = weights_map(gradient, cohort.grid, gap)
    consent = ask_consent(gradient, common, pieces, cohort.grid, inside)
    kept = np.isin(pieces, 1 + np.flatnonzero(consent.kept))
    common = np.where(kept, common, 0)
    if not kept.any() or cohort.target.kind == 'regression':
        return PatternFit(
            common[None], consent, None, 0 * common[None], np.zeros(1), 0.0, weights_of_score
        )
    windows = _windows(common, pieces, inside)
    amounts = volumes @ windows.T
    points, unmix, centre = _standardised(amounts, values)
    patients = values == 1
    subtypes = find_subtypes(points[patients], cohort.families[images][patients], seed % 2**31)
    patterns = common[None]
    if len(subtypes.mixture.shares) > 1:
        patterns = _subtype_patterns(volumes, design, subtypes, points, inside, kept, seed)
    weights = subtypes.mixture.centres @ unmix
    readout = np.zeros((len(weights), *inside.shape), np.float32)
    readout[:, inside] = weights @ windows
    share = _personal_share(subtypes.mixture, points[patients])
    return PatternFit(
        patterns, consent, subtypes, readout, weights @ centre, share, weights_of_score
    )


def _regressor(cohort: Cohort, images: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the regressor of a contrast, and the rows of the images that belong to it."""
    target = cohort.target
    if target.kind == 'regression':
        return cohort.standardised()[images], np.arange(len(images))
    contrast, labels = target.contrasts[number], cohort.labels[images]
    negative, positive = (
        target.classes.index(name) for name in (contrast.negative, contrast.positive)
    )
    rows = np.flatnonzero((labels == negative) | (labels == positive))
    return (labels[rows] == positive).astype(float), rows


def _design(cohort: Cohort, images: np.ndarray, values: np.ndarray) -> ContrastDesign:
    covariates = np.zeros((len(images), 0))
    if cohort.covariates is not None:
        covariates = cohort.covariates[images]
    return ContrastDesign(values, cohort.families[images], cohort.participants[images], covariates)


def _shrunk(
    volumes: np.ndarray, design: ContrastDesign, inside: np.ndarray, seed: int
) -> np.ndarray:
    """Return the posterior mean (X, Y, Z) of a contrast of volumes (N, V) inside the brain."""
    found = contrast_volumes(volumes, design, seed)
    pattern = np.zeros(inside.shape, np.float32)
    pattern[inside] = shrink_effects(found.effects, found.errors)
    return pattern


def _windows(pattern: np.ndarray, pieces: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return weights (P, V) whose product with a change is its amount of each piece."""
    rows = []
    for number in np.unique(pieces[pattern != 0]):
        own = np.where(pieces == number, pattern, 0)[inside]
        rows.append(own / np.square(own).sum())
    return np.stack(rows).astype(np.float32)


def _standardised(
    amounts: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points (N, P) with unit covariance of controls, the transformation and centre."""
    controls = amounts[values == 0]
    centre = controls.mean(axis=0)
    covariance = np.atleast_2d(np.cov(controls.T))
    covariance = (1 - DIAGONAL) * covariance + DIAGONAL * np.diag(np.diag(covariance))
    unmix = np.linalg.inv(np.linalg.cholesky(covariance))
    return (amounts - centre) @ unmix.T, unmix, centre


def _personal_share(mixture: Mixture, points: np.ndarray) -> float:
    """Return the share of the amounts (N, K) of patients that differs between them."""
    amounts = mixture.memberships(points) * mixture.amounts(points)
    deviations = amounts - amounts.mean(axis=0)
    return float(np.sqrt(np.square(deviations).sum() / max(np.square(amounts).sum(), 1e-12)))


def _set_mixture(
    simulator: PatternSimulator, number: int, fit: PatternFit, recipe: PatternRecipe, grid: Grid
) -> None:
    """Copy the mixture of a contrast; a contrast without one injects its only pattern."""
    mixture = simulator.mixture.data[:, number]
    if fit.subtypes is None:
        mixture[3, 0] = 1
        return
    found = fit.subtypes.mixture
    own = len(found.shares)
    rows = np.stack([fit.offset, found.sizes, found.spreads, found.shares])
    mixture[:, :own] = torch.from_numpy(rows).float()
    # The Gaussian is symmetric, so smoothing the weights equals smoothing the volumes.
    readout = smooth(torch.from_numpy(fit.readout)[:, None], recipe.smoothing_mm, grid)
    simulator.readout.data[number, :own] = readout[:, 0]


def _subtype_patterns(
    volumes: np.ndarray,
    design: ContrastDesign,
    subtypes: Subtypes,
    points: np.ndarray,
    inside: np.ndarray,
    kept: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return the pattern (K, X, Y, Z) of each subtype, from its memberships."""
    shares = subtypes.mixture.memberships(points) * (design.values == 1)[:, None]
    found = []
    for own in range(shares.shape[1]):
        others = np.column_stack([design.covariates, np.delete(shares, own, axis=1)])
        model = replace(design, values=shares[:, own], covariates=others)
        pattern = _shrunk(volumes, model, inside, derived_seed(seed, 'subtype', own))
        found.append(np.where(kept, pattern, 0))
    return np.stack(found)


def weights_map(gradient: np.ndarray, grid: Grid, gap: float) -> np.ndarray:
    """Return the volume change (X, Y, Z) by which a smooth velocity moves a score most.

    Parameters
    ----------
    gradient : numpy.ndarray
        (3, X, Y, Z) gradient of the score along a velocity.
    grid : Grid
        Its grid.
    gap : float
        Change of the score, to first order.

    Returns
    -------
    numpy.ndarray
        float32 log-Jacobian to first order, positive for local expansion; zero if nothing moves the
        score.
    """
    slope = torch.from_numpy(gradient)[None]
    velocity = smooth(slope, WEIGHTS_MM, grid)
    reached = float((slope * velocity).sum())
    return (gap / reached if reached else 0.0) * divergence(velocity, grid)[0, 0].numpy()


class FittedSimulator(NamedTuple):
    """Simulator of all contrasts, with their measurements and the weights of the first one."""

    simulator: PatternSimulator
    metrics: list[PatternMetrics]
    weights: np.ndarray


def fit_pattern_simulator(
    cohort: Cohort,
    fold: Fold,
    opponent: Opponent,
    recipe: PatternRecipe,
    *,
    seed: int,
    device: str = 'cpu',
    measured: Measurement | None = None,
) -> FittedSimulator:
    """Fit the patterns of all contrasts, and scale them so that dose 1 is the class gap.

    Parameters
    ----------
    cohort, fold
        Cohort and fold; the test split is not used.
    opponent : Opponent
        Frozen classifiers and their class gaps.
    recipe : PatternRecipe
        Settings.
    seed : int
        Random seed.
    device : str
        Device of the networks.
    measured : Measurement, optional
        Result of :func:`measure_cohort` for the same images and fold.
    """
    found = measured or measure_cohort(cohort, fold, recipe, seed, device)
    network = joined([member.to(device) for member in opponent.members])
    fits = [
        fit_pattern(
            cohort,
            fold,
            found,
            network,
            number,
            float(np.mean([gaps[number] for gaps in opponent.gaps])),
            derived_seed(seed, number),
        )
        for number in range(len(cohort.target.contrasts))
    ]
    simulator = build_pattern_simulator(cohort, found, fits, recipe)
    scale_to_dose(simulator, opponent, cohort, fold.validation, device)
    metrics = [
        _metrics(cohort, number, fit, found.response.gain, float(simulator.gain[number]))
        for number, fit in enumerate(fits)
    ]
    return FittedSimulator(simulator, metrics, fits[0].weights)


def _metrics(
    cohort: Cohort, number: int, fit: PatternFit, response: float, gain: float
) -> PatternMetrics:
    subtypes = fit.subtypes
    return PatternMetrics(
        contrast=cohort.target.contrasts[number].name,
        consent=fit.consent.score,
        pieces=len(fit.consent.scores),
        kept=int(fit.consent.kept.sum()),
        subtypes=len(fit.patterns) if fit.consent.kept.any() else 0,
        held_out_gains=[] if subtypes is None else list(subtypes.gains),
        stability=1.0 if subtypes is None else subtypes.stability,
        shares=[1.0] if subtypes is None else subtypes.mixture.shares.tolist(),
        personal_share=fit.personal_share,
        weights_ncc=ncc(fit.patterns.mean(axis=0), fit.weights, cohort.mask),
        response=response,
        measured_dose=1 / gain,
    )


def build_pattern_simulator(
    cohort: Cohort, measured: Measurement, fits: list[PatternFit], recipe: PatternRecipe
) -> PatternSimulator:
    """Return the simulator of the fitted patterns, with a source for each.

    The readouts are moved to the half resolution at which the simulator measures volumes.
    """
    grid, inside = cohort.grid, cohort.mask
    flow = VolumeFlow(grid, inside)
    count = max(len(fit.patterns) for fit in fits)
    personal = any(fit.is_personal for fit in fits)
    simulator = PatternSimulator(grid, inside, len(fits), count, personal)
    for number, fit in enumerate(fits):
        for own, pattern in enumerate(fit.patterns):
            # The registration shows only a part of each change.
            source = flow.fit_source(pattern / measured.response.gain)
            simulator.source.data[number, own] = torch.from_numpy(source)
        if personal:
            _set_mixture(simulator, number, fit, recipe, cohort.grid)
    if personal and simulator.volumes is not None:
        simulator.volumes.load_state_dict(measured.volumes.state_dict())
    simulator.update()
    return simulator
