"""One replicate of a real brain: a random anatomy, and a change or a sham, in one pull-back.

Let T be the brain in template space, a = exp(-w) the pull-back of the replicate's anatomy, D the
planted change and S a sham. A patient's image is T o D^-1 o a, a control's T o S^-1 o a. What is
observed has its own anatomy c, the pull-back of everything but the change (a for a patient,
S^-1 o a for a control), and the change seen from there is F = c^-1 o D o c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from bids_interp.errors import UsageError
from bids_interp.phantom.change.anatomy import BOX, sample_anatomy
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.sham import sham
from bids_interp.spatial import Grid, compose, count_folded, exponential, log_jacobian, warp

#: Voxel size of the deformations: the edges of a change are 3 mm soft.
FIELD_MM = 2.0
#: The grid reaches this far beyond the template's brain; anatomies fade to nothing there.
MARGIN_MM = 20.0
#: Standard deviation of a replicate's anatomy.
ANATOMY_MM = 2.0
_TRIES = 10


class Warp(NamedTuple):
    """What makes one replicate; float32 arrays on the template-space grid of the plan."""

    #: (3, X, Y, Z) mm: replicate = warp(brain, pull_back), the only resampling.
    pull_back: np.ndarray
    #: (X, Y, Z) exact log-Jacobian of the change, on the grid of the observed image; None where
    #: nothing is planted.
    truth: np.ndarray | None
    #: 'remove' for a patient, 'inject' for a control.
    direction: str
    #: Severity that the truth belongs to: the patient's own, 1 for a control.
    known: float


def field_grid(brain: Grid, spacing_mm: float = FIELD_MM) -> Grid:
    """Grid of the deformations around the brain of a template.

    Parameters
    ----------
    brain : Grid
        Field of view of the template's brain, axes along the world's.
    spacing_mm : float
        Voxel size.

    Returns
    -------
    Grid
        `MARGIN_MM` larger on each side, within the box in which anatomies are drawn.
    """
    ends = np.stack([brain.affine[:3, 3], (brain.affine @ [*np.array(brain.shape) - 1, 1])[:3]])
    low = np.maximum(ends.min(0) - MARGIN_MM, BOX[0])
    high = np.minimum(ends.max(0) + MARGIN_MM, BOX[1])
    sizes = np.floor((high - low) / spacing_mm + 1e-6).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, brain.space)


def fade(grid: Grid, margin_mm: float = MARGIN_MM) -> np.ndarray:
    """Window (X, Y, Z) float32: 0 at the faces of a grid, 1 from `margin_mm` inwards, smooth."""
    window = np.ones(grid.shape, np.float32)
    for axis, (size, step) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        depth = step * np.minimum(np.arange(size), np.arange(size)[::-1])
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(depth / margin_mm, 1))
        window *= ramp.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return window


def draw_warp(
    plan: AtrophyField,
    seed: Sequence[int],
    patient: bool,
    severity: float,
    *,
    null: bool = False,
    anatomy_mm: float = ANATOMY_MM,
    scaling: float = 1.0,
) -> Warp:
    """Draw one replicate.

    Parameters
    ----------
    plan : AtrophyField
        The change, on a grid of :func:`field_grid`.
    seed : sequence of int
        Seed of this replicate; patients and controls draw the same numbers.
    patient : bool
        Whether the change is planted; otherwise a sham of the same size is.
    severity : float
        Factor on the planned velocity, and on the sham's.
    null : bool
        Patients get a sham, too.
    anatomy_mm : float
        Standard deviation of the anatomy's velocity; 0 leaves the brain its own.
    scaling : float
        Global scaling of the head, 1.02 makes it 2 % longer in each direction.

    Returns
    -------
    Warp
        Pull-back and truth.

    Raises
    ------
    UsageError
        Ten draws in a row fold.
    """
    rng = np.random.default_rng(list(seed))
    grid = plan.grid
    window = fade(grid)
    # What a change does to the far field ends within the margin; its truth is that of this field.
    plan = replace(plan, velocity=(window * plan.velocity).astype(np.float32))
    for _ in range(_TRIES):
        own = window * (sample_anatomy(grid, rng, anatomy_mm) + _swell(grid, scaling))
        decoy = sham(plan, rng)
        with torch.no_grad():
            made = _compose(plan, own, decoy, patient, severity, null)
            if not count_folded(torch.from_numpy(made.pull_back)[None], grid):
                return made
    raise UsageError(
        f'Warps of severity {severity:.2f} with anatomies of {anatomy_mm} mm fold.',
        'Lower the severity or choose a weaker effect.',
    )


def _swell(grid: Grid, scaling: float) -> np.ndarray:
    """Velocity of a scaling about the middle of the grid."""
    if scaling == 1:
        return np.zeros((3, *grid.shape), np.float32)
    centre = grid.affine @ np.append((np.array(grid.shape) - 1) / 2, 1.0)
    offset = grid.world_coordinates() - centre[:3, None, None, None]
    return (np.log(scaling) * offset).astype(np.float32)


def _compose(
    plan: AtrophyField,
    own: np.ndarray,
    decoy: AtrophyField,
    patient: bool,
    severity: float,
    null: bool,
) -> Warp:
    grid = plan.grid
    direction, known = ('remove', severity) if patient else ('inject', 1.0)
    velocity = torch.from_numpy(own.astype(np.float32))[None]
    anatomy, back = exponential(-velocity, grid), exponential(velocity, grid)
    change = torch.from_numpy(plan.velocity)[None]
    if patient and not null:
        taken = exponential(-severity * change, grid)
        pull_back = compose(anatomy, taken, grid)
        truth = seen_from(anatomy, back, taken, grid)
        return Warp(pull_back[0].numpy(), truth, direction, known)
    sham_velocity = severity * torch.from_numpy(decoy.velocity)[None]
    pull_back = compose(anatomy, exponential(-sham_velocity, grid), grid)
    if null:
        return Warp(pull_back[0].numpy(), None, direction, known)
    forward = compose(exponential(sham_velocity, grid), back, grid)
    truth = seen_from(pull_back, forward, exponential(change, grid), grid)
    return Warp(pull_back[0].numpy(), truth, direction, known)


def seen_from(
    anatomy: torch.Tensor, back: torch.Tensor, change: torch.Tensor, grid: Grid
) -> np.ndarray:
    """Log det of back o change o anatomy, by the chain rule.

    Parameters
    ----------
    anatomy, back : torch.Tensor
        Displacement (1, 3, X, Y, Z) mm from the observed image to the template, and its inverse.
    change : torch.Tensor
        Displacement of the change in the template.
    grid : Grid
        Where they live.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32.

    Notes
    -----
    logJ_change(c(p)) + logJ_c(p) - logJ_c(F(p)): smoother than differences of the threefold
    composition, and exactly 0 without a change.
    """
    moved = compose(compose(anatomy, change, grid), back, grid)
    own = log_jacobian(anatomy, grid)
    total = warp(log_jacobian(change, grid), anatomy, grid, padding='border') + own
    return (total - warp(own, moved, grid, padding='border'))[0, 0].numpy()
