"""Planted cohort: images with a known change on the grid of a model, made from real brains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.phantom.change.atrophy import AtrophyField, fit_atrophy
from bids_interp.phantom.inject.assignment import Replicate, assign_groups
from bids_interp.phantom.inject.planted_scan import change_intensities, confound_bias
from bids_interp.phantom.inject.scenarios import Scenario
from bids_interp.phantom.inject.warps import (
    ANATOMY_MM,
    FIELD_MM,
    ReplicateWarp,
    draw_warp,
    field_grid,
)
from bids_interp.spatial import Grid, refine_velocity, resample
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.randomness import derived_seed

TARGET = Target('binary', 'group', ('control', 'patient'))


class Brain(NamedTuple):
    """Brain in native space with its affine to the template."""

    label: str
    data: np.ndarray
    grid: Grid
    native_to_template: np.ndarray


@dataclass(frozen=True)
class PlantedCohort:
    """Cohort with the ground truth of each image.

    Parameters
    ----------
    cohort : Cohort
        Images on the grid of the model; a family is the brain that they were made from.
    truths : numpy.ndarray
        (N, X, Y, Z) exact log-Jacobian of injecting (controls) or removing (patients) the change;
        zero if nothing is planted.
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm in template space: deformations that made the images.
    """

    cohort: Cohort
    truths: np.ndarray
    pull_backs: np.ndarray


def fit_scenario(scenario: Scenario, brain: Grid, spacing_mm: float) -> AtrophyField:
    """Compute the change of a scenario at 2 mm and resample it to the grid of the deformations.

    Parameters
    ----------
    scenario : Scenario
        Scenario to plant.
    brain : Grid
        Field of view of the template brain.
    spacing_mm : float
        Voxel size of the model; the deformations use the same, but at least 2 mm.
    """
    fine = field_grid(brain, FIELD_MM)
    atrophy = fit_atrophy(fine, scenario.effect.changes, scenario.effect.absorb)
    if spacing_mm <= FIELD_MM:
        return atrophy
    coarse = field_grid(brain, spacing_mm)
    velocity = refine_velocity(atrophy.velocity, fine, coarse)[0].numpy()
    return AtrophyField(
        coarse, velocity, atrophy.changes, atrophy.absorb, atrophy.absorbed, atrophy.rmse
    )


def plant_cohort(
    brains: Sequence[Brain],
    scenario: Scenario,
    atrophy: AtrophyField,
    grid: Grid,
    mask: np.ndarray,
    preprocessing: Preprocessing,
    *,
    replicates: int,
    anatomy_mm: float = ANATOMY_MM,
    severity: tuple[float, float] = (0.7, 1.3),
    seed: int = 0,
    untouched: bool = False,
) -> PlantedCohort:
    """Return the images of a scenario, each interpolated once from its native brain.

    Parameters
    ----------
    brains : sequence of Brain
        Skull-stripped brains.
    scenario, atrophy
        Scenario, and its change of :func:`fit_scenario`.
    grid, mask, preprocessing
        Input space of the model.
    replicates : int
        Images per brain.
    anatomy_mm : float
        Standard deviation of the random anatomies in mm.
    severity : tuple of float
        Range of the strengths of the change.
    seed : int
        Seed of assignment and warps.
    untouched : bool
        Give controls no sham warp, only another anatomy, to test the effect of the sham.
    """
    of_label = {brain.label: number for number, brain in enumerate(brains)}
    chosen = assign_groups(list(of_label), scenario, severity, 0.5, replicates, seed)
    images, truths, fields = [], [], []
    for replicate in chosen:
        warp = draw_warp(
            atrophy,
            replicate.seed(seed),
            replicate.patient,
            0.0 if untouched and not replicate.patient else replicate.strength,
            null=scenario.null,
            anatomy_mm=anatomy_mm,
            scaling=replicate.scaling,
        )
        brain = brains[of_label[replicate.family]]
        image, shift = _image(brain, replicate, warp, atrophy.grid, grid, mask)
        images.append(preprocessing.normalise(image)[0])
        fields.append(shift.astype(np.float16))
        truths.append(_truth(warp, atrophy.grid, grid))
    cohort = Cohort(
        torch.stack(images),
        np.array([int(replicate.patient) for replicate in chosen]),
        np.array([of_label[replicate.family] for replicate in chosen]),
        tuple((f'subject:{replicate.label}',) for replicate in chosen),
        grid,
        mask,
        preprocessing,
        TARGET,
        tuple(replicate.label for replicate in chosen),
    )
    return PlantedCohort(cohort, np.stack(truths), np.stack(fields))


def _image(
    brain: Brain,
    replicate: Replicate,
    warp: ReplicateWarp,
    fields: Grid,
    grid: Grid,
    mask: np.ndarray,
) -> tuple[torch.Tensor, np.ndarray]:
    """Image (1, 1, X, Y, Z) before normalisation, and its pull-back on the model's grid."""
    shift = refine_velocity(warp.pull_back, fields, grid)
    data = torch.from_numpy(np.ascontiguousarray(brain.data, np.float32))[None, None]
    inverse = np.linalg.inv(brain.native_to_template)
    image = resample(data, brain.grid, grid, inverse, antialias=True, displacement=shift)
    image = image.clamp_min(0) * torch.from_numpy(mask.astype(np.float32))
    if replicate.confound:
        bias = confound_bias(fields, grid, np.eye(4))
        values = image[0, 0].numpy()
        image = torch.from_numpy(change_intensities(values, values > 0, bias))[None, None]
    return image, shift[0].numpy()


def _truth(warp: ReplicateWarp, fields: Grid, grid: Grid) -> np.ndarray:
    if warp.truth is None:
        return np.zeros(grid.shape, np.float32)
    data = torch.from_numpy(warp.truth)[None, None]
    return resample(data, fields, grid)[0, 0].numpy()


def explained_images(cohort: Cohort, per_family: int, seed: int) -> np.ndarray:
    """Return indices of the images to explain: the same number per class and brain.

    Saliency methods take seconds per image, so only a sample is explained, the same for all
    methods.
    """
    rng = np.random.default_rng(derived_seed(seed, 'explained'))
    chosen: list[int] = []
    for family in np.unique(cohort.families):
        for label in (0, 1):
            own = np.flatnonzero((cohort.families == family) & (cohort.labels == label))
            chosen += rng.permutation(own)[:per_family].tolist()
    return np.array(sorted(chosen))


def save_ground_truth(path: Path, planted: PlantedCohort) -> None:
    """Write the ground truth of the images to a ``.safetensors`` file."""
    save_file({'truths': planted.truths, 'pull_backs': planted.pull_backs}, path)


def load_ground_truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read truths and pull-backs of :func:`save_ground_truth`."""
    kept = load_file(path)
    return kept['truths'], kept['pull_backs']
