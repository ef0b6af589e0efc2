"""Simulations of held-out images, and their judgement by classifiers and regional volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from bids_interp.bench.records import ImageScores
from bids_interp.bench.truth_scores import (
    displacement_ncc,
    motion_outside,
    volume_change_error,
)
from bids_interp.bench.volume_judge import VolumeJudge, region_volumes, regions_of_image
from bids_interp.models.explain.volume_share import volume_share
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.phantom.regions.tissue import TISSUE_REGIONS, tissue_mask
from bids_interp.spatial import Grid, count_folded, flow, log_jacobian, warp

#: Doses at which the response must increase.
DOSES = (0.25, 0.5, 0.75, 1.0)
#: Regions of the volume judge, besides those that change.
JUDGED_REGIONS = (
    'hippocampus',
    'amygdala',
    'thalamus_left',
    'thalamus_right',
    'caudate',
    'putamen',
    'insula',
    'ventricles',
    'third_ventricle',
    'brainstem',
    'cerebellum',
    'frontal_ribbon',
)
#: Smallest relative volume change of a region whose error is reported.
SMALLEST_CHANGE = 0.01
#: Width of the soft edges of regions; voxels are several mm wide.
EDGE_MM = 2.0


@dataclass(frozen=True)
class JudgedRegions:
    """Regions of the volume judge in template space.

    Parameters
    ----------
    names : tuple of str
        Names.
    weights : numpy.ndarray
        (R, X, Y, Z) in [0, 1].
    changed : tuple of int
        Indices of the regions with the planted change.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    changed: tuple[int, ...]

    @classmethod
    def draw(cls, changed: Sequence[str], grid: Grid) -> JudgedRegions:
        """Draw the changed regions and :data:`JUDGED_REGIONS`."""
        names = tuple(dict.fromkeys([*changed, *JUDGED_REGIONS]))
        weights = np.stack(
            [
                tissue_mask(name, grid)
                if name in TISSUE_REGIONS
                else region_mask(name, grid, EDGE_MM)
                for name in names
            ]
        )
        return cls(names, weights, tuple(names.index(name) for name in changed))


@dataclass(frozen=True)
class ScaledClassifier:
    """Classifier that judges simulations, with the scale of its logits.

    Parameters
    ----------
    network : torch.nn.Module
        Network in evaluation mode.
    images : torch.Tensor
        (N, 1, X, Y, Z) inputs of the whole cohort.
    centre : float
        Logit at the midpoint between the classes.
    gap : float
        Class gap in logits.
    """

    network: nn.Module
    images: torch.Tensor
    centre: float
    gap: float = 1.0

    def change(self, index: int, pull_back: torch.Tensor, grid: Grid) -> tuple[float, float]:
        """Return the logits of an image before and after a deformation."""
        image = self.images[index : index + 1]
        both = torch.cat([image, warp(image, pull_back, grid)])
        before, after = self.network(both).float()[:, 0].tolist()
        return before, after


@dataclass(frozen=True)
class CohortAnatomy:
    """Anatomy of the images of a cohort.

    Parameters
    ----------
    regions : JudgedRegions
        Regions in template space.
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm, deformations that made the images from template-space brains.
    judge : VolumeJudge
        Judge fitted to training images.
    limits : numpy.ndarray
        (2, 2, R) 1st and 99th percentile of the volumes of each class, in mm^3.
    """

    regions: JudgedRegions
    pull_backs: np.ndarray
    judge: VolumeJudge
    limits: np.ndarray

    @classmethod
    def fit(
        cls,
        regions: JudgedRegions,
        pull_backs: np.ndarray,
        labels: np.ndarray,
        train: np.ndarray,
        grid: Grid,
    ) -> CohortAnatomy:
        """Fit the judge and the limits to the training images."""
        volumes = np.stack(
            [
                region_volumes(regions_of_image(regions.weights, pull_backs[i], grid), grid)
                for i in train
            ]
        )
        limits = np.stack(
            [np.percentile(volumes[labels[train] == side], [1, 99], axis=0) for side in (0, 1)]
        )
        return cls(regions, pull_backs, VolumeJudge.fit(volumes, labels[train]), limits)

    def of(self, index: int, grid: Grid) -> np.ndarray:
        """Return the regions (R, X, Y, Z) of an image."""
        return regions_of_image(self.regions.weights, self.pull_backs[index], grid)


@torch.no_grad()
def explain_image(
    simulator: nn.Module,
    own: ScaledClassifier,
    other: ScaledClassifier | None,
    anatomy: CohortAnatomy | None,
    index: int,
    label: int,
    truth: np.ndarray,
    grid: Grid,
    mask: np.ndarray,
    motion: np.ndarray | None = None,
) -> tuple[np.ndarray, ImageScores]:
    """Simulate one image: inject the pattern into a control, remove it from a patient.

    Parameters
    ----------
    simulator : torch.nn.Module
        Network in evaluation mode.
    own, other : ScaledClassifier
        Classifier that the simulator was trained against, and one of another family.
    anatomy : CohortAnatomy or None
        Regions and volume judge; None if the images are not brains.
    index, label : int
        Index and class of the image.
    truth : numpy.ndarray
        (X, Y, Z) exact log-Jacobian; zero if nothing is planted.
    grid, mask : Grid, numpy.ndarray
        Grid and brain mask of the images.
    motion : numpy.ndarray, optional
        (3, X, Y, Z) mm, exact displacement of the change.

    Returns
    -------
    log_jacobian : numpy.ndarray
        (X, Y, Z) at dose 1.
    scores : ImageScores
        Metrics of the image.
    """
    sign = 1.0 if label == 0 else -1.0
    image = own.images[index : index + 1]
    shifts, kind = [], str(simulator.field)
    for dose in DOSES:
        field = simulator(image, torch.tensor([sign * dose]), 0)
        forward, backward = flow(field, grid, kind)
        before, after = own.change(index, backward, grid)
        shifts.append(sign * (after - before))
    log_j = log_jacobian(forward, grid)[0, 0].numpy()
    return log_j, ImageScores(
        image=int(index),
        direction='inject' if label == 0 else 'remove',
        crosses=float(sign * (after - own.centre) > 0),
        effectiveness=shifts[-1] / own.gap,
        monotone=float(np.all(np.diff([0.0, *shifts]) > 0)),
        **_transfer(other, index, backward, sign, grid),
        **_anatomical(anatomy, index, label, log_j, truth, grid),
        **_geometrical(image, forward, backward, grid, mask),
        **_moved(forward[0].numpy(), truth, motion, mask),
        volume_share=float(volume_share(own.network, image, field, grid, kind=kind)[0]),
    )


class _Transfer(TypedDict):
    transfer_right_way: float
    transfer_crosses: float


class _Volumes(TypedDict):
    volume_right_way: float
    volume_crosses: float
    roi_error_percent: float
    realism: float


class _Motion(TypedDict):
    displacement_ncc: float
    motion_outside_mm: float


class _Deformation(TypedDict):
    n_folded: float
    reversibility_rmse: float
    minimality_mm: float


def _transfer(
    other: ScaledClassifier | None, index: int, pull_back: torch.Tensor, sign: float, grid: Grid
) -> _Transfer:
    if other is None:
        return {'transfer_right_way': float('nan'), 'transfer_crosses': float('nan')}
    before, after = other.change(index, pull_back, grid)
    return {
        'transfer_right_way': float(sign * (after - before) > 0),
        'transfer_crosses': float(sign * (after - other.centre) > 0),
    }


def _anatomical(
    anatomy: CohortAnatomy | None,
    index: int,
    label: int,
    log_j: np.ndarray,
    truth: np.ndarray,
    grid: Grid,
) -> _Volumes:
    """Metrics of the volumes of regions."""
    if anatomy is None:
        unknown = float('nan')
        return {
            'volume_right_way': unknown,
            'volume_crosses': unknown,
            'roi_error_percent': unknown,
            'realism': unknown,
        }
    sign = 1.0 if label == 0 else -1.0
    regions = anatomy.of(index, grid)
    before, after = region_volumes(regions, grid), region_volumes(regions, grid, log_j)
    first, last = anatomy.judge.decide(np.stack([before, after]))
    low, high = anatomy.limits[1 - label]
    changed = (regions[number] for number in anatomy.regions.changed)
    # Patients of one subtype have no change in the regions of another.
    errors = [
        volume_change_error(log_j, truth, region)
        for region in changed
        if abs(np.average(np.expm1(truth), weights=region)) > SMALLEST_CHANGE
    ]
    return {
        'volume_right_way': float(sign * (last - first) > 0),
        'volume_crosses': float(sign * last > 0),
        'roi_error_percent': float(np.mean(errors)) if errors else float('nan'),
        'realism': float(((after >= low) & (after <= high)).mean()),
    }


def _moved(
    displacement: np.ndarray, truth: np.ndarray, motion: np.ndarray | None, mask: np.ndarray
) -> _Motion:
    """Agreement of the displacement with the exact one, and motion outside the pattern."""
    planted = motion is not None and motion.any()
    return {
        'displacement_ncc': displacement_ncc(displacement, motion, mask)
        if planted and motion is not None
        else float('nan'),
        'motion_outside_mm': motion_outside(displacement, truth, mask),
    }


def _geometrical(
    image: torch.Tensor,
    forward: torch.Tensor,
    backward: torch.Tensor,
    grid: Grid,
    mask: np.ndarray,
) -> _Deformation:
    """Folded voxels, reversibility error (input units) and mean displacement inside the brain."""
    inside = torch.from_numpy(mask)[None, None]
    returned = warp(warp(image, backward, grid), forward, grid)
    # A folded displacement has no inverse, so both maps are checked.
    folded = max(count_folded(part, grid, inside) for part in (forward, backward))
    length = forward.square().sum(dim=1, keepdim=True).sqrt()[inside]
    return {
        'n_folded': float(folded),
        'reversibility_rmse': float((returned - image)[inside].square().mean().sqrt()),
        'minimality_mm': float(length.mean()),
    }
