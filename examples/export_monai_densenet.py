"""Export a 3-D DenseNet of MONAI for bids_interp: densenet.pt2, card.json and golden.npz.

    python examples/export_monai_densenet.py FOLDER [--weights FILE.safetensors]

Needs ``pip install monai``. The network is small and, without ``--weights``, untrained: put your
own in the place of :func:`build_network`, and your own grid, normalisation and names into CARD.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

#: What the classifier takes and says. Voxels of 4 mm; the first one is centred at the origin.
CARD: dict[str, Any] = {
    'name': 'densenet',
    'output': 'logit',
    'input_shape': [40, 48, 42],
    'voxel_size': [4, 4, 4],
    'orientation': 'RAS',
    'origin': [-78, -112, -73],
    'template': 'MNI152NLin2009aSym',
    'preprocessing': {'normalisation': 'zscore'},
    'label': 'group',
    'classes': ['control', 'patient'],
    'golden': 'golden.npz',
}


def build_network(weights: Path | None = None) -> nn.Module:
    """Build a small DenseNet with one logit; MONAI's DenseNet121 is exported in the same way."""
    from monai.networks.nets import DenseNet

    torch.manual_seed(0)
    network = DenseNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        init_features=8,
        growth_rate=4,
        block_config=(2, 2, 2),
    )
    if weights is not None:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(weights))
    return network


def export(network: nn.Module, card: dict[str, Any], folder: Path) -> None:
    """Write the program, the card, and what the program says of one input."""
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()  # an exported program keeps the mode that it was exported in
    sample = torch.rand(2, 1, *card['input_shape'])
    # Two samples, because a size of 1 is taken for a constant; the batch size stays free.
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
