"""Subject with an anatomy and, for a patient, the disease, in one resampling.

Let T be the template image, a = exp(-w) the pull-back of the subject's anatomy and D = exp(s v)
the planted change in the template. In the subject's frame

- the healthy image is       h = T o a,
- the patient's image is     y = T o D^-1 o a  = h o F^-1,
- with the change            F = a^-1 o D o a  = exp(s v) in the anatomy of the subject.

F moves tissue from the healthy to the diseased image of the subject, so that its own hippocampus
shrinks. Two truths follow, each on the grid of the observed image:

- ``inject`` (observed: healthy): log det DF, negative where the disease shrinks tissue;
- ``remove`` (observed: patient): log det D(F^-1), positive there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from bids_interp.constants import DIRECTIONS
from bids_interp.errors import UsageError
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.conjugate import conjugate_log_jacobian
from bids_interp.spatial import Grid, compose, exponential, log_jacobian


class SubjectWarp(NamedTuple):
    """Warp of the template to one subject; float32 arrays on the template-space grid."""

    #: (3, X, Y, Z) in mm: image = warp(template image, displacement), the only resampling.
    displacement: np.ndarray
    #: (X, Y, Z): log det DF on the grid of the healthy image (the 'inject' truth).
    log_jacobian: np.ndarray


def subject_displacement(
    anatomy_velocity: np.ndarray | None, atrophy: AtrophyField, severity: float, grid: Grid
) -> SubjectWarp:
    """Compose anatomy and disease into one pull-back, with the truth of the disease.

    Parameters
    ----------
    anatomy_velocity : numpy.ndarray or None
        w (3, X, Y, Z) in mm from :func:`bids_interp.phantom.change.anatomy.sample_anatomy`, or None
        for the anatomy of the template (or of a real brain on the template grid).
    atrophy : AtrophyField
        Atrophy or sham on the same grid.
    severity : float
        Severity s; 0 gives a healthy subject.
    grid : Grid
        Grid of the atrophy.

    Returns
    -------
    SubjectWarp
        Pull-back displacement, and the 'inject' truth.

    Raises
    ------
    UsageError
        If the atrophy has another grid.
    """
    anatomy = _anatomy_pull_back(anatomy_velocity, atrophy, grid)
    pull_back = compose(anatomy, exponential(_scaled(atrophy, -severity), grid), grid)
    truth = _truth(anatomy_velocity, anatomy, atrophy, severity)
    return SubjectWarp(pull_back[0].numpy(), truth)


def subject_pull_back(
    anatomy_velocity: np.ndarray | None, atrophy: AtrophyField, severity: float
) -> np.ndarray:
    """Compose anatomy and disease into one pull-back, without the truth.

    Returns
    -------
    numpy.ndarray
        (3, X, Y, Z) float32 in mm on the grid of the atrophy.
    """
    anatomy = _anatomy_pull_back(anatomy_velocity, atrophy, atrophy.grid)
    return compose(anatomy, exponential(_scaled(atrophy, -severity), atrophy.grid), atrophy.grid)[
        0
    ].numpy()


def subject_truth(
    anatomy_velocity: np.ndarray | None,
    atrophy: AtrophyField,
    severity: float,
    direction: str = 'inject',
) -> np.ndarray:
    """Compute the exact log-Jacobian of injecting or removing the disease in one subject.

    Parameters
    ----------
    anatomy_velocity : numpy.ndarray or None
        As in :func:`subject_displacement`.
    atrophy : AtrophyField
        Atrophy.
    severity : float
        Severity s of the subject.
    direction : str
        ``'inject'``: healthy -> diseased, on the grid of the healthy image. ``'remove'``:
        diseased -> healthy, on the grid of the diseased image.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 on the grid of the atrophy; positive = expansion from the observed to the
        simulated image.
    """
    if direction not in DIRECTIONS:
        raise UsageError(f'There is no direction {direction!r}.', "Choose 'inject' or 'remove'.")
    anatomy = _anatomy_pull_back(anatomy_velocity, atrophy, atrophy.grid)
    signed = severity if direction == 'inject' else -severity
    return _truth(anatomy_velocity, anatomy, atrophy, signed)


def _scaled(atrophy: AtrophyField, severity: float) -> torch.Tensor:
    return torch.from_numpy(atrophy.velocity)[None] * float(severity)


def _anatomy_pull_back(
    velocity: np.ndarray | None, atrophy: AtrophyField, grid: Grid
) -> torch.Tensor:
    if not grid.matches(atrophy.grid):
        raise UsageError(
            'The atrophy has another grid than the subject.', 'Fit it on the grid of the subject.'
        )
    if velocity is None:
        return torch.zeros(1, 3, *grid.shape)
    return exponential(-torch.from_numpy(np.asarray(velocity, np.float32))[None], grid)


def _truth(
    velocity: np.ndarray | None, anatomy: torch.Tensor, atrophy: AtrophyField, severity: float
) -> np.ndarray:
    """Return log det DF; exactly 0 at severity 0."""
    grid = atrophy.grid
    if severity == 0:
        return np.zeros(grid.shape, np.float32)
    disease = exponential(_scaled(atrophy, severity), grid)
    if velocity is None:
        return log_jacobian(disease, grid)[0, 0].numpy()
    back = exponential(torch.from_numpy(np.asarray(velocity, np.float32))[None], grid)
    return conjugate_log_jacobian(anatomy, back, disease, grid)
