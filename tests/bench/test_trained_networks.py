"""Networks of a trained fold: the right weights, and the scale of their logits."""

from __future__ import annotations

import numpy as np
import torch

from bids_interp.bench.trained_networks import load_networks, scaled_classifier
from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.models.networks.registry import build_classifier
from bids_interp.training.classifier import predict_outputs
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult
from helpers.balls import binary_cohort

RECIPE = {'preset': 'fast', 'architecture': 'morphometric'}


def test_weights_and_scale_of_the_logits() -> None:
    cohort = binary_cohort(12)
    made = build_classifier('morphometric', cohort.grid.shape, 1, registration='elastic', outputs=1)
    with torch.no_grad():
        made.head.weight.normal_()
    fold = Fold(np.arange(4), np.arange(4, 9), np.arange(9, 12))
    weights = dict(made.state_dict())
    for gap in (2.5, [2.5]):
        trained = TrainedFold(weights, {}, 1.0, gap, FoldMetrics(4, 5, 3))
        result = FoldResult(trained, np.zeros((3, 1)), {})
        network, simulator = load_networks(result, RECIPE, cohort)
        assert simulator is None
        assert torch.equal(network.head.weight, made.head.weight)
        assert not network.training
        scaled = scaled_classifier(network, cohort, fold, result)
        assert scaled.gap == 2.5
        outputs = predict_outputs(network, cohort.images[fold.validation])[:, 0]
        labels = cohort.labels[fold.validation]
        medians = [np.median(outputs[labels == side]) for side in (0, 1)]
        assert np.isclose(scaled.centre, np.mean(medians))
