"""Realism of a simulated brain: coarse distance of its intensities from the training images."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.models.bundle.schema import IntensityStatistics
from bids_interp.spatial import Grid

#: Edge of the cubes whose mean intensity is compared.
EDGE_MM = 24.0
#: Share of a cube that the brain must fill for the cube to be used.
FILLED = 0.25


def brain_cubes(grid: Grid, mask: np.ndarray, edge_mm: float = EDGE_MM) -> np.ndarray:
    """Number the cubes of template space that the brain fills.

    Parameters
    ----------
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        Brain mask, (X, Y, Z) bool.
    edge_mm : float
        Edge of the cubes; the origin of the world is a corner of eight cubes.

    Returns
    -------
    numpy.ndarray
        Number of the cube of each voxel, (X, Y, Z) int64, from 0; -1 outside all cubes.
    """
    cells = np.floor(grid.world_coordinates() / edge_mm).astype(np.int64)
    numbers = np.full(grid.shape, -1, np.int64)
    _, cubes, counts = np.unique(cells[:, mask], axis=1, return_inverse=True, return_counts=True)
    is_full = counts * grid.voxel_volume >= FILLED * edge_mm**3
    kept = np.where(is_full, np.cumsum(is_full) - 1, -1)
    numbers[mask] = kept[cubes.ravel()]
    return numbers


def cube_means(images: torch.Tensor, cubes: np.ndarray) -> np.ndarray:
    """Return the mean intensities (N, cubes) of images (N, 1, X, Y, Z) in numbered cubes."""
    inside = cubes >= 0
    numbers = cubes[inside]
    counts = np.bincount(numbers)
    rows = [np.bincount(numbers, image[0].numpy()[inside]) / counts for image in images]
    return np.array(rows)


def intensity_statistics(
    images: torch.Tensor, grid: Grid, mask: np.ndarray
) -> IntensityStatistics | None:
    """Return the intensity statistics of a training cohort, for the configuration of a bundle.

    Parameters
    ----------
    images : torch.Tensor
        Inputs (N, 1, X, Y, Z) of the classifier.
    grid, mask
        See :func:`brain_cubes`.

    Returns
    -------
    IntensityStatistics or None
        None for fewer than two images.
    """
    if len(images) < 2:
        return None
    means = cube_means(images, brain_cubes(grid, mask))
    return IntensityStatistics(
        EDGE_MM,
        len(images),
        [round(float(value), 6) for value in means.mean(axis=0)],
        [round(float(value), 6) for value in means.std(axis=0, ddof=1)],
    )


def distance_from_training(
    image: torch.Tensor, statistics: IntensityStatistics | None, grid: Grid, mask: np.ndarray
) -> float:
    """Return the root mean square z value of the mean cube intensities of one image.

    It is about 1 for a brain of the training set. It detects large structures that have moved or
    changed in size more than in the training set, but not single unusual voxels.

    Parameters
    ----------
    image : torch.Tensor
        (1, 1, X, Y, Z).
    statistics : IntensityStatistics, optional
        Result of :func:`intensity_statistics`.
    grid, mask
        See :func:`brain_cubes`.

    Returns
    -------
    float
        NaN without statistics.
    """
    if statistics is None:
        return float('nan')
    means = cube_means(image, brain_cubes(grid, mask, statistics.edge_mm))[0]
    mean, sd = np.array(statistics.mean), np.array(statistics.sd)
    varies = sd > 0
    return float(np.sqrt(np.mean(((means - mean)[varies] / sd[varies]) ** 2)))
