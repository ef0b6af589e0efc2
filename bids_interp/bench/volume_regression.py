"""Regression of regional volumes: scans without a planted change, whose map must find the region.

The known anatomy of each image gives the volume of a region. A model that predicts this volume must
look at this region.

References
----------
Siegel and others, 2025, arXiv:2508.02560, who use volumes measured in the same scans as a truth for
explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bids_interp.bench.method_maps import OURS
from bids_interp.bench.records import Score
from bids_interp.bench.volume_judge import region_volumes, regions_of_image
from bids_interp.models.target import Target
from bids_interp.phantom.regions.coarse import region_distance, region_mask
from bids_interp.spatial import Grid, forward_map, log_jacobian
from bids_interp.training.cohort.cohort import Cohort

#: Width of the soft edges of regions.
EDGE_MM = 2.0


@dataclass(frozen=True, kw_only=True)
class RegionPeak:
    """Place of the largest value of a map.

    Parameters
    ----------
    region, method : str
        Region whose volume was predicted, and method of the map.
    x, y, z : float
        World coordinates of the largest absolute value in mm.
    distance_mm : float
        Distance of the peak from the region, 0 inside.
    found : bool
        True if the peak lies in the region or in a voxel that touches it.
    """

    region: str
    method: str
    x: float
    y: float
    z: float
    distance_mm: float
    found: bool


def brain_volumes(log_jacobian: np.ndarray, regions: Sequence[str], grid: Grid) -> np.ndarray:
    """Return the log-volumes (R,) of regions in a brain that was registered to the template.

    Parameters
    ----------
    log_jacobian : numpy.ndarray
        (X, Y, Z) of the map from the template to the brain.
    regions : sequence of str
        Names.
    grid : Grid
        Grid in template space.
    """
    weights = np.stack([region_mask(name, grid, EDGE_MM) for name in regions])
    return np.log(region_volumes(weights, grid, log_jacobian))


def image_volumes(
    pull_backs: np.ndarray,
    families: np.ndarray,
    brains: np.ndarray,
    regions: Sequence[str],
    grid: Grid,
) -> np.ndarray:
    """Return the log-volumes of regions in images made from brains.

    Parameters
    ----------
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm, deformations that made the images.
    families : numpy.ndarray
        (N,) index of the brain of each image.
    brains : numpy.ndarray
        (B, R) log-volumes in the brains.
    regions : sequence of str
        Names.
    grid : Grid
        Grid of the images.

    Returns
    -------
    numpy.ndarray
        (N, R): that of the brain, and the exact change by the anatomy of the image.
    """
    weights = np.stack([region_mask(name, grid, EDGE_MM) for name in regions])
    whole = np.log(region_volumes(weights, grid))
    changed = [
        np.log(region_volumes(regions_of_image(weights, field, grid), grid)) - whole
        for field in pull_backs
    ]
    return np.stack(changed) + brains[families]


def regression_cohort(cohort: Cohort, values: np.ndarray, region: str) -> Cohort:
    """Return a cohort whose target is the log-volume (N,) of a region."""
    target = Target('regression', region, (), float(values.mean()), float(values.std()))
    return replace(cohort, labels=values, target=target)


def correlation_map(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the correlation of each voxel's values (N, V) with a target (N,); 0 if constant.

    Examples
    --------
    >>> values = np.array([[1.0, 2.0, 5.0], [2.0, 1.0, 5.0], [3.0, 0.0, 5.0]])
    >>> correlation_map(values, np.array([1.0, 2.0, 3.0])).round(6).tolist()
    [1.0, -1.0, 0.0]
    """
    centred = values - values.mean(axis=0, dtype=np.float64)
    target = wanted - wanted.mean()
    size = np.sqrt((centred**2).sum(axis=0) * (target**2).sum())
    products = target @ centred
    return np.divide(products, size, out=np.zeros_like(products), where=size > 1e-12)


def find_peak(
    values: np.ndarray, mask: np.ndarray, grid: Grid, region: str, method: str
) -> RegionPeak:
    """Return the peak of a map and its distance from the region that the map is about.

    Parameters
    ----------
    values : numpy.ndarray
        (V,) values of the brain.
    mask, grid : numpy.ndarray, Grid
        Brain mask and grid.
    region, method : str
        Region whose volume was predicted, and method of the map.
    """
    place = np.argwhere(mask)[np.argmax(np.abs(values))]
    point = (grid.affine @ [*place, 1.0])[:3]
    distance = max(0.0, float(region_distance(region, point.reshape(3, 1))[0]))
    x, y, z = point.tolist()
    return RegionPeak(
        region=region,
        method=method,
        x=x,
        y=y,
        z=z,
        distance_mm=distance,
        # Half the diagonal of a voxel: its corner then touches the region.
        found=distance <= float(np.linalg.norm(grid.spacing)) / 2,
    )


def region_scores(peaks: Sequence[RegionPeak], correlations: Sequence[float]) -> list[Score]:
    """Return the scores of a scenario.

    Parameters
    ----------
    peaks : sequence of RegionPeak
        Peak of each region's map by each method.
    correlations : sequence of float
        Correlation of predicted and true volumes in each fold of each region; may be empty.
    """
    rows = []
    for method in dict.fromkeys(peak.method for peak in peaks):
        explained = OURS if method == OURS else ''
        count = sum(peak.found for peak in peaks if peak.method == method)
        rows.append(Score(method, explained, 'regions_found', 'both', float(count)))
    if correlations:
        rows.append(Score(OURS, OURS, 'prediction_r', 'both', float(np.mean(correlations))))
    return rows


@torch.no_grad()
def mean_growth(simulator: nn.Module, cohort: Cohort, images: np.ndarray) -> np.ndarray:
    """Return the mean log-Jacobian (V,) of simulations of a larger target at dose 1.

    Parameters
    ----------
    simulator : torch.nn.Module
        Simulator in evaluation mode.
    cohort : Cohort
        Cohort of the images.
    images : numpy.ndarray
        Indices of the images to explain.
    """
    total = np.zeros(int(cohort.mask.sum()))
    for image in images:
        field = simulator(cohort.images[image : image + 1], torch.ones(1), 0)
        forward = forward_map(field, cohort.grid, str(simulator.field))
        total += log_jacobian(forward, cohort.grid)[0, 0].numpy()[cohort.mask]
    return total / len(images)
