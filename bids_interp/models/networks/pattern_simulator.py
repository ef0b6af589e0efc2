"""Pattern simulator: a curl-free velocity for each pattern, mixed by what a scan has of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from bids_interp.constants import DIRECTIONS
from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.spatial import Grid, VolumeFlow

#: Registration that measures the volumes of scans and of the cohort.
REGISTRATION = 'elastic'


def pattern_log_likelihoods(
    scores: torch.Tensor, size: torch.Tensor, spread: torch.Tensor, share: torch.Tensor
) -> torch.Tensor:
    """Return the log-likelihood (N, K) of each pattern relative to that of none, with its share.

    In coordinates in which controls have unit covariance around zero, a person with pattern k has
    the change s m_k plus the variation of controls, where the amount s is normal with mean 1.

    Parameters
    ----------
    scores : torch.Tensor
        (N, K) products of the person's change with m_k.
    size, spread, share : torch.Tensor
        (K,) squared length of m_k, variance of the amount, and share of the people.
    """
    precision = 1 + spread * size
    quadratic = spread * (scores - size).square() / (2 * precision)
    return scores - size / 2 + quadratic - precision.log() / 2 + share.log()


def expected_amounts(
    scores: torch.Tensor, size: torch.Tensor, spread: torch.Tensor
) -> torch.Tensor:
    """Return the expected amount (N, K) of each pattern, if it is the own one.

    Parameters
    ----------
    scores, size, spread
        See :func:`pattern_log_likelihoods`.
    """
    return (1 + spread * scores) / (1 + spread * size)


class PatternSimulator(nn.Module):
    """Simulator that injects or removes the pattern of a class.

    Each pattern is a log-Jacobian map. Its velocity has no rotation, so the map shows all that
    moves the classifier. If the pattern is personal, the volumes of the scan decide what is
    removed: each pattern in the amount that the scan has of it, by the posterior expectation of a
    mixture model. What is injected is what the scan does not have. The weights that are loaded
    decide how many patterns there are, and whether they are personal.

    Parameters
    ----------
    grid : Grid
        Grid of the model.
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.
    contrasts : int
        Number of contrasts.
    patterns : int
        Number of patterns of each contrast.
    personal : bool
        Whether the velocity depends on the scan.
    """

    #: Kind of the output.
    field = 'velocity'
    capacity = 'pattern'

    def __init__(
        self,
        grid: Grid,
        mask: np.ndarray,
        contrasts: int = 1,
        patterns: int = 1,
        personal: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.mask, self.contrasts = grid, mask, contrasts
        self.source: nn.Parameter
        self.gain: torch.Tensor
        self.velocity: torch.Tensor
        self.volumes: VolumeMeasure | None = None
        self._allocate(patterns, personal)
        self.register_load_state_dict_pre_hook(_fit_to_weights)
        self.register_load_state_dict_post_hook(_update)

    def _allocate(self, patterns: int, personal: bool) -> None:
        """Make room for the weights.

        ``source`` is the divergence of the velocity of each pattern, and ``gain`` a factor on the
        velocities of each contrast. ``readout`` holds the weights
        of the log volumes in the score of each pattern. The rows of ``mixture`` are the score of
        the mean control, the squared size of the pattern in standard deviations of the controls,
        the variance of the amount among patients, and the share of the patients.
        """
        shape = (self.contrasts, patterns, *self.grid.shape)
        self.source = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.register_buffer('gain', torch.ones(self.contrasts))
        velocity = torch.zeros(self.contrasts, patterns, 3, *self.grid.shape)
        self.register_buffer('velocity', velocity, persistent=False)
        if personal:
            self.volumes = VolumeMeasure(self.grid.shape, REGISTRATION)
            self.readout = nn.Parameter(torch.zeros(shape), requires_grad=False)
            self.mixture = nn.Parameter(
                torch.zeros(4, self.contrasts, patterns), requires_grad=False
            )

    def update(self) -> None:
        """Compute the velocities of the sources."""
        flow = VolumeFlow(self.grid, self.mask)
        for contrast, sources in enumerate(self.source.detach().cpu().numpy()):
            for number, source in enumerate(sources):
                velocity = torch.from_numpy(flow.velocity(source))
                self.velocity[contrast, number] = velocity.to(self.velocity)

    def amounts(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        """Return how much (B, patterns) of each pattern is injected or removed at dose 1.

        Parameters
        ----------
        image, dose, contrast
            See :meth:`forward`.
        """
        amounts = self.amounts_by_direction(image, contrast)
        return torch.where(dose[:, None] < 0, amounts['remove'], amounts['inject'])

    def amounts_by_direction(
        self, image: torch.Tensor, contrast: int = 0
    ) -> dict[str, torch.Tensor]:
        """Return :meth:`amounts` of both directions, for which the image is registered once."""
        count = self.source.shape[1]
        if self.volumes is None:
            return dict.fromkeys(DIRECTIONS, image.new_full((len(image), count), 1 / count))
        offset, size, spread, share = self.mixture[:, contrast]
        # Volumes are those of the brain, also if the classifier takes whole heads.
        brain = image * torch.from_numpy(self.mask).to(image)
        maps = self.volumes.log_jacobian(brain).flatten(1)
        scores = maps @ self.readout[contrast].flatten(1).T - offset
        logs = pattern_log_likelihoods(scores, size, spread, share)
        own = logs.softmax(dim=1) * expected_amounts(scores, size, spread).clamp_min(0)
        nothing = logs.new_zeros(len(logs), 1)
        absent = 1 - torch.cat([logs, nothing], dim=1).softmax(dim=1)[:, :count]
        lacking = share * absent + torch.finfo(share.dtype).tiny
        return {'inject': lacking / lacking.sum(dim=1, keepdim=True), 'remove': own}

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        """Return the velocity on the grid of the model.

        Parameters
        ----------
        image : torch.Tensor
            (B, 1, X, Y, Z), the classifier's input.
        dose : torch.Tensor
            (B,) in [-1, 1]; positive injects the pattern, negative removes it.
        contrast : int
            Index of the contrast.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z), mm along world axes; tissue moves by exp(v).
        """
        weights = self.gain[contrast] * dose[:, None] * self.amounts(image, dose, contrast)
        return torch.einsum('bk,kcxyz->bcxyz', weights, self.velocity[contrast])


def _fit_to_weights(module: PatternSimulator, weights: dict[str, torch.Tensor], *_: Any) -> None:
    """Make room for the number of patterns in the weights."""
    if 'source' in weights and weights['source'].dim() == 5:
        module._allocate(weights['source'].shape[1], 'mixture' in weights)


def _update(module: PatternSimulator, _: Any) -> None:
    module.update()
