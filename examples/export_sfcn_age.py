"""Export an age network (SFCN) for bids_interp: sfcn-age.pt2, card.json and golden.npz.

    python examples/export_sfcn_age.py FOLDER [--weights FILE.safetensors]

SFCN (Peng et al., Medical Image Analysis 2021) takes skull-stripped brains of 160 x 192 x 160
voxels of 1 mm in the space of FSL's MNI152, divided by the mean of the whole image. Its output is
the logarithm of the probability of each of 40 bins of one year; :class:`ExpectedAge` makes an age
of them. Without ``--weights`` the network is untrained. Weights have the names of this file, so
rename those of other files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

#: Age at the centre of the first bin.
FIRST_BIN = 42.5
#: What the classifier takes and says. FSL's image is cropped by 11, 13 and 11 voxels, and its first
#: axis runs to the left.
CARD: dict[str, Any] = {
    'name': 'sfcn-age',
    'output': 'regression',
    'input_shape': [160, 192, 160],
    'voxel_size': [1, 1, 1],
    'orientation': 'LAS',
    'origin': [79, -113, -61],
    'template': 'MNI152NLin6Asym',
    'preprocessing': {'normalisation': 'mean', 'voxels': 'all'},
    'label': 'age',
    'target_mean': 62.7,
    'target_sd': 7.5,
    'golden': 'golden.npz',
}


class SFCN(nn.Sequential):
    """The published network: 40 logarithms of probabilities, (B, 40, 1, 1, 1)."""

    def __init__(
        self, channels: tuple[int, ...] = (32, 64, 128, 256, 256, 64), bins: int = 40
    ) -> None:
        features = nn.Sequential()
        before = 1
        for number, width in enumerate(channels):
            is_last = number == len(channels) - 1
            layers: list[nn.Module] = [
                nn.Conv3d(before, width, 1 if is_last else 3, padding=0 if is_last else 1),
                nn.BatchNorm3d(width),
            ]
            if not is_last:
                layers.append(nn.MaxPool3d(2, stride=2))
            features.append(nn.Sequential(*layers, nn.ReLU()))
            before = width
        head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Dropout(0.5), nn.Conv3d(before, bins, kernel_size=1)
        )
        super().__init__(features, head, nn.LogSoftmax(dim=1))


class ExpectedAge(nn.Module):
    """Expected age (B, 1) of a network that answers with the log-probabilities of bins."""

    def __init__(self, network: nn.Module, bins: int = 40) -> None:
        super().__init__()
        self.network = network
        self.register_buffer('ages', FIRST_BIN + torch.arange(bins, dtype=torch.float32))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean of the ages, weighted by their probabilities."""
        return (self.network(image).flatten(1).exp() * self.ages).sum(dim=1, keepdim=True)


def build_network(weights: Path | None = None) -> nn.Module:
    """Build the network; weights are the state dictionary of :class:`SFCN`."""
    torch.manual_seed(0)
    network = SFCN()
    if weights is not None:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(weights))
    return ExpectedAge(network)


def export(network: nn.Module, card: dict[str, Any], folder: Path) -> None:
    """Write the program, the card, and what the program says of one input."""
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    sample = torch.rand(2, 1, *card['input_shape'])
    batch = torch.export.Dim('batch')
    program = torch.export.export(network, (sample,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / f'{card["name"]}.pt2')
    (folder / 'card.json').write_text(json.dumps(card, indent=2) + '\n')
    with torch.no_grad():
        output = network(sample)
    np.savez(folder / card['golden'], input=sample.numpy(), output=output.numpy())


def main() -> None:
    """Export to the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--weights', type=Path, help='state dictionary of the network')
    asked = parser.parse_args()
    export(build_network(asked.weights), CARD, asked.folder)


if __name__ == '__main__':
    main()
