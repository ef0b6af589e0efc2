"""Pattern facts: whether the maps of a scan are personal, and its amounts of each subtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from bids_interp.bids.prediction import PatternFacts
from bids_interp.constants import COMMON_SHARE, DIRECTIONS
from bids_interp.models.bundle.fold_metrics import PatternMetrics, has_pattern, is_explained
from bids_interp.models.bundle.reader import ModelBundle
from bids_interp.models.networks.pattern_simulator import PatternSimulator


@torch.no_grad()
def pattern_facts(
    bundle: ModelBundle, image: torch.Tensor, folds: Sequence[int], device: str = 'cpu'
) -> PatternFacts:
    """Describe the pattern of a model, and what an image has of it.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    image : torch.Tensor
        (1, 1, X, Y, Z) classifier input.
    folds : sequence of int
        Folds that explain the image.
    device : str
        Device of the simulators.
    """
    simulators = [bundle.fold(index, device).simulator for index in folds]
    fitted = [one for one in simulators if isinstance(one, PatternSimulator)]
    capacity = str(bundle.config.simulator.capacity)
    measured = [_metrics_of(bundle, index) for index in folds]
    known = [row for row in measured if row is not None]
    if not fitted or len(known) != len(fitted):
        return PatternFacts(
            capacity=capacity,
            personal=capacity not in ('template', 'pattern'),
            found=is_explained(bundle.config.metrics) and any(map(bundle.explains, folds)),
        )
    pairs = [(one, row) for one, row in zip(fitted, known, strict=True) if row.found]
    if not pairs:
        return PatternFacts(capacity=capacity, personal=False, found=False)
    rows = [row for _, row in pairs]
    share = float(np.mean([row.personal_share for row in rows]))
    personal = share >= COMMON_SHARE and any(one.volumes is not None for one, _ in pairs)
    number = Counter(row.subtypes for row in rows).most_common(1)[0][0]
    alike = [one for one, row in pairs if row.subtypes == number]
    amounts: dict[str, list[float]] = {}
    if personal:
        amounts = _mean_amounts(alike, image.to(device), number, bundle.contrast)
    return PatternFacts(
        capacity=capacity,
        personal=personal,
        found=has_pattern(bundle.config.metrics),
        personal_share=share,
        subtypes=number,
        stability=float(np.mean([row.stability for row in rows])),
        removed=amounts.get('remove'),
        injected=amounts.get('inject'),
        consent=float(np.mean([row.consent for row in rows])),
        weights_ncc=float(np.mean([row.weights_ncc for row in rows])),
        measured_dose=float(np.mean([row.measured_dose for row in rows])),
    )


def _metrics_of(bundle: ModelBundle, index: int) -> PatternMetrics | None:
    """Return the measurements of the explained contrast in a fold."""
    simulator = bundle.config.folds[index].metrics.simulator
    patterns = simulator.patterns if simulator is not None else None
    return patterns[bundle.contrast] if patterns else None


def _mean_amounts(
    simulators: Sequence[PatternSimulator], image: torch.Tensor, number: int, contrast: int
) -> dict[str, list[float]]:
    """Return the mean amounts of each subtype by direction, in the order of the first fold.

    Subtypes have no order, so the subtypes of the other folds are matched by their patterns.
    """
    total = {direction: np.zeros(number) for direction in DIRECTIONS}
    reference = _directions(simulators[0], number, contrast)
    for simulator in simulators:
        alike = reference @ _directions(simulator, number, contrast).T
        order = linear_sum_assignment(-alike)[1]
        for direction, amounts in simulator.amounts_by_direction(image, contrast).items():
            total[direction] += amounts[0, :number].cpu().numpy()[order] / len(simulators)
    return {direction: amounts.tolist() for direction, amounts in total.items()}


def _directions(simulator: PatternSimulator, number: int, contrast: int) -> np.ndarray:
    """Return the sources (number, V) of a contrast, divided by their lengths."""
    sources = simulator.source[contrast, :number].detach().cpu().numpy().reshape(number, -1)
    lengths = np.linalg.norm(sources, axis=1, keepdims=True)
    return np.asarray(sources / np.maximum(lengths, np.finfo(np.float32).tiny))
