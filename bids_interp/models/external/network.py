"""A classifier made elsewhere, behind the face that the registry's own ones have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.errors import ModelError
from bids_interp.models.external.card import ClassifierCard

#: Probabilities are kept this far from 0 and 1 before their logarithm is taken.
CLAMP = 1e-6


class ExternalClassifier(nn.Module):
    """A frozen network and the translation of what it says into logits.

    Its state never changes with :meth:`train`: the network stays in evaluation mode.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (B, 1, ...), axes in the card's order, to (B,) or (B, outputs).
    card : ClassifierCard
        What the outputs mean.
    """

    def __init__(self, network: nn.Module, card: ClassifierCard) -> None:
        super().__init__()
        self.network, self.card = network, card
        self.training = False
        self.axes = tuple(2 + 'XYZ'.index(axis) for axis in card.axis_order)

    def raw(self, image: torch.Tensor) -> torch.Tensor:
        """What the network itself says, (B, outputs), of images (B, 1, X, Y, Z)."""
        if self.axes != (2, 3, 4):
            image = image.permute(0, 1, *self.axes).contiguous()
        if self.card.output == 'probability' or self.card.softmaxed:
            # In half precision probabilities near 1 are 1: no gradient is left of them.
            with torch.autocast(image.device.type, enabled=False):
                said = self.network(image.float())
        else:
            said = self.network(image)
        if isinstance(said, torch.Tensor) and said.ndim == 1 and len(said) == len(image):
            said = said[:, None]
        wanted = (len(image), self.card.n_outputs)
        if not isinstance(said, torch.Tensor) or tuple(said.shape) != wanted:
            shape = tuple(said.shape) if isinstance(said, torch.Tensor) else type(said).__name__
            raise ModelError(
                f'The classifier returns {shape} for a batch of {len(image)}, but for output '
                f'{self.card.output!r} its card promises {wanted}.',
                'Two outputs, one per class, are "multiclass".',
            )
        return said

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, 1, X, Y, Z).

        K is 1 for two classes and for a regression, else the number of classes. A probability p
        becomes its log-odds, p kept within 1e-6 of 0 and 1, beyond which the gradient is 0;
        outputs of several classes become log-probabilities, of two their difference, positive
        minus negative; a regression's value is standardised.
        """
        said = self.raw(image).float()
        card = self.card
        if card.output == 'logit':
            return said
        if card.output == 'probability':
            return _log(said) - _log(1 - said)
        if card.output == 'regression':
            return (said - card.target_mean) / card.target_sd
        logs = _log(said) if card.softmaxed else F.log_softmax(said, dim=1)
        return logs[:, 1:] - logs[:, :1] if card.n_outputs == 2 else logs

    def train(self, mode: bool = True) -> ExternalClassifier:
        """Leave everything as it is: an exported program has no modes, and others are frozen."""
        del mode
        return self

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Move parameters, buffers and the devices that an export has written into its graph."""
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
