"""Covariance benchmark: NCC of maps from one image per person, by the number of people.

    python benchmarks/bench_covariance.py WORK [--scenarios S1 S3 S4] [--numbers 72 200 800 3200]

WORK is a work directory of ``bids_interp_tools bench truth``, whose prepared brains are used. The
known-truth benchmark makes many images of each brain, so that the differences between brains cancel
between patients and controls. In a study there is one image per person, and they do not. This
script plants a scenario, measures the volumes of its images by our registration, and makes up
cohorts of people with

* differences between people: random combinations of the differences between the real brains, so
  that their covariance is the real one;
* the differences of one random image from the mean of its brain and class: other anatomy and the
  errors of the registration;
* in patients, the measured effect of the change times a severity of 0.7 to 1.3.

Each row is the NCC of a map with the exact truth, mean and standard deviation over repetitions.
``--estimator NAME=MODULE:FUNCTION`` adds a map: ``FUNCTION(volumes, labels, families, mask)``
returns (V,) values of the brain from volumes (N, V) float32, labels and families (N,), and the
brain mask (X, Y, Z).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_interp.anatomical.templates import brain_template
from bids_interp.bench.baselines import contrast_map, registered_volumes
from bids_interp.bench.planted_cohort import fit_scenario, plant_cohort
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.evaluation.scores import ncc
from bids_interp.interfaces.bench import read_brains
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.inject.scenarios import scenario
from bids_interp.spatial import Grid
from bids_interp.training.cohort.storage import load_input_space

Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Measured(NamedTuple):
    """What the images of a scenario say about people, inside the brain."""

    #: (B, V) differences of brains from their mean.
    brains: np.ndarray
    #: (M, V) differences of images from the mean of their brain and class.
    images: np.ndarray
    #: (V,) measured difference of patients and controls of the same brain.
    effect: np.ndarray
    #: (V,) exact mean log-Jacobian of the change.
    truth: np.ndarray


def t_map(
    volumes: np.ndarray, labels: np.ndarray, families: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return Welch's t of patients against controls."""
    return contrast_map(volumes, labels, studentised=True)


def difference(
    volumes: np.ndarray, labels: np.ndarray, families: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return the mean of patients minus that of controls."""
    return contrast_map(volumes, labels)


ESTIMATORS: dict[str, Estimator] = {'t-map': t_map, 'difference': difference}


def read_estimator(text: str) -> tuple[str, Estimator]:
    """Read ``NAME=MODULE:FUNCTION``."""
    name, _, place = text.partition('=')
    module, _, function = place.partition(':')
    return name, getattr(import_module(module), function)


def split_volumes(
    volumes: np.ndarray, labels: np.ndarray, families: np.ndarray, truth: np.ndarray
) -> Measured:
    """Split measured volumes (N, V) into brains, images and the effect."""
    names = np.unique(families)
    means = np.stack(
        [
            [volumes[(families == name) & (labels == label)].mean(axis=0) for label in (0, 1)]
            for name in names
        ]
    )
    places = np.searchsorted(names, families)
    return Measured(
        means[:, 0] - means[:, 0].mean(axis=0),
        volumes - means[places, labels],
        (means[:, 1] - means[:, 0]).mean(axis=0),
        truth,
    )


def draw_people(
    measured: Measured, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the volumes (count, V) float32 of people, and their labels: every other is a patient."""
    labels = np.arange(count) % 2
    combinations = rng.standard_normal((count, len(measured.brains)))
    # The differences from a mean have one degree of freedom less.
    combinations /= np.sqrt(len(measured.brains) - 1)
    volumes = (combinations @ measured.brains).astype(np.float32)
    volumes += measured.images[rng.integers(len(measured.images), size=count)]
    severity = rng.uniform(0.7, 1.3, count) * labels
    volumes += severity[:, None].astype(np.float32) * measured.effect.astype(np.float32)
    return volumes, labels


def measure(work: Path, name: str, replicates: int) -> tuple[Measured, np.ndarray]:
    """Plant a scenario into the prepared brains of a work directory and measure its images."""
    (context,) = work.glob('bench-context-*.safetensors')
    table = max(work.glob('bench-*/brains.json'), key=lambda path: path.stat().st_mtime)
    grid, mask, preprocessing = load_input_space(context)
    chosen = scenario(name)
    template = Grid.from_image(brain_template(EMBEDDED_TEMPLATE), EMBEDDED_TEMPLATE)
    changes = fit_scenario(chosen, template, float(grid.spacing.min()))
    planted = plant_cohort(
        read_brains(table),
        chosen,
        changes,
        grid,
        mask,
        Preprocessing(**preprocessing.to_dict()),
        replicates=replicates,
        anatomy_mm=1.0,
    )
    cohort = planted.cohort
    controls = cohort.images[cohort.labels == 0]
    volumes = registered_volumes(cohort.images, controls, grid)[:, mask]
    # The truth of a control is the change itself, at severity 1.
    truth = planted.truths[cohort.labels == 0][:, mask].mean(axis=0)
    return split_volumes(volumes, cohort.labels, cohort.families, truth), mask


def main() -> int:
    """Print a table for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work', type=Path, help='work directory of the known-truth benchmark')
    parser.add_argument('--scenarios', nargs='+', default=['S1', 'S3', 'S4'])
    parser.add_argument('--numbers', nargs='+', type=int, default=[72, 200, 800, 3200])
    parser.add_argument('--replicates', type=int, default=8, help='images per brain')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--estimator', action='append', default=[], type=read_estimator)
    options = parser.parse_args()
    estimators = {**ESTIMATORS, **dict(options.estimator)}
    print('| scenario | map | ' + ' | '.join(f'n = {n}' for n in options.numbers) + ' |')
    print('|---|---|' + '---|' * len(options.numbers))
    for name in options.scenarios:
        measured, mask = measure(options.work, name, options.replicates)
        everywhere = np.ones(len(measured.truth), bool)
        found: dict[tuple[str, int], list[float]] = {}
        spent = dict.fromkeys(estimators, 0.0)
        for number in options.numbers:
            for repetition in range(options.repetitions):
                rng = np.random.default_rng([repetition, number])
                volumes, labels = draw_people(measured, number, rng)
                for label, estimate in estimators.items():
                    started = time.monotonic()
                    values = estimate(volumes, labels, np.arange(number), mask)
                    spent[label] += time.monotonic() - started
                    score = ncc(values, measured.truth, everywhere)
                    found.setdefault((label, number), []).append(score)
        limit = ncc(measured.effect, measured.truth, everywhere)
        for label in estimators:
            cells = [
                f'{np.mean(found[label, n]):.2f} ± {np.std(found[label, n]):.2f}'
                for n in options.numbers
            ]
            print(f'| {name} | {label} ({spent[label]:.0f} s) | {" | ".join(cells)} |')
        print(f'| {name} | measured effect | {" | ".join([f"{limit:.2f}"] * len(cells))} |')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
