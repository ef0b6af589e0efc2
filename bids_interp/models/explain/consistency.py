"""Whether simulations agree with themselves along the dose, and with the other folds."""

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
    """Whether a simulated image lies on the side that the direction asks for.

    Without a probability (regression): whether it moved by half a standard deviation.

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
    """Share of consecutive doses between which the mean logit moves the right way.

    Parameters
    ----------
    rows : sequence of Response
        Of :func:`bids_interp.models.explain.explainer.dose_response`.
    direction : {'inject', 'remove'}
        Up for inject, down for remove.

    Returns
    -------
    float
        In [0, 1]; NaN where there is one dose only.

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
    """Field (1, 3, X, Y, Z) of one image at a signed dose, mean over the folds."""
    asked = torch.tensor([dose], device=device)
    fields = [bundle.fold(index, device).field(image.to(device), asked).cpu() for index in folds]
    return torch.stack(fields).mean(dim=0)


@torch.no_grad()
def identity_error(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], device: str = 'cpu'
) -> float:
    """Largest difference between an image (1, 1, X, Y, Z) and its simulation at dose 0."""
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
    """How far half the dose, twice, ends from the whole dose at once.

    The simulator sees the half simulated image before the second half. For one velocity that is
    the same for all images both are the same up to interpolation, since exp(v/2) exp(v/2) = exp(v);
    a simulator that looks at the image, or puts out displacements, need not agree.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    field : torch.Tensor
        (1, 3, X, Y, Z) field of this image for dose 1 in this direction, sign included.
    direction : {'inject', 'remove'}
        Of the simulation.
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
    """Root mean square length of the vectors of a field (1, 3, X, Y, Z) inside a mask."""
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
    """What the classifiers of the other folds say of the simulation of each fold alone.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    per_fold : sequence of numpy.ndarray
        For each fold its (3, X, Y, Z) field for dose 1 in this direction.
    folds : sequence of int
        Numbers of these folds.
    direction : {'inject', 'remove'}
        Of the simulations.
    dose : float
        Unsigned.
    observed : mapping of int to FoldPrediction
        Answers to the observed image, by fold.
    device : str
        Device of the networks.

    Returns
    -------
    shift_over_class_gap : float
        Mean over all pairs of folds of the shift of the logit over the gap of the judge.
    flipped : float
        Share of the simulations after which the other folds together are on the side asked for,
        see :func:`has_crossed`. Both are NaN for fewer than two
        folds.
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
