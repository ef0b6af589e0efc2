"""Published training on a GPU: time, memory and agreement with the truth against iterations.

    python benchmarks/gpu_paper.py OUT [--device cuda] [--minutes 7] [--planted DIR] [--try]

Trains the published classifier on three-dimensional blobs of 64 x 64 x 64 voxels (1000 steps), then
as many published iterations as fit into the time, and scores the map of the tested images after 25,
50, 100, 200, 400 and 950. With ``--planted``, the folder of a node that plants a scenario
(``paper_cohort``, ``folds`` and ``ground_truth`` of ``bench truth``), the same for the first fold
of its images. ``--try`` takes tiny images and few steps, to test the script on a CPU. Prints a
table; OUT keeps the checkpoints, so that the same command continues.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measure import machine

from bids_interp.bench.blobs.blob_cohort import draw_cohort
from bids_interp.bench.blobs.blob_design import N_FOLDS
from bids_interp.bench.planted_cohort import load_ground_truth
from bids_interp.constants import DIRECTIONS
from bids_interp.evaluation.scores import auc, ncc
from bids_interp.evaluation.validity import mean_log_jacobian
from bids_interp.models.networks.ipmi2021 import PaperSimulator
from bids_interp.training.classifier import predict_outputs
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold, make_folds
from bids_interp.training.cohort.storage import load_cohort, load_folds
from bids_interp.training.fold import FoldRun, FoldWorkspace, train_classifier
from bids_interp.training.ipmi2021 import PaperSimulatorTask
from bids_interp.training.ipmi2021_gate import recognised_images
from bids_interp.training.loop.engine import run_task
from bids_interp.training.recipe import PRESETS

ITERATIONS = (25, 50, 100, 200, 400, 950)
SEED = 0


class Experiment(NamedTuple):
    """Images with a fold and the truths (N, X, Y, Z) of all images."""

    name: str
    cohort: Cohort
    fold: Fold
    truths: np.ndarray


def main() -> None:
    """Train and print the table of each experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='folder of the checkpoints')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--minutes', type=float, default=7.0, help='for each experiment')
    parser.add_argument('--planted', type=Path, help='folder of a node that plants a scenario')
    parser.add_argument('--try', action='store_true', dest='is_tiny', help='tiny, on a CPU')
    options = parser.parse_args()
    print(machine())
    if options.device.startswith('cuda'):
        print(torch.cuda.get_device_name(options.device))
    experiments = [blobs(32, 32) if options.is_tiny else blobs(400, 64)]
    if options.planted is not None:
        experiments.append(planted(options.planted))
    for one in experiments:
        measure(one, options.out / one.name, options.device, options.minutes, options.is_tiny)


def blobs(count: int, size: int) -> Experiment:
    """Draw blobs in three dimensions."""
    drawn = draw_cohort('plain', 3, count, size, SEED)
    cohort = drawn.cohort(PRESETS['ipmi2021'].preprocessing)
    fold = make_folds(cohort.labels, cohort.families, N_FOLDS, SEED)[0]
    return Experiment('blobs', cohort, fold, drawn.truth.truths[:, 0])


def planted(folder: Path) -> Experiment:
    """Load a scenario that was planted into brains."""
    (truths,) = load_ground_truth(folder / 'ground_truth.safetensors', 'truths')
    cohort = load_cohort(folder / 'paper_cohort.safetensors')
    return Experiment('brains', cohort, load_folds(folder / 'folds.safetensors')[0], truths)


def measure(one: Experiment, folder: Path, device: str, minutes: float, is_tiny: bool) -> None:
    """Train the networks of an experiment, and print a row after some iterations."""
    cohort, fold, started = one.cohort, one.fold, time.monotonic()
    preset = PRESETS['ipmi2021']
    recipe, published = preset.classifier, preset.simulator
    if is_tiny:
        recipe = replace(recipe, steps=20, batch=8, validate_every=10)
        published = replace(published, batch=2)
    run = FoldRun(cohort, fold, 0, FoldWorkspace(folder, device), SEED, one.name)
    classifier = train_classifier(run, recipe, folder / 'classifier', SEED).network
    area = auc(
        predict_outputs(classifier, cohort.images[fold.test])[:, 0], cohort.labels[fold.test]
    )
    took = time.monotonic() - started
    size = f'{len(cohort)} images of {cohort.grid.shape}'
    print(f'\n{one.name}: {size}; classifier: AUC {area:.3f}, {took:.0f} s')
    outputs = predict_outputs(classifier, cohort.images[fold.train])
    sides = recognised_images(cohort, fold.train, outputs, 0)
    print('\n| iterations | NCC, inject | NCC, remove | s an iteration | memory, GB |')
    print('|---|---|---|---|---|')
    done, begun = 0, time.monotonic()
    for count in (1, 2) if is_tiny else ITERATIONS:
        spent = time.monotonic() - begun
        if done and time.monotonic() - started + spent / done * (count - done) > 60 * minutes:
            break
        torch.manual_seed(SEED)
        simulator = PaperSimulator(cohort.grid, cohort.mask)
        task = PaperSimulatorTask(
            cohort, sides, classifier, simulator, replace(published, steps=count), SEED
        )
        # The steps of fewer iterations are the first of more, so the checkpoint is continued.
        since = time.monotonic()
        run_task(task, folder / 'simulator', device=device)
        seconds = (time.monotonic() - since) / (count - done)
        scores = ' | '.join(f'{value:.3f}' for value in agreement(one, simulator.cpu().eval()))
        print(f'| {count} | {scores} | {seconds:.2f} | {memory_gb(device):.1f} |', flush=True)
        done = count


@torch.no_grad()
def agreement(one: Experiment, simulator: PaperSimulator) -> Iterator[float]:
    """Yield the NCC of the mean map of the tested images with their mean truth, by direction."""
    cohort, test = one.cohort, one.fold.test
    for side, _ in enumerate(DIRECTIONS):
        own = test[cohort.labels[test] == side]
        found = mean_log_jacobian(simulator, cohort.images[own], 1.0 - 2 * side, 0, cohort.grid)
        yield ncc(found, one.truths[own].mean(axis=0), cohort.mask)


def memory_gb(device: str) -> float:
    """Return the largest memory of the GPU so far; NaN on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device != 'cpu' else float('nan')


if __name__ == '__main__':
    main()
