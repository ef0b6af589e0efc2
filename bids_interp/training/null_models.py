"""Null models for sanity checks: randomised classifiers and exchanged labels."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.exchange import exchange_labels
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold

#: Number of label exchanges, of which the one least associated with the true labels is used.
EXCHANGES = 200


def layers_of(network: nn.Module) -> list[list[nn.Parameter]]:
    """Group the parameters by layer, from the first to the last.

    A layer begins with a convolution or linear map and includes the normalisation of its output.
    """
    layers: list[list[nn.Parameter]] = []
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and (not layers or any(parameter.dim() > 1 for parameter in own)):
            layers.append([])
        if own:
            layers[-1].extend(own)
    return layers


def randomisation_levels(n_layers: int) -> list[int]:
    """List how many of the last layers are randomised at each level: one, half, all.

    Examples
    --------
    >>> randomisation_levels(5), randomisation_levels(2), randomisation_levels(1)
    ([1, 3, 5], [1, 2], [1])
    """
    return sorted({1, (n_layers + 1) // 2, n_layers} - {0})


def randomised(network: nn.Module, count: int, seed: int) -> nn.Module:
    """Copy a network and replace the weights of its last ``count`` layers by noise.

    Each tensor of weights is drawn from a normal distribution with the mean and standard deviation
    of the original tensor, which keeps the scale of the outputs.

    References
    ----------
    Adebayo J, Gilmer J, Muelly M, Goodfellow I, Hardt M, Kim B. Sanity checks for saliency maps.
    NeurIPS 2018.
    """
    noisy = deepcopy(network).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers_of(noisy)[-count:]:
        for parameter in layer:
            values = parameter.detach().float().cpu()
            noise = torch.randn(values.shape, generator=generator)
            parameter.copy_(values.mean() + values.std(correction=0) * noise)
    return noisy


def exchange_cohort_labels(cohort: Cohort, fold: Fold, seed: int) -> Cohort:
    """Exchange the labels of a cohort within the parts of a fold, keeping families together.

    Of :data:`EXCHANGES` draws, the one whose training labels are least associated with the true
    ones is used, because a single draw may leave a strong association in a small cohort.
    """
    parts = np.zeros(len(cohort), int)
    parts[fold.validation], parts[fold.test] = 1, 2
    rng = np.random.default_rng(seed)
    drawn = exchange_labels(
        cohort.labels, cohort.families, parts, rng, EXCHANGES, participants=cohort.participants
    )
    truth = cohort.labels[fold.train]
    kept = [label_association(labels[fold.train], truth, cohort.target.kind) for labels in drawn]
    return replace(cohort, labels=drawn[int(np.argmin(kept))])


def label_association(first: np.ndarray, second: np.ndarray, kind: str) -> float:
    """Association of two labellings (N,), in [0, 1]: Cramer's V, or |r| of a regression.

    Examples
    --------
    >>> label_association(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), 'binary')
    1.0
    >>> label_association(np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0]), 'binary')
    0.0
    """
    if kind == 'regression':
        return float(abs(np.corrcoef(first, second)[0, 1]))
    table = np.array(
        [
            [np.mean((first == a) & (second == b)) for b in np.unique(second)]
            for a in np.unique(first)
        ]
    )
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    freedom = min(table.shape) - 1
    if not freedom:
        return 0.0
    return float(np.sqrt(((table - expected) ** 2 / expected).sum() / freedom))
