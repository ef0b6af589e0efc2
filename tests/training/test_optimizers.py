"""Adam with one second moment for each tensor by hand, and several Adams in turns."""

from __future__ import annotations

import copy

import pytest
import torch

from bids_interp.training.loop.optimizers import AlternatingAdam, SharedAdam


def test_two_steps_by_hand() -> None:
    tensor = torch.zeros(2, requires_grad=True)
    optimizer = SharedAdam([tensor], lr=0.1, betas=(0.5, 0.75))
    tensor.grad = torch.tensor([3.0, 1.0])
    optimizer.step()
    # Mean square 5; bias corrections cancel at the first step.
    first = -0.1 * torch.tensor([3.0, 1.0]) / 5**0.5
    torch.testing.assert_close(tensor.detach(), first)
    tensor.grad = torch.tensor([-1.0, 1.0])
    optimizer.step()
    mean = (0.25 * torch.tensor([3.0, 1.0]) + 0.5 * torch.tensor([-1.0, 1.0])) / 0.75
    square = (0.25 * 0.75 * 5 + 0.25 * 1) / (1 - 0.75**2)
    torch.testing.assert_close(tensor.detach(), first - 0.1 * mean / square**0.5)


def test_the_pattern_of_a_gradient_is_kept_whatever_its_size() -> None:
    pattern = torch.tensor([5.0, -1.0, 0.0, 0.2])
    moved = []
    for size in (1e-6, 1e3):
        tensor = torch.zeros(4, requires_grad=True)
        optimizer = SharedAdam([tensor], lr=0.1)
        for _ in range(3):
            tensor.grad = size * pattern
            optimizer.step()
        moved.append(tensor.detach())
    torch.testing.assert_close(moved[0], moved[1])
    torch.testing.assert_close(
        moved[0], -0.3 * pattern / pattern.square().mean().sqrt(), rtol=1e-4, atol=1e-7
    )


def test_its_state_is_kept_in_checkpoints() -> None:
    def run(steps: int, state: dict | None, start: torch.Tensor) -> tuple[torch.Tensor, dict]:
        tensor = start.clone().requires_grad_()
        optimizer = SharedAdam([tensor], lr=0.1)
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            tensor.grad = tensor.detach() - 1.0
            optimizer.step()
        return tensor.detach(), copy.deepcopy(optimizer.state_dict())

    start = torch.tensor([0.0, 3.0])
    whole, _ = run(4, None, start)
    half, state = run(2, None, start)
    again, _ = run(2, state, half)
    torch.testing.assert_close(again, whole, rtol=0, atol=0)


def test_a_closure_is_evaluated_with_gradients() -> None:
    tensor = torch.ones(1, requires_grad=True)
    optimizer = SharedAdam([tensor], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = tensor.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert tensor.item() == pytest.approx(0.9)


#: Steps of four Adams, some of them in a row.
TURNS = (0, 2, 0, 0, 3, 1, 1, 2)
RATES = (0.1, 0.2, 0.05, 0.3)


def alternate(
    start: torch.Tensor, turns: tuple[int, ...], state: dict | None = None, steps: int = len(TURNS)
) -> tuple[torch.Tensor, AlternatingAdam]:
    tensor = start.clone().requires_grad_()
    optimizer = AlternatingAdam([tensor], RATES, turns, weight_decay=0.5)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        optimizer.zero_grad()
        # Another gradient for each Adam, so that moments which are mixed up would show.
        tensor.grad = (turns[optimizer.count] + 1) * (tensor.detach() - 1.0)
        optimizer.step()
    return tensor.detach(), optimizer


def test_each_adam_takes_its_own_steps_with_its_own_moments() -> None:
    """As four Adams of PyTorch, whose weight decay is in the gradient."""
    start = torch.tensor([0.0, 3.0])
    tensor = start.clone().requires_grad_()
    adams = [torch.optim.Adam([tensor], lr=rate, weight_decay=0.5) for rate in RATES]
    for turn in TURNS:
        tensor.grad = (turn + 1) * (tensor.detach() - 1.0)
        adams[turn].step()
    found, optimizer = alternate(start, TURNS)
    assert torch.equal(found, tensor.detach())
    steps = [float(next(iter(adam.state.values()))['step']) for adam in optimizer.adams]
    assert steps == [3, 2, 2, 1]


def test_coupled_weight_decay_by_hand() -> None:
    """The first step of Adam has the size of the rate and the sign of gradient plus decay."""
    tensor = torch.tensor([2.0, 2.0], requires_grad=True)
    optimizer = AlternatingAdam([tensor], (0.1,), (0,), weight_decay=0.5)
    tensor.grad = torch.tensor([-0.9, -1.1])
    optimizer.step()
    torch.testing.assert_close(tensor.detach(), torch.tensor([1.9, 2.1]))


@pytest.mark.parametrize('kept', range(1, len(TURNS)))
def test_a_checkpoint_keeps_all_adams_and_the_turn(kept: int) -> None:
    start = torch.tensor([0.0, 3.0])
    whole, _ = alternate(start, TURNS)
    half, optimizer = alternate(start, TURNS, steps=kept)
    state = copy.deepcopy(optimizer.state_dict())
    again, _ = alternate(half, TURNS, state, len(TURNS) - kept)
    assert torch.equal(again, whole)
