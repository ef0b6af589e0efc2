"""Small networks and their exports, for the tests of classifiers made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

SHAPE = (10, 12, 8)
CARD: dict[str, Any] = {
    'name': 'elsewhere',
    'output': 'logit',
    'input_shape': list(SHAPE),
    'voxel_size': [8, 8, 8],
    'orientation': 'RAS',
    'origin': [-36, -44, -28],
    'template': 'MNI152NLin2009aSym',
    'preprocessing': {'normalisation': 'percentile'},
    'label': 'group',
    'classes': ['control', 'patient'],
}


class Residual(nn.Module):
    """Two kinds of normalisation and of skips, constants, dropout, a conversion."""

    def __init__(self, outputs: int = 1, dropout: float = 0.5) -> None:
        super().__init__()
        self.enter = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.inside = nn.Conv3d(4, 4, 3, padding=1)
        self.dense = nn.Conv3d(5, 4, 3, padding=1)
        self.instance = nn.InstanceNorm3d(4, affine=True)
        self.place = torch.rand(1, 1, *SHAPE)  # a tensor that is neither parameter nor buffer
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(32, outputs)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        image = image + self.place
        # A conversion, of which an export also notes the type and the device that it finds.
        features = torch.relu(self.norm(self.enter(image))).to(image.device)
        features = features + self.inside(features)
        features = self.instance(self.dense(torch.cat([image, features], dim=1)))
        # Devices that an export writes into the graph: of a new tensor, and of a constant.
        shift = torch.zeros(1, device=image.device) + torch.tensor(0.25)
        return self.head(torch.relu(features)) + shift


def seeded(outputs: int = 1, tail: nn.Module | None = None) -> nn.Module:
    """The same small network each time, with statistics of its normalisation that are not 0, 1."""
    torch.manual_seed(3)
    network = Residual(outputs)
    with torch.no_grad():
        network(torch.rand(4, 1, *SHAPE))
    return (nn.Sequential(network, tail) if tail else network).eval()


def export(
    network: nn.Module, path: Path, dynamic: bool = True, shape: tuple[int, ...] = SHAPE
) -> Path:
    """Export to a .pt2 file."""
    shapes = ({0: torch.export.Dim('batch')},) if dynamic else None
    program = torch.export.export(network, (torch.rand(2, 1, *shape),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path
