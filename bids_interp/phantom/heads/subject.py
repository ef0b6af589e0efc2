"""One subject: its own anatomy and, for a patient, the disease, in one resampling.

Let T be the template image, a = exp(-w) the pull-back of the subject's anatomy and D = exp(s v)
the planted change in the template. In the subject's frame

- the healthy image is       h = T o a,
- the patient's image is     y = T o D^-1 o a  = h o F^-1,
- with the change            F = a^-1 o D o a  = exp(s v) seen from the subject's own anatomy.

F moves tissue from the healthy to the diseased image of *this* subject: its hippocampus shrinks
where its hippocampus is. Two truths follow, each on the grid of the image that is observed:

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
from bids_interp.spatial import Grid, compose, exponential, log_jacobian, warp


class SubjectWarp(NamedTuple):
    """What makes one subject out of the template; float32 arrays on the template-space grid."""

    #: (3, X, Y, Z) mm: image = warp(template image, displacement), the only resampling.
    displacement: np.ndarray
    #: (X, Y, Z): log det DF on the grid of the subject's healthy image ('inject' truth).
    log_jacobian: np.ndarray


def subject_displacement(
    anatomy_velocity: np.ndarray | None, plan: AtrophyField, severity: float, grid: Grid
) -> SubjectWarp:
    """Compose anatomy and disease into one pull-back, with the truth of the disease.

    Parameters
    ----------
    anatomy_velocity : numpy.ndarray or None
        w (3, X, Y, Z) mm from :func:`bids_interp.phantom.change.anatomy.sample_anatomy`; None for
        the template's own anatomy (or for a real brain that brings its own: then the image to warp
        is that brain on the template grid).
    plan : AtrophyField
        Planned change (or sham) on the same grid.
    severity : float
        s; 0 gives a healthy subject.
    grid : Grid
        Grid of the plan.

    Returns
    -------
    SubjectWarp
        Pull-back displacement, and the 'inject' truth.

    Raises
    ------
    UsageError
        The plan lives on another grid.
    """
    anatomy = _anatomy_pull_back(anatomy_velocity, plan, grid)
    pull_back = compose(anatomy, exponential(_scaled(plan, -severity), grid), grid)
    truth = _conjugate_log_jacobian(anatomy_velocity, anatomy, plan, severity)
    return SubjectWarp(pull_back[0].numpy(), truth)


def subject_pull_back(
    anatomy_velocity: np.ndarray | None, plan: AtrophyField, severity: float
) -> np.ndarray:
    """Compose anatomy and disease as :func:`subject_displacement` does, without the truth.

    Returns
    -------
    numpy.ndarray
        (3, X, Y, Z) float32 mm on the plan's grid.
    """
    anatomy = _anatomy_pull_back(anatomy_velocity, plan, plan.grid)
    return compose(anatomy, exponential(_scaled(plan, -severity), plan.grid), plan.grid)[0].numpy()


def subject_truth(
    anatomy_velocity: np.ndarray | None,
    plan: AtrophyField,
    severity: float,
    direction: str = 'inject',
) -> np.ndarray:
    """Exact log-Jacobian of putting the disease in, or of taking it out of, one subject.

    Parameters
    ----------
    anatomy_velocity : numpy.ndarray or None
        As in :func:`subject_displacement`.
    plan : AtrophyField
        Planned change.
    severity : float
        s of the subject.
    direction : str
        ``'inject'``: healthy -> diseased, on the grid of the healthy image. ``'remove'``:
        diseased -> healthy, on the grid of the diseased image.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 on the plan's grid; positive = grows from observed to simulated.
    """
    if direction not in DIRECTIONS:
        raise UsageError(f'There is no direction {direction!r}.', "Give 'inject' or 'remove'.")
    anatomy = _anatomy_pull_back(anatomy_velocity, plan, plan.grid)
    signed = severity if direction == 'inject' else -severity
    return _conjugate_log_jacobian(anatomy_velocity, anatomy, plan, signed)


def _scaled(plan: AtrophyField, severity: float) -> torch.Tensor:
    return torch.from_numpy(plan.velocity)[None] * float(severity)


def _anatomy_pull_back(velocity: np.ndarray | None, plan: AtrophyField, grid: Grid) -> torch.Tensor:
    if not grid.matches(plan.grid):
        raise UsageError(
            'The planned change lives on another grid.', 'Plan it on the grid of the subject.'
        )
    if velocity is None:
        return torch.zeros(1, 3, *grid.shape)
    return exponential(-torch.from_numpy(np.asarray(velocity, np.float32))[None], grid)


def _conjugate_log_jacobian(
    velocity: np.ndarray | None, anatomy: torch.Tensor, plan: AtrophyField, severity: float
) -> np.ndarray:
    """Log det DF by the chain rule: logJ_D(a(p)) + logJ_a(p) - logJ_a(F(p)).

    Smoother than differences of the threefold composition, and exactly 0 at severity 0.
    """
    grid = plan.grid
    if severity == 0:
        return np.zeros(grid.shape, np.float32)
    disease = exponential(_scaled(plan, severity), grid)
    change = log_jacobian(disease, grid)
    if velocity is None:
        return change[0, 0].numpy()
    back = exponential(torch.from_numpy(np.asarray(velocity, np.float32))[None], grid)
    moved = compose(compose(anatomy, disease, grid), back, grid)
    own = log_jacobian(anatomy, grid)
    total = warp(change, anatomy, grid, padding='border') + own
    return (total - warp(own, moved, grid, padding='border'))[0, 0].numpy()
