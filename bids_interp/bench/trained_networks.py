"""Trained networks of a fold, restored for explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from bids_interp.bench.simulations import ScaledClassifier
from bids_interp.evaluation.validity import class_centre
from bids_interp.models.networks.simulator import build_simulator
from bids_interp.training.classifier import predict_outputs, restored
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult
from bids_interp.training.recipe import make_recipe


def load_networks(
    result: FoldResult, recipe: dict[str, Any], cohort: Cohort
) -> tuple[nn.Module, nn.Module | None]:
    """Return the frozen classifier and simulator (or None) of a fold."""
    made = make_recipe(**recipe)
    classifier = restored(made.classifier, cohort, result.trained.classifier, made.members)
    if not result.trained.simulator:
        return classifier, None
    simulator = build_simulator(cohort.grid, cohort.mask, made.simulator.network_arguments())
    simulator.load_state_dict(result.trained.simulator)
    return classifier, simulator.eval().requires_grad_(False)


def scaled_classifier(
    network: nn.Module, cohort: Cohort, fold: Fold, result: FoldResult
) -> ScaledClassifier:
    """Return a classifier with its midpoint and class gap on the validation split."""
    outputs = predict_outputs(network, cohort.images[fold.validation])[:, 0]
    centre = class_centre(outputs, cohort.labels[fold.validation], cohort.target, 0)
    gap = result.trained.class_gap
    first = gap[0] if isinstance(gap, Sequence) else gap
    return ScaledClassifier(network, cohort.images, centre, first)
