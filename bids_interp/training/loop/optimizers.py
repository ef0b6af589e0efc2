"""Optimizers that PyTorch lacks: a shared second moment, and several Adams in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


class AlternatingAdam(torch.optim.Optimizer):
    """Several Adams over the same tensors, one of which takes each step.

    Each of them keeps moments of its own, which only its own steps change. Weight decay is part of
    the gradient.

    Parameters
    ----------
    params : iterable
        Tensors to update.
    rates : sequence of float
        Learning rate of each Adam.
    turns : sequence of int
        Index of the Adam that takes each step.
    weight_decay : float
        Weight of the tensors in their gradient.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        rates: Sequence[float],
        turns: Sequence[int],
        weight_decay: float = 0.0,
    ) -> None:
        shared = list(params)
        super().__init__(shared, {})
        self.adams = [torch.optim.Adam(shared, rate, weight_decay=weight_decay) for rate in rates]
        self.turns, self.count = turns, 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let the Adam of this turn update every tensor."""
        loss = self.adams[self.turns[self.count]].step(closure)
        self.count += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the states of all Adams."""
        return {'count': self.count, 'adams': [adam.state_dict() for adam in self.adams]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.count = state_dict['count']
        for adam, state in zip(self.adams, state_dict['adams'], strict=True):
            adam.load_state_dict(state)
