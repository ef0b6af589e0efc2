"""Layers of a network in the order of their calls, and the feature layers of Grad-CAM."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

from bids_interp.models.networks.registry import Ensemble

#: Layer without children, and the shape of its output.
Call = tuple[nn.Module, tuple[int, ...]]

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
#: Layers that may follow a convolution and keep its features.
_AFTER_CONVOLUTION = (
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.ReLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.ReLU6,
    nn.Softplus,
    nn.Tanh,
)


@torch.no_grad()
def layer_calls(network: nn.Module, image: torch.Tensor) -> list[Call]:
    """Run a network once and list its layers in the order of their calls.

    Parameters
    ----------
    network : torch.nn.Module
        Network; an exported program has no layers and gives an empty list.
    image : torch.Tensor
        (1, 1, X, Y, Z).
    """
    calls: list[Call] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            calls.append((layer, tuple(output.shape)))

    leaves = [layer for layer in network.modules() if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        # A copy, because in-place layers may change their input.
        network(image.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def feature_layers(network: nn.Module, image: torch.Tensor) -> list[nn.Module]:
    """Find the feature layers of Grad-CAM: one, or one per ensemble member.

    Parameters
    ----------
    network : torch.nn.Module
        Network from images to scores.
    image : torch.Tensor
        (1, 1, X, Y, Z).

    Returns
    -------
    list of torch.nn.Module
        Feature layers; empty if the network, or one member, has no convolution layer.
    """
    members = next((m.members for m in network.modules() if isinstance(m, Ensemble)), [network])
    calls = layer_calls(network, image)
    number = Counter(layer for layer, _ in calls)
    # Layers that are called twice are ambiguous.
    once = [call for call in calls if number[call[0]] == 1]
    axes = [axis for axis, size in enumerate(image.shape) if axis > 1 and size > 1]
    found = [_feature_layer(once, set(member.modules()), axes) for member in members]
    return [layer for layer in found if layer is not None] if all(found) else []


def _feature_layer(calls: list[Call], member: set[nn.Module], axes: list[int]) -> nn.Module | None:
    """Find the last convolution with several voxels along `axes`, or what follows it directly.

    Before an instance normalisation, the mean gradient is zero by construction, and so is the map.
    """
    chosen: nn.Module | None = None
    following = False
    size: tuple[int, ...] = ()
    for layer, shape in calls:
        if layer not in member:
            continue
        if isinstance(layer, _CONVOLUTIONS) and _is_map(shape, axes):
            chosen, size, following = layer, shape, True
        elif following and shape == size and isinstance(layer, _AFTER_CONVOLUTION):
            chosen = layer
        else:
            following = False
    return chosen


def _is_map(shape: tuple[int, ...], axes: list[int]) -> bool:
    """Return True if an output has several voxels along each axis along which the image has."""
    return bool(axes) and len(shape) > max(axes) and all(shape[axis] > 1 for axis in axes)
