"""Conditional convolution: kernels that are mixtures of expert kernels, one mixture per sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

#: Output channels of a group that CPUs compute at once; smaller groups take twice as long.
BLOCK = 8


class CondConv3d(nn.Module):
    """3-D convolution whose kernel is mixed for each sample from expert kernels.

    The routing weights are a sigmoid of a linear map of [pooled features, code], as in Liu et
    al., IPMI 2021, after Yang et al., NeurIPS 2019. The batch is folded into the groups of one
    convolution, so there is no loop over samples.

    Parameters
    ----------
    before, after : int
        Input and output channels.
    codes : int
        Length of the condition code.
    experts : int
        Number of expert kernels.
    size : int or tuple of int
        Kernel size, of all axes or of each; the padding keeps the size at stride 1.
    stride : int
        Stride.
    routing_dropout : float
        Dropout on the pooled features.
    """

    def __init__(
        self,
        before: int,
        after: int,
        codes: int,
        experts: int = 3,
        size: int | tuple[int, int, int] = 3,
        stride: int = 1,
        routing_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (size,) * 3 if isinstance(size, int) else size
        self.stride, self.after = stride, after
        self.padding = tuple(side // 2 for side in sizes)
        self.kernels = nn.Parameter(torch.empty(experts, after, before, *sizes))
        for kernel in self.kernels:
            nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.zeros(after))
        self.routing = nn.Linear(before + codes, experts)
        self.dropout = nn.Dropout(routing_dropout)

    def routing_weights(self, data: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the weights (B, experts) for data (B, C, X, Y, Z) and code (B, codes)."""
        pooled = self.dropout(data.mean(dim=(2, 3, 4)))
        return torch.sigmoid(self.routing(torch.cat([pooled, code], dim=1)))

    def forward(self, data: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, X, Y, Z) under the code (B, codes)."""
        batch = data.shape[0]
        weights = self.routing_weights(data, code)
        kernels = torch.einsum('be,eoixyz->boixyz', weights, self.kernels)
        missing = -self.after % BLOCK if data.device.type == 'cpu' else 0
        kernels = F.pad(kernels, (0, 0) * 4 + (0, missing))
        folded = data.reshape(1, -1, *data.shape[2:])
        result = self._convolve(folded, kernels.reshape(-1, *kernels.shape[2:]), batch)
        result = result.view(batch, -1, *result.shape[2:])[:, : self.after]
        return result + self.bias.view(1, -1, 1, 1, 1)

    def _convolve(self, data: torch.Tensor, kernels: torch.Tensor, groups: int) -> torch.Tensor:
        stride, padding = self.stride, self.padding
        if data.shape[-1] == kernels.shape[-1] == 1:
            # Three times as fast on a CPU as a three-dimensional convolution of one slice.
            flat = F.conv2d(data[..., 0], kernels[..., 0], None, stride, padding[:2], groups=groups)
            return flat[..., None]
        return F.conv3d(data, kernels, None, stride, padding, groups=groups)


class FilmConv3d(nn.Module):
    """3-D convolution whose output is scaled and shifted by the code (FiLM, Perez et al. 2018).

    It has the same call as :class:`CondConv3d`.
    """

    def __init__(self, before: int, after: int, codes: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(before, after, size, stride=stride, padding=size // 2)
        self.film = nn.Linear(codes, 2 * after)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, data: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, X, Y, Z) under the code (B, codes)."""
        scale, shift = self.film(code)[..., None, None, None].chunk(2, dim=1)
        return self.convolution(data) * (1 + scale) + shift
