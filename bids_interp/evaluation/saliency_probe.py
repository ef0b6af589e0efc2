"""What one forward pass of a network tells about the saliency methods that apply to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bids_interp.models.classifier import Ensemble

#: Layers whose gradient Captum's DeepLift replaces (``captum.attr._core.deep_lift``).
DEEPLIFT_LAYERS = (
    nn.ReLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.Softmax,
)
#: Non-linear operators of PyTorch, without the underscore of their in-place versions.
_NONLINEAR = {
    'relu', 'elu', 'celu', 'leaky_relu', 'prelu', '_prelu_kernel', 'rrelu_with_noise',
    'sigmoid', 'log_sigmoid_forward', 'tanh', 'softplus', 'gelu', 'silu', 'mish',
    'hardswish', 'hardsigmoid', 'hardtanh', '_softmax', '_log_softmax',
    'max_pool2d_with_indices', 'max_pool3d_with_indices',
    'adaptive_max_pool2d', 'adaptive_max_pool3d', 'grid_sampler_2d', 'grid_sampler_3d', 'log',
}  # fmt: skip
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
#: Layers that may follow a convolution and still show the same features.
_AFTER_CONVOLUTION = (
    nn.modules.batchnorm._NormBase,
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


@dataclass
class Probe:
    """The layers and non-linear operators of one forward pass.

    Parameters
    ----------
    layers : list of (torch.nn.Module, tuple of int)
        Layers without children in the order of their calls, with the shape of their output.
    operators : Counter
        Non-linear operators and how often each ran, inside layers or not.
    differentiable : bool
        Whether the score has a gradient with respect to the image.
    members : list of set of torch.nn.Module
        The layers of each member of an ensemble; of the whole network where it is none.
    """

    layers: list[tuple[nn.Module, tuple[int, ...]]] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    differentiable: bool = True
    members: list[set[nn.Module]] = field(default_factory=list)

    def calls(self, kinds: tuple[type[nn.Module], ...]) -> Counter[nn.Module]:
        """Count the calls of each layer of some kinds."""
        return Counter(layer for layer, _ in self.layers if isinstance(layer, kinds))

    def without_relu(self) -> str:
        """Say why gradients of ReLU cannot be replaced; empty where they can.

        Captum replaces the gradient of ``torch.nn.ReLU`` layers alone: in a network without them
        it returns the plain gradient under another name.
        """
        layers, operators = self.calls((nn.ReLU,)).total(), self.operators['relu']
        if operators > layers:
            return (
                'the network has ReLUs that are no layers (as every exported program), and only '
                'the gradient of a layer can be replaced'
            )
        if not layers:
            return 'the network has no ReLU, so that the map would be the plain gradient'
        return ''

    def without_single_relu(self) -> str:
        """Say why output gradients of ReLU cannot be used; empty where they can.

        Captum keeps one output gradient per layer: of a layer that is called twice it may take
        that of the wrong call.
        """
        reason = self.without_relu()
        if not reason and max(self.calls((nn.ReLU,)).values()) > 1:
            return 'the network uses one ReLU layer at several places'
        return reason

    def without_deeplift_rule(self) -> str:
        """Say why DeepLift's rules cannot be applied; empty where they can."""
        calls = self.calls(DEEPLIFT_LAYERS)
        if any(number > 1 for number in calls.values()):
            return 'the network uses one non-linear layer at several places'
        if self.operators.total() > calls.total():
            names = ', '.join(sorted(self.operators))
            return (
                'the network has non-linear steps that are no layers with a rule of DeepLift '
                f'(as every exported program); among {names}'
            )
        return ''

    def feature_layers(self) -> list[nn.Module]:
        """Find the layers whose features Grad-CAM weighs: one, or one of each ensemble member.

        Returns
        -------
        list of torch.nn.Module
            Empty where a member has none, as in an exported program.
        """
        found = [self._feature_layer(member) for member in self.members]
        return [layer for layer in found if layer is not None] if all(found) else []

    def _feature_layer(self, member: set[nn.Module]) -> nn.Module | None:
        """Find the layer of one member.

        The last convolution with more than one voxel per axis, or the normalisation and activation
        after it: in front of a normalisation by the image's own mean, the mean gradient is zero by
        construction, and so would be the map.
        """
        layers = [(layer, shape) for layer, shape in self.layers if layer in member]
        places = [
            place
            for place, (layer, shape) in enumerate(layers)
            if isinstance(layer, _CONVOLUTIONS) and min(shape[2:], default=1) > 1
        ]
        if not places:
            return None
        calls = self.calls((nn.Module,))
        convolution, shape = layers[places[-1]]
        chosen = convolution if calls[convolution] == 1 else None
        for layer, after in layers[places[-1] + 1 :]:
            if after != shape or not isinstance(layer, _AFTER_CONVOLUTION):
                break
            # Of a layer that is called twice it would not be known which call is meant.
            if calls[layer] == 1:
                chosen = layer
        return chosen


class _Operators(TorchDispatchMode):
    """Counts non-linear operators."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        name = func.overloadpacket.__name__
        plain = name.removesuffix('_')
        if plain in _NONLINEAR:
            self.seen[plain] += 1
        return func(*args, **(kwargs or {}))


def probe(score: nn.Module, image: torch.Tensor) -> Probe:
    """Run a network once and note what it is made of.

    Parameters
    ----------
    score : torch.nn.Module
        Maps (1, 1, X, Y, Z) to one number.
    image : torch.Tensor
        (1, 1, X, Y, Z).
    """
    groups = next(
        (module.members for module in score.modules() if isinstance(module, Ensemble)), [score]
    )
    found = Probe(members=[set(group.modules()) for group in groups])

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            found.layers.append((layer, tuple(output.shape)))

    leaves = [layer for layer in score.modules() if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with torch.enable_grad(), _Operators(found.operators):
            found.differentiable = score(image.detach().clone().requires_grad_()).requires_grad
    finally:
        for hook in hooks:
            hook.remove()
    return found
