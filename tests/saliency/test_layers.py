"""Order of the calls of layers, and the layers of Grad-CAM."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bids_interp.models.networks.registry import build_classifier
from bids_interp.saliency.layers import feature_layers, layer_calls

IMAGE = torch.ones(1, 1, 4, 4, 4)


def conv(before: int, after: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, 3, padding=1)


class Reversed(nn.Module):
    """Layers that are called in the opposite order of their registration, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.last, self.first = nn.ReLU(inplace=True), conv(2, 2), conv(1, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.relu(self.last(self.relu(self.first(image)))).flatten(1).sum(1)


def test_calls_are_in_the_order_of_the_forward_pass():
    network, image = Reversed(), -IMAGE
    calls = layer_calls(network, image)
    assert [layer for layer, _ in calls] == [
        network.first, network.relu, network.last, network.relu
    ]  # fmt: skip
    assert {shape for _, shape in calls} == {(1, 2, 4, 4, 4)}
    assert not any(layer._forward_hooks for layer in network.modules())
    nn.ReLU(inplace=True)(image.clone())
    assert (image == -1).all()


def test_a_layer_that_is_called_twice_is_not_looked_at():
    network = Reversed()
    assert feature_layers(network, IMAGE) == [network.last]


@pytest.mark.parametrize(
    ('layers', 'place'),
    [
        ([conv(1, 2), nn.InstanceNorm3d(2), nn.ELU(), nn.Flatten(), nn.Linear(128, 1)], 2),
        ([conv(1, 2), nn.ReLU(), conv(2, 1), nn.Flatten(), nn.Linear(64, 1)], 2),
        # Behind the pooling the features have another size.
        ([conv(1, 2), nn.BatchNorm3d(2), nn.MaxPool3d(2), nn.ReLU(), nn.Flatten()], 1),
        # One voxel has no place.
        ([conv(1, 2), nn.AdaptiveAvgPool3d(1), conv(2, 1), nn.ReLU(), nn.Flatten()], 0),
    ],
)
def test_the_features_are_those_behind_the_last_convolution(layers, place):
    network = nn.Sequential(*layers).eval()
    assert feature_layers(network, IMAGE) == [layers[place]]


def test_an_ensemble_has_one_layer_of_each_member():
    network = build_classifier('ipmi2021', (16, 16, 16), members=2).eval()
    image = torch.ones(1, 1, 16, 16, 16)
    found = feature_layers(network, image)
    assert found == [feature_layers(member, image)[0] for member in network.members]
    assert len(set(found)) == 2


def test_a_network_without_convolutions_has_none():
    assert feature_layers(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), IMAGE) == []
