"""Counterfactual metrics: change of the prediction, and cost of the simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.explain.consistency import (
    composition_rmse,
    dose_monotonicity,
    has_crossed,
    identity_error,
    transfer,
)
from bids_interp.models.explain.explainer import (
    DOSE_GRID,
    FoldPrediction,
    Response,
    Simulation,
    classify,
    dose_response,
)
from bids_interp.models.explain.realism import distance_from_training
from bids_interp.models.explain.volume_share import volume_share
from bids_interp.spatial import (
    count_folded,
    digital_folding_volume,
    flow,
    log_jacobian,
    warp,
)


@dataclass(frozen=True)
class _Shift:
    """Change of the prediction."""

    probability: float
    shift: float
    shift_over_class_gap: float
    flipped: bool


@dataclass(frozen=True)
class _Geometry:
    """Deformation of the brain."""

    n_folded: int
    digital_folding_mm3: float
    mean_abs_log_jacobian: float
    log_jacobian_p01: float
    log_jacobian_p99: float
    displacement_max_mm: float
    minimality_mm: float
    reversibility_rmse: float


@dataclass(frozen=True, kw_only=True)
class SimulationQuality:
    """Quality of the simulation for one direction and dose; undefined values are NaN.

    Parameters
    ----------
    direction, dose : str, float
        Direction and dose of the simulation.
    probability : float
        Mean probability over the folds.
    shift, shift_over_class_gap : float
        Mean change of the logit, absolute and divided by the class gap.
    flipped : bool
        The mean probability of the simulated image is beyond one half in the requested direction;
        see :func:`has_crossed`.
    dose_monotonicity, transfer_shift_over_class_gap, transfer_flipped : float
        See :mod:`bids_interp.models.explain.consistency`.
    volume_share : float
        Part of the shift at dose 1 that the volume changes of the map explain; see
        :func:`bids_interp.models.explain.volume_share.volume_share`.
    n_folded, digital_folding_mm3 : int, float
        Folded voxels and volume.
    mean_abs_log_jacobian, log_jacobian_p01, log_jacobian_p99 : float
        Mean absolute value and percentiles of the log-Jacobian inside the brain.
    displacement_max_mm, minimality_mm : float
        Longest and mean displacement inside the brain.
    reversibility_rmse : float
        Difference between the image and its simulation warped back, inside the brain, in units of
        the input.
    composition_rmse_mm, identity_error : float
        See :mod:`bids_interp.models.explain.consistency`.
    realism_z, realism_z_observed : float
        See :mod:`bids_interp.models.explain.realism`.
    """

    direction: str
    dose: float
    probability: float
    shift: float
    shift_over_class_gap: float
    flipped: bool
    dose_monotonicity: float
    transfer_shift_over_class_gap: float
    transfer_flipped: float
    volume_share: float
    n_folded: int
    digital_folding_mm3: float
    mean_abs_log_jacobian: float
    log_jacobian_p01: float
    log_jacobian_p99: float
    displacement_max_mm: float
    minimality_mm: float
    reversibility_rmse: float
    composition_rmse_mm: float
    identity_error: float
    realism_z: float
    realism_z_observed: float


@torch.no_grad()
def counterfactual_metrics(
    bundle: ModelBundle,
    image: torch.Tensor,
    simulation: Simulation,
    doses: Sequence[float] = (1.0,),
    device: str = 'cpu',
    responses: Sequence[Response] | None = None,
) -> list[SimulationQuality]:
    """Return counterfactual metrics on the model's grid, one row per direction and dose.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    simulation : Simulation
        Result of :func:`simulate`. Transfer needs the fields of each fold.
    doses : sequence of float
        Doses to evaluate.
    device : str
        Device of the networks.
    responses : sequence of Response, optional
        Result of :func:`dose_response`; computed if not given.
    """
    folds = simulation.folds
    observed = {p.fold: p for p in classify(bundle, image, folds, device)}
    if responses is None:
        along = sorted({*DOSE_GRID, *doses})
        responses = dose_response(bundle, image, simulation, along, device)
    unmoved, observed_z = identity_error(bundle, image, folds, device), _realism(bundle, image)
    rows = []
    for direction, velocity in simulation.velocity.items():
        field = torch.from_numpy(velocity)[None]
        monotone = dose_monotonicity(responses, direction)
        explained = _volume_share(bundle, image, field, simulation, device)
        per_fold = list(simulation.per_fold.get(direction, ()))
        for dose in doses:
            simulated, geometry = _geometry(bundle, image, field * dose, simulation.kind)
            judged = transfer(bundle, image, per_fold, folds, direction, dose, observed, device)
            rows.append(
                SimulationQuality(
                    direction=direction,
                    dose=float(dose),
                    **asdict(_shift(bundle, simulated, observed, direction, device)),
                    dose_monotonicity=monotone,
                    transfer_shift_over_class_gap=judged[0],
                    transfer_flipped=judged[1],
                    volume_share=explained,
                    **asdict(geometry),
                    composition_rmse_mm=composition_rmse(
                        bundle, image, field, direction, dose, folds, device
                    ),
                    identity_error=unmoved,
                    realism_z=_realism(bundle, simulated),
                    realism_z_observed=observed_z,
                )
            )
    return rows


def _shift(
    bundle: ModelBundle,
    simulated: torch.Tensor,
    observed: Mapping[int, FoldPrediction],
    direction: str,
    device: str,
) -> _Shift:
    """Return the change of the predictions from the observed to a simulated image."""
    after = classify(bundle, simulated, list(observed), device)
    gap = float(np.mean([bundle.fold(index, device).class_gap for index in observed]))
    before = float(np.mean([p.logit for p in observed.values()]))
    shift = float(np.mean([p.logit for p in after])) - before
    probability = float(np.mean([p.probability for p in after]))
    return _Shift(probability, shift, shift / gap, has_crossed(probability, shift, direction))


def _volume_share(
    bundle: ModelBundle,
    image: torch.Tensor,
    field: torch.Tensor,
    simulation: Simulation,
    device: str,
) -> float:
    """Return the volume share of a field at dose 1 for the mean score of the folds."""
    folds = [bundle.fold(index, device) for index in simulation.folds]

    def mean_score(images: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([models.score(images.to(device)) for models in folds])
        return scores.mean(dim=0)[:, None]

    share = volume_share(mean_score, image, field, bundle.grid, kind=simulation.kind)
    return float(share[0])


def _geometry(
    bundle: ModelBundle, image: torch.Tensor, field: torch.Tensor, kind: str
) -> tuple[torch.Tensor, _Geometry]:
    """Return the simulated image (1, 1, X, Y, Z) of a field, and its deformation."""
    mask = torch.from_numpy(bundle.brain_mask)
    forward, backward = flow(field, bundle.grid, kind)
    simulated = warp(image, backward, bundle.grid)
    returned = warp(simulated, forward, bundle.grid)
    log_j = log_jacobian(forward, bundle.grid)[0, 0][mask]
    length = forward[0].square().sum(dim=0).sqrt()[mask]
    return simulated, _Geometry(
        n_folded=count_folded(forward, bundle.grid),
        digital_folding_mm3=digital_folding_volume(forward, bundle.grid),
        mean_abs_log_jacobian=float(log_j.abs().mean()),
        log_jacobian_p01=float(torch.quantile(log_j, 0.01)),
        log_jacobian_p99=float(torch.quantile(log_j, 0.99)),
        displacement_max_mm=float(length.max()),
        minimality_mm=float(length.mean()),
        reversibility_rmse=float((returned - image)[0, 0][mask].square().mean().sqrt()),
    )


def _realism(bundle: ModelBundle, image: torch.Tensor) -> float:
    """Return the distance from the training images; NaN if the bundle does not describe them."""
    statistics = bundle.config.training_intensities
    return distance_from_training(image, statistics, bundle.grid, bundle.brain_mask)
