"""Baselines that need no classifier: class means and tensor-based morphometry."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.spatial import Grid, log_jacobian, smooth

#: Standard deviation of the Gaussian of tensor-based morphometry: 8 mm FWHM.
MORPHOMETRY_SIGMA_MM = 3.4


def exact_difference(
    pull_backs: np.ndarray, labels: np.ndarray, grid: Grid, batch: int = 8
) -> np.ndarray:
    """Return the exact mean log-volume of the positive class minus that of the negative class.

    It uses the deformations that made the images, which no method can measure, and shows how much
    the training images say about the change with perfect measurement.

    Parameters
    ----------
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm, deformations that made the training images.
    labels : numpy.ndarray
        (N,) 0 and 1.
    grid : Grid
        Grid of the images.
    batch : int
        Images per batch.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z).
    """
    sums = np.zeros((2, *grid.shape))
    for start in range(0, len(labels), batch):
        part = torch.from_numpy(pull_backs[start : start + batch].astype(np.float32))
        # A stretching pull-back shows less tissue in the same number of voxels.
        volumes = -log_jacobian(part, grid)[:, 0].numpy()
        for label in (0, 1):
            sums[label] += volumes[labels[start : start + batch] == label].sum(axis=0)
    return sums[1] / (labels == 1).sum() - sums[0] / (labels == 0).sum()


def class_difference(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean image of the positive class minus that of the negative class.

    Parameters
    ----------
    images : numpy.ndarray
        (N, X, Y, Z) training images.
    labels : numpy.ndarray
        (N,) 0 and 1.

    Examples
    --------
    >>> class_difference(np.array([[[[1.0]]], [[[3.0]]], [[[7.0]]]]), np.array([0, 0, 1])).item()
    5.0
    """
    return images[labels == 1].mean(axis=0) - images[labels == 0].mean(axis=0)


def morphometry_t_map(log_jacobians: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the voxel-wise t map of log-Jacobians: positive minus negative class.

    Parameters
    ----------
    log_jacobians : numpy.ndarray
        (N, X, Y, Z), positive where an image is larger than the template.
    labels : numpy.ndarray
        (N,) 0 and 1.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) Welch's t; 0 in constant voxels.

    References
    ----------
    Ashburner J, Friston K. Tensor based morphometry, in: Human Brain Function, 2nd edition, 2004.

    Examples
    --------
    >>> maps = np.array([1.0, 3.0, 5.0, 7.0]).reshape(4, 1, 1, 1)
    >>> round(morphometry_t_map(maps, np.array([0, 0, 1, 1])).item(), 4)
    2.8284
    """
    sides = [np.asarray(log_jacobians[labels == value], np.float64) for value in (0, 1)]
    difference = sides[1].mean(axis=0) - sides[0].mean(axis=0)
    error = np.sqrt(sum(side.var(axis=0, ddof=1) / len(side) for side in sides))
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


@torch.no_grad()
def registered_volumes(
    images: torch.Tensor, controls: torch.Tensor, grid: Grid, batch: int = 8
) -> np.ndarray:
    """Return smoothed log-Jacobians of the registrations of a mean image to images.

    The registration is that of our morphometric classifier
    (:class:`bids_interp.models.networks.morphometric.VolumeMeasure`).

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, X, Y, Z).
    controls : torch.Tensor
        (M, 1, X, Y, Z) images whose mean is registered.
    grid : Grid
        Grid of the images.
    batch : int
        Images per batch.

    Returns
    -------
    numpy.ndarray
        (N, X, Y, Z) float32, positive where an image is larger than the mean.
    """
    volumes = VolumeMeasure(grid.shape).eval()
    volumes.mean.copy_(controls.mean(dim=0, keepdim=True))
    found = [
        smooth(volumes.log_jacobian(part), MORPHOMETRY_SIGMA_MM, grid)[:, 0]
        for part in images.split(batch)
    ]
    return torch.cat(found).numpy()
