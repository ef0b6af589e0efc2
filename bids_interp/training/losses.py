"""Losses of the simulator and the gradient penalty of the classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bids_interp.spatial import Grid, jacobian_determinant


def shift_hinge(shift: torch.Tensor, dose: torch.Tensor, class_gap: float) -> torch.Tensor:
    """One-sided hinge on the logit shift, in units of the class gap.

    ``relu(|d| D - sign(d) shift) / D``, averaged over the batch. The simulated logit must move by
    at least the dose times the class gap; larger shifts are not penalised.

    Parameters
    ----------
    shift, dose : torch.Tensor
        (B,) change of the logit, and signed dose.
    class_gap : float
        Class gap D.

    Examples
    --------
    >>> shift_hinge(torch.tensor([2.0, -1.0]), torch.tensor([1.0, -1.0]), 2.0).item()
    0.25
    """
    return F.relu(dose.abs() - dose.sign() * shift / class_gap).mean()


def roughness(velocity: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Mean squared gradient of a velocity (B, 3, X, Y, Z), dimensionless (mm per mm)."""
    total = velocity.new_zeros(())
    for axis, spacing in enumerate(grid.spacing):
        total = total + (velocity.diff(dim=2 + axis) / float(spacing)).square().mean()
    return total


def mean_difference(steps: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference between neighbours of a displacement, averaged over the axes.

    The published smoothness. An axis of one voxel does not count.

    Parameters
    ----------
    steps : torch.Tensor
        (B, 3, X, Y, Z) in voxels along i, j, k.
    """
    axes = [axis for axis, size in enumerate(steps.shape[2:]) if size > 1]
    return torch.stack([steps[:, axes].diff(dim=2 + axis).abs().mean() for axis in axes]).mean()


def minimality(displacement: torch.Tensor, grid: Grid, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute log-Jacobian inside the brain.

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z) in mm, forward.
    grid : Grid
        Grid of the displacement.
    mask : torch.Tensor
        (1, 1, X, Y, Z) float brain mask.
    """
    log_j = jacobian_determinant(displacement, grid).clamp_min(1e-3).log()
    return (log_j.abs() * mask).sum() / (mask.sum() * displacement.shape[0])


def gradient_penalty(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean squared norm of the gradient of logits by images, differentiable."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3, 4)).mean()
