"""Warps of real brains into replicates: a random anatomy with a change or sham, in one pull-back.

Let T be the brain in template space, a = exp(-w) the pull-back of the replicate's anatomy, D the
planted change and S a sham. The image of a patient is T o D^-1 o a, that of a control T o S^-1 o a.
The observed anatomy c is the pull-back of everything except the change (a for a patient, S^-1 o a
for a control). In this anatomy, the change is F = c^-1 o D o c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from bids_interp.errors import UsageError
from bids_interp.phantom.change.anatomy import BOX, sample_anatomy
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.boundary import PlantedChange
from bids_interp.phantom.change.conjugate import (
    conjugate_displacement,
    conjugate_log_jacobian,
)
from bids_interp.phantom.change.sham import draw_sham
from bids_interp.spatial import Grid, compose, count_folded, exponential

#: Voxel size of the deformations; the soft edges of a change are 3 mm wide.
FIELD_MM = 2.0
#: Margin of the grid around the template's brain, in which anatomies fade to zero.
MARGIN_MM = 20.0
#: Standard deviation of the anatomy of a replicate.
ANATOMY_MM = 2.0
_TRIES = 10


class ReplicateWarp(NamedTuple):
    """Warp to one replicate; float32 arrays on the template-space grid of the atrophy."""

    #: (3, X, Y, Z) in mm: replicate = warp(brain, pull_back), the only resampling.
    pull_back: np.ndarray
    #: (X, Y, Z) exact log-Jacobian of the change on the grid of the observed image; None without
    #: a change.
    truth: np.ndarray | None
    #: (3, X, Y, Z) in mm, displacement of the change, the movement of tissue in the observed image.
    motion: np.ndarray | None
    #: 'remove' for a patient, 'inject' for a control.
    direction: str
    #: Severity of the truth: the severity of a patient, 1 for a control.
    truth_severity: float


def field_grid(brain: Grid, spacing_mm: float = FIELD_MM) -> Grid:
    """Return the grid of the deformations around the brain of a template.

    Parameters
    ----------
    brain : Grid
        Field of view of the template's brain, with axes along the world axes.
    spacing_mm : float
        Voxel size.

    Returns
    -------
    Grid
        Grid that is `MARGIN_MM` larger on each side, within the box of the random anatomies.
    """
    ends = np.stack([brain.affine[:3, 3], (brain.affine @ [*np.array(brain.shape) - 1, 1])[:3]])
    low = np.maximum(ends.min(0) - MARGIN_MM, BOX[0])
    high = np.minimum(ends.max(0) + MARGIN_MM, BOX[1])
    sizes = np.floor((high - low) / spacing_mm + 1e-6).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, brain.space)


def fade(grid: Grid, margin_mm: float = MARGIN_MM) -> np.ndarray:
    """Return a smooth window (X, Y, Z) float32: 0 at the faces, 1 from `margin_mm` inwards."""
    window = np.ones(grid.shape, np.float32)
    for axis, (size, step) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        depth = step * np.minimum(np.arange(size), np.arange(size)[::-1])
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(depth / margin_mm, 1))
        window *= ramp.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return window


def draw_warp(
    atrophy: PlantedChange,
    seed: Sequence[int],
    patient: bool,
    severity: float,
    *,
    null: bool = False,
    anatomy_mm: float = ANATOMY_MM,
    scaling: float = 1.0,
    others: Sequence[PlantedChange] = (),
) -> ReplicateWarp:
    """Draw the warp of one replicate.

    Parameters
    ----------
    atrophy : AtrophyField or BoundaryChange
        Change on a grid of :func:`field_grid`.
    seed : sequence of int
        Seed of this replicate; patients and controls draw the same numbers.
    patient : bool
        Whether the change is planted, instead of a sham of the same size.
    severity : float
        Factor on the velocity of change and sham.
    null : bool
        Whether patients get a sham, too.
    anatomy_mm : float
        Standard deviation of the velocity of the anatomy; 0 keeps the anatomy of the brain.
    scaling : float
        Global scaling of the head; 1.02 makes it 2 % longer in each direction.
    others : sequence of AtrophyField or BoundaryChange
        Changes of other subtypes of patients, on the same grid. A control may get any of them, so
        that its truth is the mean over all subtypes.

    Returns
    -------
    ReplicateWarp
        Pull-back and truth.

    Raises
    ------
    UsageError
        If ten draws in a row fold.
    """
    rng = np.random.default_rng(list(seed))
    grid = atrophy.grid
    window = fade(grid)
    # The window ends the far field within the margin; the truth is computed from this field.
    atrophy, *others = (change.faded(window) for change in (atrophy, *others))
    for _ in range(_TRIES):
        own = window * (sample_anatomy(grid, rng, anatomy_mm) + _swell(grid, scaling))
        decoy = draw_sham(atrophy, rng)
        with torch.no_grad():
            made = _compose(
                [atrophy] if patient else [atrophy, *others], own, decoy, patient, severity, null
            )
            if not count_folded(torch.from_numpy(made.pull_back)[None], grid):
                return made
    raise UsageError(
        f'Warps of severity {severity:.2f} with anatomies of {anatomy_mm} mm always fold.',
        'Lower the severity or choose a weaker effect.',
    )


def _swell(grid: Grid, scaling: float) -> np.ndarray:
    """Return the velocity of a scaling about the centre of the grid."""
    if scaling == 1:
        return np.zeros((3, *grid.shape), np.float32)
    centre = grid.affine @ np.append((np.array(grid.shape) - 1) / 2, 1.0)
    offset = grid.world_coordinates() - centre[:3, None, None, None]
    return (np.log(scaling) * offset).astype(np.float32)


def _compose(
    changes: Sequence[PlantedChange],
    own: np.ndarray,
    decoy: AtrophyField,
    patient: bool,
    severity: float,
    null: bool,
) -> ReplicateWarp:
    """Compose a replicate; the first change is planted into patients."""
    grid = changes[0].grid
    direction, truth_severity = ('remove', severity) if patient else ('inject', 1.0)
    velocity = torch.from_numpy(own.astype(np.float32))[None]
    anatomy, back = exponential(-velocity, grid), exponential(velocity, grid)
    if patient and not null:
        taken = changes[0].displacement(-severity)
        pull_back = compose(anatomy, taken, grid)
        observed, wanted = (anatomy, back), [taken]
    else:
        sham_velocity = severity * torch.from_numpy(decoy.velocity)[None]
        pull_back = compose(anatomy, exponential(-sham_velocity, grid), grid)
        observed = (pull_back, compose(exponential(sham_velocity, grid), back, grid))
        wanted = [] if null else [change.displacement(1.0) for change in changes]
    if not wanted:
        return ReplicateWarp(pull_back[0].numpy(), None, None, direction, truth_severity)
    truth = np.mean([conjugate_log_jacobian(*observed, part, grid) for part in wanted], axis=0)
    motion = torch.stack([conjugate_displacement(*observed, part, grid) for part in wanted])
    return ReplicateWarp(
        pull_back[0].numpy(), truth, motion.mean(dim=0)[0].numpy(), direction, truth_severity
    )
