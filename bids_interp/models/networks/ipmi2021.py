"""The IPMI 2021 simulator of Liu, Adeli, Pohl and Zhao with its published numbers.

It is a U-Net of conditional convolutions whose output is a free displacement. Two details that are
not part of the method are corrected: a code of -1 is not lost behind a rectifier, and there is no
loop over samples. The missing smoothness, the nearest-neighbour upsampling and the skip connection
at full resolution are kept.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.networks.condconv import CondConv3d
from bids_interp.spatial import Grid, to_mm

#: Channels of the stages, from the full resolution to a sixteenth.
CHANNELS = (16, 32, 64, 16, 16)
#: Each stage after the first halves the grid.
MULTIPLE = 2 ** (len(CHANNELS) - 1)
SLOPE = 0.1


class PaperSimulator(nn.Module):
    """Network from an image and a direction to a pull-back displacement.

    Parameters
    ----------
    grid : Grid
        The model's grid; each size must be a multiple of 16.
    mask : numpy.ndarray
        Not used; the network sees only the image.
    """

    field = 'displacement'

    def __init__(self, grid: Grid, mask: np.ndarray) -> None:
        super().__init__()
        del mask
        if any(size % MULTIPLE for size in grid.shape):
            raise ModelError(
                f'The ipmi2021 simulator needs grid sizes that are multiples of {MULTIPLE}, not '
                f'{grid.shape}.'
            )
        self.grid = grid
        convolution = partial(CondConv3d, codes=1, experts=3, routing_dropout=0.1)
        self.enter = convolution(1, CHANNELS[0])
        pairs = list(pairwise(CHANNELS))
        self.down_norms = nn.ModuleList(nn.BatchNorm3d(before) for before, _ in pairs)
        self.downs = nn.ModuleList(convolution(a, b) for a, b in pairs)
        features = CHANNELS[-1] * int(np.prod([size // MULTIPLE for size in grid.shape]))
        self.squeeze = nn.Linear(features, 512)
        self.expand = nn.Linear(513, features)
        # The first stage upwards has no convolution behind the one of the bottleneck.
        self.bridge = convolution(CHANNELS[-1], CHANNELS[-1])
        self.ups = nn.ModuleList(convolution(a, b) for a, b in pairwise(CHANNELS[-2::-1]))
        self.up_norms = nn.ModuleList(nn.BatchNorm3d(after) for after in CHANNELS[-2::-1])
        self.leave = convolution(CHANNELS[0], 3)
        self.apply(_initialise)

    def displacement(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the displacement (B, 3, X, Y, Z) in voxels for images and codes (B, 1)."""
        data = self.enter(image, code)
        skips = []
        for norm, down in zip(self.down_norms, self.downs, strict=True):
            skips.append(data)
            data = down(F.max_pool3d(F.leaky_relu(norm(data), SLOPE), 2), code)
        latent = F.relu(self.squeeze(data.flatten(1)))
        expanded = self.expand(torch.cat([latent, code], dim=1)).view_as(data)
        data = self.bridge(expanded, code) + data
        convolutions = (*self.ups, self.leave)
        for norm, skip, convolve in zip(self.up_norms, reversed(skips), convolutions, strict=True):
            wide = F.interpolate(F.leaky_relu(norm(data), SLOPE), scale_factor=2.0, mode='nearest')
            data = convolve(wide + skip, code)
        return data

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        """Return the pull-back displacement.

        Parameters
        ----------
        image : torch.Tensor
            (B, 1, X, Y, Z), the classifier's input.
        dose : torch.Tensor
            (B,) in [-1, 1]; the sign is the direction, the size scales the displacement.
        contrast : int
            Always 0, because the method has one contrast.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z) mm along world axes.
        """
        if contrast:
            raise ModelError('The ipmi2021 simulator supports only one contrast.')
        code = torch.where(dose >= 0, 1.0, -1.0).to(image)[:, None]
        voxels = self.displacement(image, code).float()
        return to_mm(voxels, self.grid) * dose.abs().view(-1, 1, 1, 1, 1)


def _initialise(module: nn.Module) -> None:
    """Draw the weights as published: Xavier's range of all experts at once, Kaiming's of layers."""
    if isinstance(module, CondConv3d):
        nn.init.xavier_uniform_(module.kernels)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight)
