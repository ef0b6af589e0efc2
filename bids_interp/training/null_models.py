"""Classifiers and labels that know nothing: what a map has to be destroyed by."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from bids_interp.evaluation.exchange import exchange_labels
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold

#: Exchanges of the labels among which that with the least trace of the true ones is taken.
EXCHANGES = 200


def layers_of(network: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters of each layer, from the first to the last.

    A convolution or linear map begins a layer; what normalises its output belongs to it.
    """
    layers: list[list[nn.Parameter]] = []
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and (not layers or any(parameter.dim() > 1 for parameter in own)):
            layers.append([])
        if own:
            layers[-1].extend(own)
    return layers


def cascade(n_layers: int) -> list[int]:
    """How many of the last layers are randomised at each level: one, half, all.

    Examples
    --------
    >>> cascade(5), cascade(2), cascade(1)
    ([1, 3, 5], [1, 2], [1])
    """
    return sorted({1, (n_layers + 1) // 2, n_layers} - {0})


def randomised(network: nn.Module, count: int, seed: int) -> nn.Module:
    """Copy of a network whose last ``count`` layers are noise.

    Each tensor of weights is drawn again from a normal distribution with its own mean and standard
    deviation, so that the scale of the outputs stays.

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


def exchanged(cohort: Cohort, fold: Fold, seed: int) -> Cohort:
    """The cohort with exchanged labels: within the parts of a fold, families kept together.

    Of :data:`EXCHANGES` draws that is taken whose training labels tell least about the true ones;
    in a small cohort a single draw may keep much of them.
    """
    parts = np.zeros(len(cohort), int)
    parts[fold.validation], parts[fold.test] = 1, 2
    rng = np.random.default_rng(seed)
    drawn = exchange_labels(
        cohort.labels, cohort.families, parts, rng, EXCHANGES, participants=cohort.participants
    )
    truth = cohort.labels[fold.train]
    kept = [association(labels[fold.train], truth, cohort.target.kind) for labels in drawn]
    return replace(cohort, labels=drawn[int(np.argmin(kept))])


def association(first: np.ndarray, second: np.ndarray, kind: str) -> float:
    """How much two labellings (N,) have in common, in [0, 1]: Cramer's V, or |r| of a regression.

    Examples
    --------
    >>> association(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), 'binary')
    1.0
    >>> association(np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0]), 'binary')
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
