"""Volume share: the part of a simulation's effect on the classifier that is volume change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bids_interp.spatial import Grid, curl_free_part, pull_back, warp


@torch.no_grad()
def volume_share(
    classifier: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    velocity: torch.Tensor,
    grid: Grid,
    *,
    kind: str = 'velocity',
    weights: torch.Tensor | None = None,
) -> np.ndarray:
    """Return the logit shift of the curl-free part of a velocity, divided by the whole shift.

    A log-Jacobian map shows volume changes only. At 1, they explain the whole effect of the
    simulation on the classifier; the rest of the effect is motion that the map does not show.

    Parameters
    ----------
    classifier : callable
        Classifier in evaluation mode, (B, 1, X, Y, Z) to outputs (B, K).
    image : torch.Tensor
        (B, 1, X, Y, Z) classifier inputs.
    velocity : torch.Tensor
        (B, 3, X, Y, Z) mm along world axes, at dose 1.
    grid : Grid
        Grid of both.
    kind : {'velocity', 'displacement'}
        Kind of the field, see :func:`bids_interp.spatial.flow`. A displacement is split itself.
    weights : torch.Tensor, optional
        (K,) weights of the outputs in the logit of the contrast [default: the first output].

    Returns
    -------
    numpy.ndarray
        (B,) shares; NaN where the whole velocity does not move the logit.
    """

    def logits(images: torch.Tensor) -> np.ndarray:
        outputs = classifier(images).double()
        chosen = outputs[:, 0] if weights is None else outputs @ weights.to(outputs)
        return chosen.cpu().numpy()

    before = logits(image)
    whole, part = (
        logits(warp(image, pull_back(field, grid, kind), grid)) - before
        for field in (velocity, curl_free_part(velocity, grid))
    )
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole != 0)
