"""Conjugate of a change by an anatomy: the change as seen from the image of a subject.

With the anatomy c, a change D of the template is F = c^-1 o D o c in the observed image.
"""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.spatial import Grid, compose, log_jacobian, warp


def conjugate_displacement(
    anatomy: torch.Tensor, back: torch.Tensor, change: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Displacement (1, 3, X, Y, Z) of F = back o change o anatomy in mm, the movement of tissue.

    Parameters
    ----------
    anatomy, back, change, grid
        See :func:`conjugate_log_jacobian`.
    """
    return compose(compose(anatomy, change, grid), back, grid)


def conjugate_log_jacobian(
    anatomy: torch.Tensor, back: torch.Tensor, change: torch.Tensor, grid: Grid
) -> np.ndarray:
    """Log-Jacobian of F = back o change o anatomy, by the chain rule.

    Parameters
    ----------
    anatomy, back : torch.Tensor
        Displacement (1, 3, X, Y, Z) in mm from the observed image to the template, and its inverse.
    change : torch.Tensor
        Displacement of the change in the template.
    grid : Grid
        Grid of the displacements.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32.

    Notes
    -----
    logJ_change(c(p)) + logJ_c(p) - logJ_c(F(p)), with the anatomy c, is smoother than differences
    of the threefold composition, and exactly 0 without a change.
    """
    moved = conjugate_displacement(anatomy, back, change, grid)
    own = log_jacobian(anatomy, grid)
    total = warp(log_jacobian(change, grid), anatomy, grid, padding='border') + own
    return (total - warp(own, moved, grid, padding='border'))[0, 0].numpy()
