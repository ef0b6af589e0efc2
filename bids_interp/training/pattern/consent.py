"""Consent of a classifier: the pieces of a pattern to which its score responds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import irfftn, next_fast_len, rfftn
from torch import nn

from bids_interp.models.target import Contrast
from bids_interp.spatial import Grid, VolumeFlow, warp

#: Share of a shifted piece that lies inside the brain.
INSIDE = 0.8
#: Smallest number of places for the null distribution.
FEWEST_PLACES = 20
#: Standard scores from which the whole pattern, and each piece, has the classifier's consent. The
#: one-sided error rates are 0.1 % and 5 %.
WHOLE, PIECE = 3.09, 1.64


@dataclass(frozen=True)
class Consent:
    """Response of a classifier to the pieces of a pattern.

    Parameters
    ----------
    score : float
        Standard score of the response to the whole pattern.
    responses : numpy.ndarray
        (P,) change of the classifier's score by each piece.
    scores : numpy.ndarray
        (P,) standard scores of the responses, relative to the same pieces in other places.
    """

    score: float
    responses: np.ndarray
    scores: np.ndarray

    @property
    def given(self) -> bool:
        """True if the classifier responds to the pattern as a whole."""
        return self.score >= WHOLE

    @property
    def kept(self) -> np.ndarray:
        """(P,) pieces that the classifier responds to; none without consent to the whole."""
        return (self.scores >= PIECE) & self.given


def velocity_gradient(
    classifier: nn.Module, images: torch.Tensor, contrast: Contrast, grid: Grid
) -> np.ndarray:
    """Return the mean gradient (3, X, Y, Z) of the score of images along a velocity at rest."""
    device = next((p.device for p in classifier.parameters()), torch.device('cpu'))
    weights = torch.tensor(contrast.weights, device=device)
    total = torch.zeros(3, *grid.shape)
    for image in images.split(1):
        image = image.to(device)
        velocity = torch.zeros(1, 3, *grid.shape, device=device, requires_grad=True)
        # Tissue moves by exp(v), so the image is pulled back by -v.
        score = (classifier(warp(image, -velocity, grid)).float() @ weights).sum()
        total += torch.autograd.grad(score, velocity)[0][0].cpu()
    return (total / len(images)).numpy()


def ask_consent(
    gradient: np.ndarray, pattern: np.ndarray, pieces: np.ndarray, grid: Grid, mask: np.ndarray
) -> Consent:
    """Compare the response to each piece with the responses to that piece in other places.

    Parameters
    ----------
    gradient : numpy.ndarray
        (3, X, Y, Z) result of :func:`velocity_gradient`.
    pattern, pieces : numpy.ndarray
        (X, Y, Z) log-Jacobian, and numbers of :func:`..pieces.divide_pattern`.
    grid, mask
        Grid and brain mask.

    Returns
    -------
    Consent
        Responses in the order of the numbers. A piece that fits nowhere else has the standard score
        of an unknown response, 0.
    """
    flow = VolumeFlow(grid, mask)
    responses, centres, spreads = [], [], []
    shape = [next_fast_len(2 * size) for size in grid.shape]
    slopes = rfftn(np.where(mask, gradient, 0), shape, axes=(1, 2, 3))
    room = rfftn(mask.astype(np.float32), shape)
    for number in range(1, int(pieces.max()) + 1):
        own = np.where(pieces == number, pattern, 0)
        velocity = flow.velocity(own)
        moved = rfftn(np.where(mask, velocity, 0), shape, axes=(1, 2, 3)).conj()
        everywhere = irfftn((slopes * moved).sum(axis=0), shape)
        responses.append(float(everywhere[0, 0, 0]))
        size = np.abs(own)
        inside = irfftn(room * rfftn(size, shape).conj(), shape) / size.sum()
        null = everywhere[(inside >= INSIDE) & ~_near(size, shape)]
        enough = len(null) >= FEWEST_PLACES
        centres.append(float(null.mean()) if enough else responses[-1])
        spreads.append(float(null.std()) if enough else np.inf)
    centre, spread = np.array(centres), np.array(spreads)
    excess = np.array(responses) - centre
    finite = np.isfinite(spread) & (spread > 0)
    scores = np.divide(excess, spread, out=np.zeros_like(excess), where=finite)
    total = float(np.sqrt(np.square(spread[finite]).sum()))
    whole = float(excess[finite].sum()) / total if total else 0.0
    return Consent(whole, np.array(responses), scores)


def _near(size: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return the shifts (periodic) by which a piece still overlaps itself by half or more."""
    spectrum = rfftn(size, shape)
    overlap = irfftn(spectrum * spectrum.conj(), shape)
    return overlap > 0.5 * overlap[0, 0, 0]
