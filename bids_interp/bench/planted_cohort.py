"""A cohort with a known change on a model's grid, made in memory from prepared brains."""

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
    """A brain in its own space, and where it lies in the template."""

    label: str
    data: np.ndarray
    grid: Grid
    native_to_template: np.ndarray


@dataclass(frozen=True)
class Planted:
    """A cohort, and what is known about each of its images.

    Parameters
    ----------
    cohort : Cohort
        Images of the model's grid; families are the brains they were made of.
    truths : numpy.ndarray
        (N, X, Y, Z) exact log-Jacobian of injecting (controls) or removing (patients) the change;
        zero where nothing is planted.
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm in template space: what made each image of its brain.
    """

    cohort: Cohort
    truths: np.ndarray
    pull_backs: np.ndarray


def plan_on(scenario: Scenario, brain: Grid, spacing_mm: float) -> AtrophyField:
    """Plan a scenario at 2 mm and bring it onto a coarser grid of deformations.

    Parameters
    ----------
    scenario : Scenario
        What is planted.
    brain : Grid
        Field of view of the template's brain.
    spacing_mm : float
        Voxel size of the model; the deformations have the same, but at least 2 mm.
    """
    fine = field_grid(brain, FIELD_MM)
    plan = fit_atrophy(fine, scenario.effect.changes, scenario.effect.absorb)
    if spacing_mm <= FIELD_MM:
        return plan
    coarse = field_grid(brain, spacing_mm)
    velocity = refine_velocity(plan.velocity, fine, coarse)[0].numpy()
    return AtrophyField(coarse, velocity, plan.changes, plan.absorb, plan.absorbed, plan.rmse)


def plant(
    brains: Sequence[Brain],
    scenario: Scenario,
    plan: AtrophyField,
    grid: Grid,
    mask: np.ndarray,
    preprocessing: Preprocessing,
    *,
    replicates: int,
    anatomy_mm: float = ANATOMY_MM,
    severity: tuple[float, float] = (0.7, 1.3),
    seed: int = 0,
    untouched: bool = False,
) -> Planted:
    """Make the images of a scenario; each is interpolated once from its native brain.

    Parameters
    ----------
    brains : sequence of Brain
        Stripped brains.
    scenario, plan
        What is planted; of :func:`plan_on`.
    grid, mask, preprocessing
        Of the model.
    replicates : int
        Images of each brain.
    anatomy_mm : float
        Standard deviation of their anatomies.
    severity : tuple of float
        Range of the strengths.
    seed : int
        Of assignment and warps.
    untouched : bool
        Controls get no sham, only another anatomy: what a sham alone does to an image.
    """
    of_label = {brain.label: number for number, brain in enumerate(brains)}
    chosen = assign_groups(list(of_label), scenario, severity, 0.5, replicates, seed)
    images, truths, fields = [], [], []
    for replicate in chosen:
        warp = draw_warp(
            plan,
            replicate.seed(seed),
            replicate.patient,
            0.0 if untouched and not replicate.patient else replicate.strength,
            null=scenario.null,
            anatomy_mm=anatomy_mm,
            scaling=replicate.scaling,
        )
        brain = brains[of_label[replicate.family]]
        image, shift = _image(brain, replicate, warp, plan.grid, grid, mask)
        images.append(preprocessing.normalise(image)[0])
        fields.append(shift.astype(np.float16))
        truths.append(_truth(warp, plan.grid, grid))
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
    return Planted(cohort, np.stack(truths), np.stack(fields))


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
    """Indices of the images that every method explains: as many of each class of each brain.

    Saliency methods take seconds an image, so that not all can be explained; which ones are is
    drawn once, for all methods.
    """
    rng = np.random.default_rng(derived_seed(seed, 'explained'))
    chosen: list[int] = []
    for family in np.unique(cohort.families):
        for label in (0, 1):
            own = np.flatnonzero((cohort.families == family) & (cohort.labels == label))
            chosen += rng.permutation(own)[:per_family].tolist()
    return np.array(sorted(chosen))


def save_known(path: Path, planted: Planted) -> None:
    """Write what is known about the images to a ``.safetensors`` file."""
    save_file({'truths': planted.truths, 'pull_backs': planted.pull_backs}, path)


def load_known(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Truths and pull-backs of :func:`save_known`."""
    kept = load_file(path)
    return kept['truths'], kept['pull_backs']
