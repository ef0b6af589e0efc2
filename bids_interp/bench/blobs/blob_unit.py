"""Blob unit: draw the images of a variant, train, explain and score every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from bids_interp.bench.baselines import contrast_map
from bids_interp.bench.blobs.blob_cohort import BlobCohort, BlobTruth, draw_cohort
from bids_interp.bench.blobs.blob_design import (
    N_FOLDS,
    PAPER,
    RANDOM,
    SIMULATORS,
    STRIDE_MM,
    BlobBenchmark,
    BlobUnit,
)
from bids_interp.bench.blobs.blob_scores import (
    BOTH,
    SMOOTHING_MM,
    BlobMaps,
    BlobReference,
    map_scores,
)
from bids_interp.bench.group_ncc import bootstrap_interval, bootstrap_weights, family_mean
from bids_interp.bench.method_maps import LOG_JACOBIAN, SIGNED, SIZE
from bids_interp.bench.records import EXPLAINED, ImageScores, Score
from bids_interp.bench.simulations import explain_image
from bids_interp.bench.trained_networks import load_networks, scaled_classifier
from bids_interp.constants import DIRECTIONS, SALIENCY_METHODS
from bids_interp.errors import ModelError
from bids_interp.evaluation.scores import Estimate, weighted_auc
from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.saliency.captum_methods import SaliencyUnsupported
from bids_interp.saliency.maps import saliency_values
from bids_interp.spatial import flow, warp
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold, make_folds
from bids_interp.training.fold import FoldResult, FoldWorkspace, train_fold
from bids_interp.training.loop.randomness import derived_seed
from bids_interp.training.recipe import make_recipe

#: Metrics of single simulations whose means are reported.
MEANS = ('crosses', 'effectiveness', 'n_folded', 'reversibility_rmse', 'volume_share')


@dataclass
class UnitResult:
    """Scores of a unit, and what its figure shows.

    Parameters
    ----------
    rows : list of Score
        Scores of all methods.
    notes : dict of str
        Why a method has no map, by method.
    pictures : dict of numpy.ndarray
        (X, Y, Z) by ``<method>.map``, ``<method>.simulated``, ``truth.map`` and ``image``: one
        control into which the pattern is injected.
    """

    rows: list[Score] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self, method: str, metric: str, direction: str, found: Estimate, classifier: str
    ) -> None:
        """Add a row."""
        covers = EXPLAINED if np.isfinite(found.low) else ''
        self.rows.append(
            Score(method, classifier, metric, direction, found.value, found.low, found.high, covers)
        )


@dataclass(frozen=True)
class _Trained:
    """Networks of a method with their data."""

    cohort: Cohort
    result: FoldResult
    classifier: nn.Module
    simulator: nn.Module


def run_unit(
    unit: BlobUnit,
    benchmark: BlobBenchmark,
    directory: Path,
    device: str = 'cpu',
    report: Callable[[str], None] | None = None,
) -> UnitResult:
    """Draw, train, explain and score a unit.

    Parameters
    ----------
    unit : BlobUnit
        What to draw.
    benchmark : BlobBenchmark
        Design.
    directory : pathlib.Path
        Folder of the checkpoints; a killed run continues from them.
    device : str
        Device of the trainings.
    report : callable, optional
        Function that takes a line of text about the progress.
    """
    blobs = draw_cohort(unit.variant, unit.dim, benchmark.n, benchmark.size[unit.dim], unit.seed)
    fold = make_folds(blobs.labels, np.arange(benchmark.n), N_FOLDS, unit.seed)[0]
    images = blobs.first_of_each_type(fold.test, benchmark.explained[unit.dim])
    reference = BlobReference.of(
        _chosen(blobs.truth, images),
        blobs.labels[images],
        blobs.mask,
        blobs.grid.spacing,
        benchmark.draws,
        unit.seed,
    )
    result = UnitResult()
    _add_example(result, blobs, images, reference)
    explains = {PAPER, *SALIENCY_METHODS}
    needed = [
        name
        for name in SIMULATORS
        if name in benchmark.methods or (name == PAPER and explains & {*benchmark.methods})
    ]
    trained = {}
    for method in needed:
        space = FoldWorkspace(directory / method, device, 1, report)
        trained[method] = _train(method, unit, benchmark, blobs, fold, space)
        _add_classifier(result, method, trained[method], fold, benchmark.draws)
    for method in benchmark.methods:
        if method in SIMULATORS:
            found = _simulate(method, trained[method], fold, images, reference, result)
        elif method in SALIENCY_METHODS:
            explained = _explain(method, trained[PAPER], fold, images, unit.seed)
            if isinstance(explained, str):
                result.notes[method] = explained
                continue
            found = explained
        else:
            found = _baseline(method, blobs, fold, len(images), unit.seed)
        classifier = PAPER if method in SALIENCY_METHODS else method if method in trained else ''
        for (metric, direction), estimate in map_scores(found, reference).items():
            result.add(method, metric, direction, estimate, classifier)
        result.pictures[f'{method}.map'] = found.values[_example(reference)]
    return result


def _chosen(truth: BlobTruth, images: np.ndarray) -> BlobTruth:
    """Truth of the explained images."""
    return BlobTruth(truth.truths[images], truth.types[images], truth.lookalikes[images])


def _example(reference: BlobReference) -> int:
    """Index of the explained image that the figure shows: the first control."""
    return int(np.flatnonzero(reference.labels == 0)[0])


def _add_example(
    result: UnitResult, blobs: BlobCohort, images: np.ndarray, reference: BlobReference
) -> None:
    number = _example(reference)
    result.pictures['image'] = blobs.images[images[number], 0].numpy()
    truths = reference.truth.truths[number]
    if len(truths):
        result.pictures['truth.map'] = truths[0]


def _train(
    method: str,
    unit: BlobUnit,
    benchmark: BlobBenchmark,
    blobs: BlobCohort,
    fold: Fold,
    workspace: FoldWorkspace,
) -> _Trained:
    """Train classifier and simulator of a method, or resume."""
    arguments = benchmark.recipe(method, unit.dim)
    recipe = make_recipe(**arguments)
    cohort = blobs.cohort(recipe.preprocessing)
    seed = derived_seed(unit.seed, 'blobs', unit.variant, unit.dim) % 2**31
    result = train_fold(cohort, fold, 0, recipe, workspace, seed=seed)
    classifier, simulator = load_networks(result, arguments, cohort)
    if simulator is None:
        raise ModelError(f'The training of {method} left no simulator.')
    return _Trained(cohort, result, classifier, simulator)


def _add_classifier(
    result: UnitResult, method: str, trained: _Trained, fold: Fold, draws: int
) -> None:
    """Add the area under the curve of the tested images, and why a simulator changes nothing."""
    logits = trained.result.test_outputs[:, 0]
    patients = trained.cohort.labels[fold.test] == 1
    drawn = weighted_auc(logits, patients, bootstrap_weights(len(patients), draws, 0))
    result.add(method, 'auc', BOTH, bootstrap_interval(drawn[0], drawn[1:]), method)
    reason = _why_nothing(trained.result.trained.metrics)
    if reason:
        result.notes[method] = reason


def _why_nothing(metrics: FoldMetrics) -> str:
    """Return why the simulator changes nothing; empty if it changes something."""
    simulator = metrics.simulator
    for gate in (simulator.gates if simulator else None) or ():
        if gate.reason:
            return gate.reason
    for pattern in (simulator.patterns if simulator else None) or ():
        if not pattern.found:
            return 'its classifier does not respond to the measured difference of the classes'
    return ''


def _simulate(
    method: str,
    trained: _Trained,
    fold: Fold,
    images: np.ndarray,
    reference: BlobReference,
    result: UnitResult,
) -> BlobMaps:
    """Simulate images at dose 1, and add the means of their metrics."""
    cohort = trained.cohort
    own = scaled_classifier(trained.classifier, cohort, fold, trained.result)
    nothing = np.zeros(cohort.grid.shape, np.float32)
    maps, rows = [], []
    for image in images:
        label = int(cohort.labels[image])
        log_j, row = explain_image(
            trained.simulator, own, None, None, int(image), label, nothing, cohort.grid, cohort.mask
        )
        maps.append(log_j)
        rows.append(row)
    _add_means(method, rows, reference, result)
    number = _example(reference)
    result.pictures[f'{method}.simulated'] = _injected(trained, int(images[number]))
    return BlobMaps(method, LOG_JACOBIAN, np.stack(maps).astype(np.float32))


def _add_means(
    method: str, rows: list[ImageScores], reference: BlobReference, result: UnitResult
) -> None:
    for metric in MEANS:
        values = np.array([getattr(row, metric) for row in rows])
        for direction in (*DIRECTIONS, BOTH):
            chosen = np.array([direction in (BOTH, row.direction) for row in rows])
            drawn = family_mean(values[chosen], np.flatnonzero(chosen), reference.weights)
            result.add(method, metric, direction, bootstrap_interval(drawn[0], drawn[1:]), method)


@torch.no_grad()
def _injected(trained: _Trained, index: int) -> np.ndarray:
    """Image (X, Y, Z) with the pattern injected, with the intensities of the classifier's input."""
    grid = trained.cohort.grid
    image = trained.cohort.images[index : index + 1]
    field = trained.simulator(image, torch.ones(1), 0)
    _, backward = flow(field, grid, str(trained.simulator.field))
    return warp(image, backward, grid)[0, 0].numpy()


def _explain(
    method: str, trained: _Trained, fold: Fold, images: np.ndarray, seed: int
) -> BlobMaps | str:
    """Return saliency maps of images, or why the method does not apply."""
    cohort = trained.cohort
    controls = fold.train[cohort.labels[fold.train] == 0]
    try:
        values = saliency_values(
            method,
            trained.classifier,
            cohort.images[images],
            cohort.grid,
            cohort.mask,
            cohort.images[controls].mean(dim=0, keepdim=True),
            seed,
            stride_mm=STRIDE_MM,
        )
    except SaliencyUnsupported as error:
        return error.message
    maps = np.zeros((len(values), *cohort.grid.shape), np.float32)
    maps[:, cohort.mask] = values
    return BlobMaps(method, SIZE, maps)


def _baseline(method: str, blobs: BlobCohort, fold: Fold, count: int, seed: int) -> BlobMaps:
    """Return the difference of the class means, or noise."""
    shape = blobs.grid.shape
    if method == RANDOM:
        rng = np.random.default_rng(derived_seed(seed, RANDOM))
        sigma = SMOOTHING_MM / blobs.grid.spacing
        noise = [gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(count)]
        return BlobMaps(method, SIGNED, np.stack(noise).astype(np.float32))
    known = np.concatenate([fold.train, fold.validation])
    images = blobs.images[known, 0].numpy()
    flat = contrast_map(images.reshape(len(known), -1), blobs.labels[known])
    return BlobMaps(method, SIZE, np.repeat(flat.reshape(1, *shape), count, 0).astype(np.float32))
