"""Planted cohort: images with a known change on the grid of a model, made from real brains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.phantom.change.atrophy import AtrophyField, fit_atrophy
from bids_interp.phantom.change.boundary import PlantedChange, fit_boundary
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
from bids_interp.phantom.regions.tissue import tissue_mask
from bids_interp.spatial import Grid, refine_velocity, resample
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.randomness import derived_seed

#: Largest voxel size of the deformations of a moving boundary, which is thin.
BOUNDARY_MM = 4.0
#: Parts of the ground truth of a cohort.
TRUTH_FIELDS = ('truths', 'pull_backs', 'motions', 'subtypes')
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
        (N, 3, X, Y, Z) float16 mm in template space: deformations that made the images.
    motions : numpy.ndarray
        (N, 3, X, Y, Z) float16 mm: exact displacements of the changes in `truths`.
    subtypes : numpy.ndarray
        (N,) number of the planted change of each patient; -1 for controls. No method may use it.
    """

    cohort: Cohort
    truths: np.ndarray
    pull_backs: np.ndarray
    motions: np.ndarray
    subtypes: np.ndarray


def fit_scenario(scenario: Scenario, brain: Grid, spacing_mm: float) -> list[PlantedChange]:
    """Compute the changes of a scenario on the grid of its deformations.

    An atrophy is computed at 2 mm and resampled. The boundary of a region moves a thin shell, which
    resampling would weaken, so its motion is fitted on the grid of the deformations.

    Parameters
    ----------
    scenario : Scenario
        Scenario to plant.
    brain : Grid
        Field of view of the template brain.
    spacing_mm : float
        Voxel size of the model; the deformations use the same, but at least 2 mm.

    Returns
    -------
    list of AtrophyField or BoundaryChange
        Change of each subtype of patients.
    """
    fine = field_grid(brain, FIELD_MM)
    coarse = field_grid(brain, max(spacing_mm, FIELD_MM))
    made: list[PlantedChange] = []
    for effect in scenario.effects:
        if scenario.generator == 'boundary':
            ((name, share),) = effect.changes.items()
            own = field_grid(brain, min(max(spacing_mm, FIELD_MM), BOUNDARY_MM))
            made.append(fit_boundary(own, name, tissue_mask(name, fine), share, fine))
        elif not effect.changes:
            still = np.zeros((3, *coarse.shape), np.float32)
            made.append(AtrophyField(coarse, still, {}, effect.absorb))
        else:
            atrophy = fit_atrophy(fine, effect.changes, effect.absorb)
            velocity = refine_velocity(atrophy.velocity, fine, coarse)[0].numpy()
            made.append(replace(atrophy, grid=coarse, velocity=velocity))
    return made


def plant_cohort(
    brains: Sequence[Brain],
    scenario: Scenario,
    changes: Sequence[PlantedChange],
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
    scenario, changes
        Scenario, and its changes of :func:`fit_scenario`, one per subtype.
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
    images, truths, fields, motions = [], [], [], []
    field_grid = changes[0].grid
    for replicate in chosen:
        order = [changes[replicate.subtype], *changes]
        warp = draw_warp(
            order[0],
            replicate.seed(seed),
            replicate.patient,
            0.0 if untouched and not replicate.patient else replicate.strength,
            null=scenario.null,
            anatomy_mm=anatomy_mm,
            scaling=replicate.scaling,
            others=[change for change in order[1:] if change is not order[0]],
        )
        brain = brains[of_label[replicate.family]]
        image, shift = _image(brain, replicate, warp, field_grid, grid, mask)
        images.append(preprocessing.normalise(image)[0])
        fields.append(shift.astype(np.float16))
        truth, motion = _truth(warp, field_grid, grid)
        truths.append(truth)
        motions.append(motion.astype(np.float16))
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
    subtypes = [replicate.subtype if replicate.patient else -1 for replicate in chosen]
    return PlantedCohort(
        cohort, np.stack(truths), np.stack(fields), np.stack(motions), np.array(subtypes)
    )


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
    image = image_of(brain, shift, grid, mask)
    if replicate.confound:
        bias = confound_bias(fields, grid, np.eye(4))
        values = image[0, 0].numpy()
        image = torch.from_numpy(change_intensities(values, values > 0, bias))[None, None]
    return image, shift[0].numpy()


def image_of(brain: Brain, shift: torch.Tensor, grid: Grid, mask: np.ndarray) -> torch.Tensor:
    """Interpolate a brain once, and return the image (1, 1, X, Y, Z) before normalisation.

    Parameters
    ----------
    brain : Brain
        Skull-stripped brain.
    shift : torch.Tensor
        (1, 3, X, Y, Z) pull-back in mm on `grid`.
    grid, mask
        Grid of the model and its brain mask.
    """
    data = torch.from_numpy(np.ascontiguousarray(brain.data, np.float32))[None, None]
    inverse = np.linalg.inv(brain.native_to_template)
    image = resample(data, brain.grid, grid, inverse, antialias=True, displacement=shift)
    return image.clamp_min(0) * torch.from_numpy(mask.astype(np.float32))


def _truth(warp: ReplicateWarp, fields: Grid, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Log-Jacobian and displacement of the change on the model's grid."""
    if warp.truth is None or warp.motion is None:
        return np.zeros(grid.shape, np.float32), np.zeros((3, *grid.shape), np.float32)
    both = torch.from_numpy(np.concatenate([warp.truth[None], warp.motion]))[None]
    moved = resample(both, fields, grid)[0].numpy()
    return moved[0], moved[1:]


def explained_images(
    cohort: Cohort, per_family: int, seed: int, subtypes: np.ndarray | None = None
) -> np.ndarray:
    """Return indices of the images to explain: the same number per brain, class and subtype.

    Saliency methods take seconds per image, so only a sample is explained, the same for all
    methods.
    """
    rng = np.random.default_rng(derived_seed(seed, 'explained'))
    chosen: list[int] = []
    groups = cohort.labels if subtypes is None else cohort.labels + np.maximum(subtypes, 0)
    for family in np.unique(cohort.families):
        for group in np.unique(groups):
            own = np.flatnonzero((cohort.families == family) & (groups == group))
            chosen += rng.permutation(own)[:per_family].tolist()
    return np.array(sorted(chosen))


def save_ground_truth(path: Path, planted: PlantedCohort) -> None:
    """Write the ground truth of the images to a ``.safetensors`` file."""
    save_file({name: getattr(planted, name) for name in TRUTH_FIELDS}, path)


def load_ground_truth(path: Path, *names: str) -> tuple[np.ndarray, ...]:
    """Read some of :data:`TRUTH_FIELDS` from a file of :func:`save_ground_truth`."""
    with safe_open(path, framework='numpy') as stream:
        return tuple(stream.get_tensor(name) for name in names)
