"""Baselines that need no classifier: class means and tensor-based morphometry."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.spatial import Grid, log_jacobian, smooth

#: Standard deviation of the Gaussian of tensor-based morphometry: 8 mm FWHM.
MORPHOMETRY_SIGMA_MM = 3.4


def exact_volumes(pull_backs: np.ndarray, grid: Grid, batch: int = 8) -> np.ndarray:
    """Return the exact log-volumes of images relative to the brains that they were made from.

    They come from the deformations that made the images, which no method can measure, and show how
    much the training images say about the change with perfect measurement.

    Parameters
    ----------
    pull_backs : numpy.ndarray
        (N, 3, X, Y, Z) mm, deformations that made the images.
    grid : Grid
        Grid of the images.
    batch : int
        Images per batch.

    Returns
    -------
    numpy.ndarray
        (N, X, Y, Z) float32.
    """
    # A stretching pull-back shows less tissue in the same number of voxels.
    parts = (
        -log_jacobian(torch.from_numpy(pull_backs[i : i + batch].astype(np.float32)), grid)[:, 0]
        for i in range(0, len(pull_backs), batch)
    )
    return torch.cat(list(parts)).numpy()


def contrast_map(
    values: np.ndarray, labels: np.ndarray, *, studentised: bool = False
) -> np.ndarray:
    """Return the mean of the positive class minus that of the negative class, or its t.

    Parameters
    ----------
    values : numpy.ndarray
        (N, V) values of the training images.
    labels : numpy.ndarray
        (N,) 0 and 1.
    studentised : bool
        Divide by the standard error: Welch's t, 0 in constant voxels.

    Returns
    -------
    numpy.ndarray
        (V,) float64.

    References
    ----------
    Ashburner J, Friston K. Tensor based morphometry, in: Human Brain Function, 2nd edition, 2004.

    Examples
    --------
    >>> values, labels = np.array([[1.0], [3.0], [5.0], [7.0]]), np.array([0, 0, 1, 1])
    >>> contrast_map(values, labels).tolist()
    [4.0]
    >>> contrast_map(values, labels, studentised=True).round(4).tolist()
    [2.8284]
    """
    sides = [values[labels == value] for value in (0, 1)]
    means = [side.mean(axis=0, dtype=np.float64) for side in sides]
    difference = means[1] - means[0]
    if not studentised:
        return difference
    error = np.sqrt(sum(side.var(axis=0, ddof=1, dtype=np.float64) / len(side) for side in sides))
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


def oracle_maps(
    truths: np.ndarray, subtypes: np.ndarray, volumes: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Mix the true changes of the subtypes by the probability of each person's subtype.

    The probability is that of a linear discriminant analysis of two or more numbers per person:
    the amplitudes of the true changes in the measured volumes. It is trained with the subtype
    labels, which no compared method may use.

    Parameters
    ----------
    truths : numpy.ndarray
        (N, V) exact log-Jacobians of removing the change from the training patients.
    subtypes : numpy.ndarray
        (N,) their subtypes.
    volumes : numpy.ndarray
        (N, V) their measured log-volumes.
    own : numpy.ndarray
        (M, V) measured log-volumes of the people to explain.

    Returns
    -------
    numpy.ndarray
        (M, V) maps.
    """
    means = np.stack([truths[subtypes == k].mean(axis=0) for k in np.unique(subtypes)])
    weights = means / (means**2).sum(axis=1, keepdims=True)
    judge = LinearDiscriminantAnalysis().fit(volumes @ weights.T, subtypes)
    return np.asarray(judge.predict_proba(own @ weights.T) @ means)


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
