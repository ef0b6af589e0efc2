"""Small scores of images, whose saliency maps can be worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bids_interp.saliency.captum_methods import WINDOW_MM
from bids_interp.saliency.maps import saliency_map
from bids_interp.spatial import Grid

SHAPE = (5, 4, 3)


def make_grid(spacing: float = WINDOW_MM, shape=SHAPE) -> Grid:
    return Grid(shape, np.diag([spacing, spacing, spacing, 1.0]), 'MNI')


def noise(seed: int, shape=SHAPE) -> torch.Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """Score sum(w * x) + 1, of shape (B, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = noise(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (self.weight * image).flatten(1).sum(1, keepdim=True) + 1


def map_of(method, score, image, baseline=None, grid=None, **choices):
    grid = grid or make_grid(shape=tuple(image.shape[2:]))
    return saliency_map(method, score, image, grid, baseline=baseline, **choices)


class Branches(nn.Module):
    """Convolutions and ReLUs in sequence and side by side."""

    def __init__(self, inplace=False, shared=False, relu=None) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.left, self.right = (
                nn.Conv3d(before, 3, 3, padding=1) for before in (1, 3, 3)
            )
        layers = [nn.ReLU(inplace) for _ in range(3)]
        self.layers = nn.ModuleList([layers[0]] * 3 if shared else layers)
        self.relu = relu

    def forward(self, image):
        one, two, three = self.layers if self.relu is None else [self.relu] * 3
        start = one(self.first(image))
        left, right = start + self.left(start), self.right(start)
        return (two(left) - three(right)).flatten(1).mean(1)


class Features(nn.Module):
    """Score sum_k v_k mean(ReLU(convolution_k(x)))."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.convolution = nn.Conv3d(1, 2, 3, padding=1)
        self.relu = nn.ReLU()
        self.register_buffer('v', torch.tensor([1.5, -0.5]))

    def features(self, image):
        return self.relu(self.convolution(image))

    def forward(self, image):
        return self.features(image).mean(dim=(2, 3, 4)) @ self.v
