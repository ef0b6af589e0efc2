"""The IPMI 2021 simulator of Liu, Adeli, Pohl and Zhao with its published numbers.

It is a U-Net of conditional convolutions whose output is a free displacement. Two details that are
not part of the method are corrected: a code of -1 is not lost behind a rectifier, and there is no
loop over samples. The missing smoothness, the nearest-neighbour upsampling and the skip connection
at full resolution are kept. An axis of one voxel is neither convolved nor halved, so that the
network of a two-dimensional image is the same one with 3 x 3 kernels.
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
from bids_interp.spatial import Grid, along_axes, to_mm

#: Channels of the stages, from the full resolution to a sixteenth.
CHANNELS = (16, 32, 64, 16, 16)
#: Each stage after the first halves the grid.
MULTIPLE = 2 ** (len(CHANNELS) - 1)
SLOPE = 0.1


class PaperNetwork(nn.Module):
    """Network from an image and a direction to a pull-back displacement, for one contrast.

    Parameters
    ----------
    grid : Grid
        The model's grid; each size must be 1 or a multiple of 16.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        multiples = along_axes(grid.shape, MULTIPLE)
        if any(size % multiple for size, multiple in zip(grid.shape, multiples, strict=True)):
            raise ModelError(
                f'The ipmi2021 simulator needs grid sizes that are multiples of {MULTIPLE}, not '
                f'{grid.shape}.'
            )
        self.grid, self.halves = grid, along_axes(grid.shape, 2)
        #: Axes along which voxels move.
        self.axes = [axis for axis, size in enumerate(grid.shape) if size > 1]
        sizes = along_axes(grid.shape, 3)
        convolution = partial(CondConv3d, codes=1, experts=3, size=sizes, routing_dropout=0.1)
        self.enter = convolution(1, CHANNELS[0])
        pairs = list(pairwise(CHANNELS))
        self.down_norms = nn.ModuleList(nn.BatchNorm3d(before) for before, _ in pairs)
        self.downs = nn.ModuleList(convolution(a, b) for a, b in pairs)
        features = CHANNELS[-1] * int(np.prod(np.floor_divide(grid.shape, multiples)))
        self.squeeze = nn.Linear(features, 512)
        self.expand = nn.Linear(513, features)
        # The first stage upwards has no convolution behind the one of the bottleneck.
        self.bridge = convolution(CHANNELS[-1], CHANNELS[-1])
        self.ups = nn.ModuleList(convolution(a, b) for a, b in pairwise(CHANNELS[-2::-1]))
        self.up_norms = nn.ModuleList(nn.BatchNorm3d(after) for after in CHANNELS[-2::-1])
        self.leave = convolution(CHANNELS[0], len(self.axes))
        self.apply(_initialise)

    def displacement(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the displacement (B, axes, X, Y, Z) in voxels for images and codes (B, 1)."""
        data = self.enter(image, code)
        skips = []
        for norm, down in zip(self.down_norms, self.downs, strict=True):
            skips.append(data)
            data = down(F.max_pool3d(F.leaky_relu(norm(data), SLOPE), self.halves), code)
        latent = F.relu(self.squeeze(data.flatten(1)))
        expanded = self.expand(torch.cat([latent, code], dim=1)).view_as(data)
        data = self.bridge(expanded, code) + data
        convolutions = (*self.ups, self.leave)
        for norm, skip, convolve in zip(self.up_norms, reversed(skips), convolutions, strict=True):
            wide = F.interpolate(F.leaky_relu(norm(data), SLOPE), skip.shape[2:], mode='nearest')
            data = convolve(wide + skip, code)
        return data

    def forward(self, image: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        """Return the pull-back displacement; see :meth:`PaperSimulator.forward`."""
        code = torch.where(dose >= 0, 1.0, -1.0).to(image)[:, None]
        found = self.displacement(image, code).float()
        voxels = found.new_zeros(len(found), 3, *found.shape[2:])
        voxels[:, self.axes] = found
        return to_mm(voxels, self.grid) * dose.abs().view(-1, 1, 1, 1, 1)


class PaperSimulator(nn.Module):
    """Simulator with a network for each contrast, whose code has only two directions.

    Parameters
    ----------
    grid : Grid
        The model's grid; each size must be 1 or a multiple of 16.
    mask : numpy.ndarray
        Not used; the network sees only the image.
    contrasts : int
        Number of contrasts.
    """

    field = 'displacement'

    def __init__(self, grid: Grid, mask: np.ndarray, contrasts: int = 1) -> None:
        super().__init__()
        del mask
        self.networks = nn.ModuleList(PaperNetwork(grid) for _ in range(contrasts))

    def silence(self, contrast: int) -> None:
        """Make all displacements of a contrast zero, where there is nothing to explain."""
        for weights in self.networks[contrast].get_submodule('leave').parameters():
            nn.init.zeros_(weights)

    def forward(self, image: torch.Tensor, dose: torch.Tensor, contrast: int = 0) -> torch.Tensor:
        """Return the pull-back displacement.

        Parameters
        ----------
        image : torch.Tensor
            (B, 1, X, Y, Z), the classifier's input.
        dose : torch.Tensor
            (B,) in [-1, 1]; the sign is the direction, the size scales the displacement.
        contrast : int
            Index of the contrast.

        Returns
        -------
        torch.Tensor
            (B, 3, X, Y, Z) mm along world axes.
        """
        displacement: torch.Tensor = self.networks[contrast](image, dose)
        return displacement


def _initialise(module: nn.Module) -> None:
    """Draw the weights as published: Xavier's range of all experts at once, Kaiming's of layers."""
    if isinstance(module, CondConv3d):
        nn.init.xavier_uniform_(module.kernels)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight)
