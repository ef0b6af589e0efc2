"""The worked examples do what the documentation says of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.external.loader import check_classifier, load_external, source_of
from helpers.scripts import load_script


@pytest.fixture(scope='module')
def example(repository: Path) -> ModuleType:
    """The script that exports a network."""
    return load_script(repository / 'examples' / 'export_monai_densenet.py')


def _accepted(folder: Path) -> nn.Module:
    """Load and check what an example wrote, as ``train`` does."""
    card = ClassifierCard.read(folder / 'card.json')
    network = load_external(source_of(folder / f'{card.name}.pt2'), card)
    check_classifier(network, card, card.golden_file(folder / 'card.json'))
    return network


def test_the_export_fits_its_card(example: ModuleType, tmp_path: Path):
    """With another network, so that MONAI is not needed."""
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(2),
        nn.Flatten(),
        nn.Linear(32, 1),
    )
    example.export(network, {**example.CARD, 'input_shape': [12, 14, 10]}, tmp_path)
    images = torch.rand(3, 1, 12, 14, 10)
    torch.testing.assert_close(_accepted(tmp_path)(images), network(images))


def test_an_age_network(repository: Path, tmp_path: Path):
    """The published form on a small grid; the expected age lies between the first and last bin."""
    sfcn = load_script(repository / 'examples' / 'export_sfcn_age.py')
    card = {**sfcn.CARD, 'input_shape': [32, 40, 32], 'voxel_size': [5, 5, 5]}
    torch.manual_seed(0)
    network = sfcn.ExpectedAge(sfcn.SFCN((4, 4, 8, 8, 8, 4)))
    sfcn.export(network, card, tmp_path)
    images = torch.rand(2, 1, 32, 40, 32)
    ages = network.eval()(images)
    assert ((ages > 42) & (ages < 82)).all()
    torch.testing.assert_close(_accepted(tmp_path)(images), (ages - 62.7) / 7.5)
    # The crop of FSL's image of 182 x 218 x 182 voxels, whose first voxel lies at (90, -126, -72).
    affine = ClassifierCard.from_dict(sfcn.CARD).grid.affine
    assert (affine @ [-11, -13, -11, 1]).tolist() == [90, -126, -72, 1]


def test_the_grid_of_the_example_holds_the_brain(example: ModuleType, template_brain):
    grid = ClassifierCard.from_dict(example.CARD).grid
    voxels = (template_brain.get_fdata() > 0).nonzero()
    world = template_brain.affine[:3, :3] @ voxels + template_brain.affine[:3, 3:]
    last = grid.affine @ [*(size - 1 for size in grid.shape), 1]
    assert (world.min(axis=1) > grid.affine[:3, 3] - 2).all()
    assert (world.max(axis=1) < last[:3] + 2).all()


def test_a_densenet_of_monai(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip('monai', reason='MONAI is not installed: pip install monai')
    monkeypatch.setattr(sys, 'argv', ['export', str(tmp_path)])
    monkeypatch.setitem(example.CARD, 'input_shape', [32, 32, 32])
    example.main()
    assert json.loads((tmp_path / 'card.json').read_text())['name'] == 'densenet'
    images = torch.rand(2, 1, 32, 32, 32)
    expected = example.build_network().eval()(images)
    torch.testing.assert_close(_accepted(tmp_path)(images), expected)
