"""Consistency of simulations along the dose and between folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from bids_interp.constants import DIRECTION_SIGNS
from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.explain.explainer import (
    FoldPrediction,
    Response,
    apply_field,
    classify,
)
from bids_interp.spatial import compose, flow, forward_map, pull_back, warp


def has_crossed(probability: float, shift: float, direction: str) -> bool:
    """Return True if a simulated image is on the requested side of the decision boundary.

    Without a probability (regression), a shift by half a standard deviation is needed.

    Examples
    --------
    >>> has_crossed(0.7, 0.1, 'inject'), has_crossed(0.7, -0.1, 'remove')
    (True, False)
    >>> has_crossed(float('nan'), -0.6, 'remove')
    True
    """
    sign = DIRECTION_SIGNS[direction]
    if np.isnan(probability):
        return bool(sign * shift > 0.5)
    return bool(sign * (probability - 0.5) > 0)


def dose_monotonicity(rows: Sequence[Response], direction: str) -> float:
    """Return the share of consecutive doses between which the mean logit moves as requested.

    Parameters
    ----------
    rows : sequence of Response
        Result of :func:`bids_interp.models.explain.explainer.dose_response`.
    direction : {'inject', 'remove'}
        The logit should rise for inject and fall for remove.

    Returns
    -------
    float
        In [0, 1]; NaN for a single dose.

    Examples
    --------
    >>> rows = [
    ...     Response(direction, dose, 0, logit, 0.5, logit, logit)
    ...     for direction, dose, logit in (('none', 0, 0), ('inject', 0.5, 2), ('inject', 1, 1.5))
    ... ]
    >>> dose_monotonicity(rows, 'inject')
    0.5
    """
    chosen = [row for row in rows if row.direction in ('none', direction)]
    doses = sorted({row.dose for row in chosen})
    means = [np.mean([row.logit for row in chosen if row.dose == dose]) for dose in doses]
    steps = DIRECTION_SIGNS[direction] * np.diff(means)
    return float(np.mean(steps > 0)) if len(steps) else float('nan')


def mean_field(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], dose: float, device: str
) -> torch.Tensor:
    """Return the mean field (1, 3, X, Y, Z) of the folds for one image at a signed dose."""
    doses = torch.tensor([dose], device=device)
    fields = [bundle.fold(index, device).field(image.to(device), doses).cpu() for index in folds]
    return torch.stack(fields).mean(dim=0)


@torch.no_grad()
def identity_error(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], device: str = 'cpu'
) -> float:
    """Return the largest difference between an image (1, 1, X, Y, Z) and its dose-0 simulation."""
    field = mean_field(bundle, image, folds, 0.0, device)
    simulated = warp(image, pull_back(field, bundle.grid, bundle.field_kind), bundle.grid)
    return float((simulated - image).abs().max())


@torch.no_grad()
def composition_rmse(
    bundle: ModelBundle,
    image: torch.Tensor,
    field: torch.Tensor,
    direction: str,
    dose: float,
    folds: Sequence[int],
    device: str = 'cpu',
) -> float:
    """Return the difference between two half doses in sequence and the whole dose at once.

    The simulator sees the half-simulated image before the second half. If the velocity is the same
    for all images, both agree up to interpolation, since exp(v/2) exp(v/2) = exp(v). A simulator
    that depends on the image, or that returns displacements, need not agree.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    field : torch.Tensor
        (1, 3, X, Y, Z) field of this image for dose 1 in this direction, sign included.
    direction : {'inject', 'remove'}
        Direction of the simulation.
    dose : float
        The whole dose, unsigned.
    folds : sequence of int
        Folds whose mean field is used.
    device : str
        Device of the networks.

    Returns
    -------
    float
        Root mean square length of the difference of the displacements inside the brain, mm.
    """
    grid, kind = bundle.grid, bundle.field_kind
    first, backward = flow(0.5 * dose * field, grid, kind)
    halfway = warp(image, backward, grid)
    again = mean_field(bundle, halfway, folds, DIRECTION_SIGNS[direction], device)
    twice = compose(first, forward_map(0.5 * dose * again, grid, kind), grid)
    difference = twice - forward_map(dose * field, grid, kind)
    return rms_length(difference, bundle.brain_mask)


def rms_length(field: torch.Tensor, mask: np.ndarray) -> float:
    """Return the root mean square length of vectors (1, 3, X, Y, Z) inside a mask."""
    inside = torch.from_numpy(mask)
    return float(field[0].square().sum(dim=0)[inside].mean().sqrt())


@torch.no_grad()
def transfer(
    bundle: ModelBundle,
    image: torch.Tensor,
    per_fold: Sequence[np.ndarray],
    folds: Sequence[int],
    direction: str,
    dose: float,
    observed: Mapping[int, FoldPrediction],
    device: str = 'cpu',
) -> tuple[float, float]:
    """Measure how the simulation of each fold changes the output of the other classifiers.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    per_fold : sequence of numpy.ndarray
        Field (3, X, Y, Z) of each fold for dose 1 in this direction.
    folds : sequence of int
        Numbers of these folds.
    direction : {'inject', 'remove'}
        Direction of the simulations.
    dose : float
        Unsigned dose.
    observed : mapping of int to FoldPrediction
        Predictions for the observed image, by fold.
    device : str
        Device of the networks.

    Returns
    -------
    shift_over_class_gap : float
        Mean over all pairs of folds of the logit shift, divided by the gap of the judging fold.
    flipped : float
        Share of the simulations after which the mean of the other folds is on the requested side,
        see :func:`has_crossed`. Both are NaN for fewer than two folds.
    """
    if len(folds) < 2 or not per_fold:
        return float('nan'), float('nan')
    shares, crossed = [], []
    for maker, field in zip(folds, per_fold, strict=True):
        judges = [index for index in folds if index != maker]
        simulated = apply_field(image, field, dose, bundle.grid, bundle.field_kind)
        after = classify(bundle, simulated, judges, device)
        shifts = [p.logit - observed[p.fold].logit for p in after]
        gaps = [bundle.fold(index, device).class_gap for index in judges]
        shares.append(np.mean(np.array(shifts) / gaps))
        probability = float(np.mean([p.probability for p in after]))
        crossed.append(has_crossed(probability, float(np.mean(shifts)), direction))
    return float(np.mean(shares)), float(np.mean(crossed))
