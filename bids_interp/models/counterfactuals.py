"""Numbers on a simulation: does it change the answer, and at which price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bids_interp.models.bundle import ModelBundle
from bids_interp.models.explainer import DIRECTIONS, Simulation, classify
from bids_interp.spatial import (
    count_folded,
    digital_folding_volume,
    flow,
    log_jacobian,
    warp,
)


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
    sign = DIRECTIONS[direction]
    if np.isnan(probability):
        return bool(sign * shift > 0.5)
    return bool(sign * (probability - 0.5) > 0)


@torch.no_grad()
def counterfactual_metrics(
    bundle: ModelBundle,
    image: torch.Tensor,
    simulation: Simulation,
    doses: Sequence[float] = (1.0,),
    device: str = 'cpu',
) -> list[dict[str, Any]]:
    """Counterfactual numbers on the model's grid, one row per direction and dose.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    simulation : Simulation
        Of :func:`simulate`.
    doses : sequence of float
        Doses to evaluate.
    device : str
        Device of the networks.

    Returns
    -------
    list of dict
        ``shift`` (mean logit change), ``shift_over_class_gap``, ``flipped`` (the mean probability
        crosses one half in the direction asked for, or lay beyond it already; see
        :func:`has_crossed`), ``probability``,
        ``n_folded`` and ``digital_folding_mm3``, ``mean_abs_log_jacobian``,
        ``log_jacobian_p01`` / ``p99`` inside the brain, ``displacement_max_mm``,
        ``reversibility_rmse`` (there and back, inside the brain, in units of the input) and
        ``minimality_mm`` (mean displacement inside the brain).
    """
    observed = classify(bundle, image, simulation.folds, device)
    before = float(np.mean([p.logit for p in observed]))
    gap = float(np.mean([bundle.fold(i, device).class_gap for i in simulation.folds]))
    mask = torch.from_numpy(bundle.brain_mask)
    rows = []
    for direction, velocity in simulation.velocity.items():
        for dose in doses:
            field = torch.from_numpy(velocity)[None] * dose
            forward, backward = flow(field, bundle.grid, simulation.kind)
            simulated = warp(image, backward, bundle.grid)
            returned = warp(simulated, forward, bundle.grid)
            after = classify(bundle, simulated, simulation.folds, device)
            probability = float(np.mean([p.probability for p in after]))
            log_j = log_jacobian(forward, bundle.grid)[0, 0][mask]
            length = forward[0].square().sum(dim=0).sqrt()[mask]
            shift = float(np.mean([p.logit for p in after])) - before
            rows.append(
                {
                    'direction': direction,
                    'dose': float(dose),
                    'probability': probability,
                    'shift': shift,
                    'shift_over_class_gap': shift / gap,
                    'flipped': has_crossed(probability, shift, direction),
                    'n_folded': count_folded(forward, bundle.grid),
                    'digital_folding_mm3': digital_folding_volume(forward, bundle.grid),
                    'mean_abs_log_jacobian': float(log_j.abs().mean()),
                    'log_jacobian_p01': float(torch.quantile(log_j, 0.01)),
                    'log_jacobian_p99': float(torch.quantile(log_j, 0.99)),
                    'displacement_max_mm': float(length.max()),
                    'minimality_mm': float(length.mean()),
                    'reversibility_rmse': float(
                        (returned - image)[0, 0][mask].square().mean().sqrt()
                    ),
                }
            )
    return rows
