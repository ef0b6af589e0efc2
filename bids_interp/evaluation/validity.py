"""Validity of simulations, and their mean log-Jacobian maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bids_interp.models.bundle.fold_metrics import ContrastValidity, DirectionValidity
from bids_interp.models.networks.simulator import AnySimulator
from bids_interp.models.target import Contrast, Target
from bids_interp.spatial import Grid, flow, log_jacobian, warp


def class_centre(scores: np.ndarray, labels: np.ndarray, target: Target, number: int) -> float:
    """Midpoint between the median scores of the classes of a contrast; 0 for a regression."""
    if target.kind == 'regression':
        return 0.0
    contrast = target.contrasts[number]
    sides = [
        scores[labels == target.classes.index(name)]
        for name in (contrast.negative, contrast.positive)
    ]
    return float(np.mean([np.median(side) for side in sides if len(side)]))


@torch.no_grad()
def image_scores(
    classifier: nn.Module, images: torch.Tensor, contrast: Contrast, batch: int = 8
) -> np.ndarray:
    """Compute scores (N,) of images (N, 1, X, Y, Z) by a classifier in evaluation mode."""
    device = next((p.device for p in classifier.parameters()), torch.device('cpu'))
    weights = torch.tensor(contrast.weights, device=device)
    parts = [(classifier(p.to(device)).float() @ weights).cpu() for p in images.split(batch)]
    return torch.cat(parts).numpy()


@torch.no_grad()
def simulated_scores(
    classifier: nn.Module,
    simulator: AnySimulator,
    images: torch.Tensor,
    dose: float,
    contrast: Contrast,
    number: int,
    grid: Grid,
    batch: int = 8,
) -> np.ndarray:
    """Compute scores of simulations; see :func:`image_scores` for scores of images.

    Parameters
    ----------
    classifier, simulator : torch.nn.Module
        Networks in evaluation mode on one device.
    images : torch.Tensor
        (N, 1, X, Y, Z).
    dose : float
        Signed dose.
    contrast, number : Contrast, int
        Contrast and its index.
    grid : Grid
        Grid of the images.
    batch : int
        Images per batch.

    Returns
    -------
    numpy.ndarray
        (N,) scores.
    """
    device = next(simulator.parameters()).device
    found = []
    for part in images.split(batch):
        part = part.to(device)
        field = simulator(part, torch.full((len(part),), dose, device=device), number)
        _, pull_back = flow(field, grid, simulator.field)
        found.append(image_scores(classifier, warp(part, pull_back, grid), contrast, batch))
    return np.concatenate(found)


def validity(
    classifier: nn.Module,
    simulator: AnySimulator,
    images: torch.Tensor,
    labels: np.ndarray,
    target: Target,
    gaps: list[float],
    grid: Grid,
) -> list[ContrastValidity]:
    """Share of held-out simulations at dose 1 that cross the class midpoint, for each contrast.

    Images of the negative class are injected and those of the positive class removed. In a
    regression, all images are used in both directions, and crossing means a shift of half a
    standard deviation.
    """
    rows = []
    for number, contrast in enumerate(target.contrasts):
        sides: dict[str, DirectionValidity | None] = {}
        all_scores = image_scores(classifier, images, contrast)
        centre = class_centre(all_scores, labels, target, number)
        for direction, sign, side in (
            ('inject', 1.0, contrast.negative),
            ('remove', -1.0, contrast.positive),
        ):
            if target.kind == 'regression':
                chosen = np.arange(len(images))
            else:
                chosen = np.flatnonzero(labels == target.classes.index(side))
            if not len(chosen):
                sides[direction] = None
                continue
            after = simulated_scores(
                classifier, simulator, images[chosen], sign, contrast, number, grid
            )
            shift = sign * (after - all_scores[chosen])
            is_across = shift > 0.5 if target.kind == 'regression' else sign * (after - centre) > 0
            sides[direction] = DirectionValidity(
                len(chosen), float(is_across.mean()), float(np.median(shift)) / gaps[number]
            )
        rows.append(ContrastValidity(contrast.name, **sides))
    return rows


@torch.no_grad()
def mean_log_jacobian(
    simulator: AnySimulator,
    images: torch.Tensor,
    dose: float,
    number: int,
    grid: Grid,
) -> np.ndarray:
    """Mean log-Jacobian (X, Y, Z) of simulations of images (N, 1, X, Y, Z) at a signed dose."""
    device = next(simulator.parameters()).device
    total = np.zeros(grid.shape)
    for part in images.split(1):
        field = simulator(part.to(device), torch.full((1,), dose, device=device), number)
        forward, _ = flow(field, grid, simulator.field)
        total += log_jacobian(forward, grid)[0, 0].cpu().numpy()
    return (total / len(images)).astype(np.float32)
