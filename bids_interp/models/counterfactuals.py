"""Numbers on a simulation: does it change the answer, and at which price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bids_interp.models.bundle import ModelBundle
from bids_interp.models.consistency import (
    composition_rmse,
    dose_monotonicity,
    has_crossed,
    identity_error,
    transfer,
)
from bids_interp.models.explainer import (
    DOSE_GRID,
    FoldPrediction,
    Simulation,
    classify,
    dose_response,
)
from bids_interp.models.realism import distance_from_training
from bids_interp.spatial import (
    count_folded,
    digital_folding_volume,
    flow,
    log_jacobian,
    warp,
)


@torch.no_grad()
def counterfactual_metrics(
    bundle: ModelBundle,
    image: torch.Tensor,
    simulation: Simulation,
    doses: Sequence[float] = (1.0,),
    device: str = 'cpu',
    responses: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Counterfactual numbers on the model's grid, one row per direction and dose.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    simulation : Simulation
        Of :func:`simulate`. Without fields of each fold there is no transfer.
    doses : sequence of float
        Doses to evaluate.
    device : str
        Device of the networks.
    responses : sequence of mapping, optional
        Of :func:`dose_response`, where it was computed before.

    Returns
    -------
    list of dict
        ``shift`` (mean logit change), ``shift_over_class_gap``, ``flipped`` (the mean probability
        crosses one half in the direction asked for, or lay beyond it already; see
        :func:`has_crossed`), ``probability``,
        ``n_folded`` and ``digital_folding_mm3``, ``mean_abs_log_jacobian``,
        ``log_jacobian_p01`` / ``p99`` inside the brain, ``displacement_max_mm``,
        ``minimality_mm`` (mean displacement inside the brain),
        ``reversibility_rmse`` (there and back, inside the brain, in units of the input), and those
        of :mod:`bids_interp.models.consistency` and :mod:`bids_interp.models.realism`:
        ``dose_monotonicity``, ``composition_rmse_mm``, ``identity_error``,
        ``transfer_shift_over_class_gap``, ``transfer_flipped``, ``realism_z`` and
        ``realism_z_observed``; what cannot be computed is NaN.
    """
    folds = simulation.folds
    observed = {p.fold: p for p in classify(bundle, image, folds, device)}
    if responses is None:
        along = sorted({*DOSE_GRID, *doses})
        responses = dose_response(bundle, image, simulation, along, device)
    unchanged = {
        'identity_error': identity_error(bundle, image, folds, device),
        'realism_z_observed': _realism(bundle, image),
    }
    rows = []
    for direction, velocity in simulation.velocity.items():
        field = torch.from_numpy(velocity)[None]
        monotone = dose_monotonicity(responses, direction)
        per_fold = list(simulation.per_fold.get(direction, ()))
        for dose in doses:
            simulated, geometry = _geometry(bundle, image, field * dose, simulation.kind)
            judged = transfer(bundle, image, per_fold, folds, direction, dose, observed, device)
            rows.append(
                {
                    'direction': direction,
                    'dose': float(dose),
                    **_answer(bundle, simulated, observed, direction, device),
                    'dose_monotonicity': monotone,
                    'transfer_shift_over_class_gap': judged[0],
                    'transfer_flipped': judged[1],
                    **geometry,
                    'composition_rmse_mm': composition_rmse(
                        bundle, image, field, direction, dose, folds, device
                    ),
                    'identity_error': unchanged['identity_error'],
                    'realism_z': _realism(bundle, simulated),
                    'realism_z_observed': unchanged['realism_z_observed'],
                }
            )
    return rows


def _answer(
    bundle: ModelBundle,
    simulated: torch.Tensor,
    observed: Mapping[int, FoldPrediction],
    direction: str,
    device: str,
) -> dict[str, Any]:
    """What the folds say of a simulated image, against the observed one."""
    after = classify(bundle, simulated, list(observed), device)
    gap = float(np.mean([bundle.fold(index, device).class_gap for index in observed]))
    before = float(np.mean([p.logit for p in observed.values()]))
    shift = float(np.mean([p.logit for p in after])) - before
    probability = float(np.mean([p.probability for p in after]))
    return {
        'probability': probability,
        'shift': shift,
        'shift_over_class_gap': shift / gap,
        'flipped': has_crossed(probability, shift, direction),
    }


def _geometry(
    bundle: ModelBundle, image: torch.Tensor, field: torch.Tensor, kind: str
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Simulated image (1, 1, X, Y, Z) of a field, and what it costs and breaks."""
    mask = torch.from_numpy(bundle.brain_mask)
    forward, backward = flow(field, bundle.grid, kind)
    simulated = warp(image, backward, bundle.grid)
    returned = warp(simulated, forward, bundle.grid)
    log_j = log_jacobian(forward, bundle.grid)[0, 0][mask]
    length = forward[0].square().sum(dim=0).sqrt()[mask]
    return simulated, {
        'n_folded': count_folded(forward, bundle.grid),
        'digital_folding_mm3': digital_folding_volume(forward, bundle.grid),
        'mean_abs_log_jacobian': float(log_j.abs().mean()),
        'log_jacobian_p01': float(torch.quantile(log_j, 0.01)),
        'log_jacobian_p99': float(torch.quantile(log_j, 0.99)),
        'displacement_max_mm': float(length.max()),
        'minimality_mm': float(length.mean()),
        'reversibility_rmse': float((returned - image)[0, 0][mask].square().mean().sqrt()),
    }


def _realism(bundle: ModelBundle, image: torch.Tensor) -> float:
    """Distance from the training images; NaN for a bundle that does not describe them."""
    statistics = bundle.config.get('training_intensities') or {}
    return distance_from_training(image, statistics, bundle.grid, bundle.brain_mask)
