"""Network of an external classifier with the interface of the registry's classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.external.card import ClassifierCard

#: Smallest distance of probabilities from 0 and 1 before the logarithm.
CLAMP = 1e-6


class ExternalClassifier(nn.Module):
    """A frozen network whose output is converted to logits.

    :meth:`train` has no effect: the network stays in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        Network from (B, 1, ...), with axes in the card's order, to (B,) or (B, outputs).
    card : ClassifierCard
        Description of input and output.
    """

    def __init__(self, network: nn.Module, card: ClassifierCard) -> None:
        super().__init__()
        self.network, self.card = network, card
        self.training = False
        self.axes = tuple(2 + 'XYZ'.index(axis) for axis in card.axis_order)

    def raw(self, image: torch.Tensor) -> torch.Tensor:
        """Return the output (B, outputs) of the network itself for images (B, 1, X, Y, Z)."""
        if self.axes != (2, 3, 4):
            image = image.permute(0, 1, *self.axes).contiguous()
        if self.card.output == 'probability' or self.card.softmaxed:
            # In half precision, probabilities near 1 become 1 and lose their gradient.
            with torch.autocast(image.device.type, enabled=False):
                output = self.network(image.float())
        else:
            output = self.network(image)
        if isinstance(output, torch.Tensor) and output.ndim == 1 and len(output) == len(image):
            output = output[:, None]
        expected = (len(image), self.card.n_outputs)
        if not isinstance(output, torch.Tensor) or tuple(output.shape) != expected:
            is_tensor = isinstance(output, torch.Tensor)
            shape = tuple(output.shape) if is_tensor else type(output).__name__
            raise ModelError(
                f'The classifier returns {shape} for a batch of {len(image)}, but output '
                f'{self.card.output!r} of its card means {expected}.',
                'Use "multiclass" for two outputs, one per class.',
            )
        return output

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, K) of images (B, 1, X, Y, Z).

        K is the number of classes, or 1 for two classes and for a regression. A probability
        becomes its log-odds; it is clamped to [1e-6, 1 - 1e-6], beyond which the gradient is 0.
        Multiclass outputs become log-probabilities; two of them become their difference, positive
        minus negative. The value of a regression is standardised.
        """
        output = self.raw(image).float()
        card = self.card
        if card.output == 'logit':
            return output
        if card.output == 'probability':
            return _log(output) - _log(1 - output)
        if card.output == 'regression':
            return (output - card.target_mean) / card.target_sd
        logs = _log(output) if card.softmaxed else F.log_softmax(output, dim=1)
        return logs[:, 1:] - logs[:, :1] if card.n_outputs == 2 else logs

    def train(self, mode: bool = True) -> ExternalClassifier:
        """Return the network unchanged; exported programs have no modes, and others are frozen."""
        del mode
        return self

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Move parameters, buffers and the devices that an export recorded in its graph."""
        result = super()._apply(fn, recurse)
        if isinstance(self.network, torch.fx.GraphModule):
            _rewrite_devices(self.network, fn(torch.zeros(1)).device)
        return result


def _log(probability: torch.Tensor) -> torch.Tensor:
    return probability.clamp(CLAMP, 1 - CLAMP).log()


def _rewrite_devices(module: torch.fx.GraphModule, device: torch.device) -> None:
    changed = False
    for node in module.graph.nodes:
        args = tuple(device if isinstance(arg, torch.device) else arg for arg in node.args)
        kwargs = {
            name: device if isinstance(value, torch.device) else value
            for name, value in node.kwargs.items()
        }
        if (args, kwargs) != (node.args, node.kwargs):
            node.args, node.kwargs = args, kwargs
            changed = True
    if changed:
        module.recompile()
