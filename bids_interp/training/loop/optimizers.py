"""Optimizer with a shared second moment, which PyTorch lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class SharedAdam(torch.optim.Optimizer):
    """Adam with one second moment for each tensor.

    Adam divides every entry of a gradient by its own magnitude, so that a velocity field changes
    as much in voxels that the classifier ignores as in others. One divisor for all entries keeps
    the pattern of the gradient.

    Parameters
    ----------
    params : iterable
        Tensors to update, or groups of them.
    lr : float
        Learning rate: root mean square of the step if the gradient stays constant.
    betas : tuple of float
        Decay of the mean gradient and of its mean square.

    References
    ----------
    Zhang Y et al. Adam-mini: use fewer learning rates to gain more. arXiv:2406.16793, 2024.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(params, {'lr': lr, 'betas': betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every tensor by one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group['lr'], *group['betas'])
        return loss

    def _update(
        self,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        rate: float,
        slow: float,
        slower: float,
    ) -> None:
        state = self.state[parameter]
        if not state:
            state['step'] = torch.zeros((), device=parameter.device)
            state['mean'] = torch.zeros_like(parameter)
            state['square'] = torch.zeros((), device=parameter.device)
        state['step'] += 1
        state['mean'].lerp_(gradient, 1 - slow)
        state['square'].lerp_(gradient.square().mean(), 1 - slower)
        mean = state['mean'] / (1 - slow ** state['step'])
        square = state['square'] / (1 - slower ** state['step'])
        parameter.sub_(rate * mean / (square.sqrt() + 1e-12))
