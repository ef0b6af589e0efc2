"""A classifier that measures volumes first: a network for local volumes, then one linear layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def _stage(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, after, size, stride=stride, padding=1),
        nn.InstanceNorm3d(after, affine=True),
        nn.ELU(),
    )


class VolumeNetwork(nn.Module):
    """Local volume of the tissue seen at each place, compared with a mean image.

    A small U-Net at half the resolution of the image. It sees the image, the mean image of those it
    was trained with, and their difference, as a registration does; what differs from place to place
    in the end is one factor and one offset.

    Parameters
    ----------
    shape : tuple of int
        Size of the input image; need not be divisible by the strides.
    width : int
        Channels of the first stage.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.register_buffer('mean', torch.zeros(1, 1, *shape))
        self.enter = _stage(3, width, size=4, stride=2)
        self.fine = _stage(width, width)
        self.down_quarter = nn.MaxPool3d(2)
        self.quarter = nn.Sequential(_stage(width, 2 * width), _stage(2 * width, 2 * width))
        self.down_eighth = nn.MaxPool3d(2)
        self.eighth = nn.Sequential(_stage(2 * width, 3 * width), _stage(3 * width, 3 * width))
        self.up_quarter = nn.Sequential(
            _stage(5 * width, 2 * width), nn.Conv3d(2 * width, width, 1)
        )
        self.up_half = _stage(2 * width, width)
        self.leave = nn.Conv3d(width, 1, 1)
        sizes = half_shape(shape)
        self.factor = nn.Parameter(torch.ones(1, 1, *sizes))
        self.offset = nn.Parameter(torch.zeros(1, 1, *sizes))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logarithms of relative volumes (B, 1, X/2, Y/2, Z/2) of images (B, 1, X, Y, Z)."""
        mean = self.mean.expand_as(image)
        half = self.fine(self.enter(torch.cat([image, mean, image - mean], dim=1)))
        quarter = self.quarter(self.down_quarter(half))
        eighth = self.eighth(self.down_eighth(quarter))
        back = self.up_quarter(torch.cat([_to_size_of(eighth, quarter), quarter], dim=1))
        back = self.up_half(torch.cat([_to_size_of(back, half), half], dim=1))
        return self.leave(back).float() * self.factor + self.offset


def half_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Size of the maps of :class:`VolumeNetwork`.

    Examples
    --------
    >>> half_shape((48, 57, 47))
    (24, 28, 23)
    """
    return shape[0] // 2, shape[1] // 2, shape[2] // 2


def _to_size_of(data: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return F.interpolate(data, other.shape[2:], mode='trilinear', align_corners=False)


class MorphometricClassifier(nn.Module):
    """Logits that are weighted sums of local volumes.

    The network that measures is trained without labels (:mod:`bids_interp.training.morphometry`),
    so few subjects are enough; only the weights of the sum are learned from the labels. What the
    classifier answers then follows from volumes, and hardly from brightness or texture.

    Parameters
    ----------
    shape : tuple of int
        Size of the input image.
    width : int
        Of the network.
    outputs : int
        Number of logits.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 16, outputs: int = 1) -> None:
        super().__init__()
        self.volumes = VolumeNetwork(shape, width)
        sizes = half_shape(shape)
        self.head = nn.Linear(sizes[0] * sizes[1] * sizes[2], outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, outputs) of images (B, 1, X, Y, Z)."""
        return self.head(self.volumes(image).flatten(1))
