"""Flows of a simulator's field: the forward and the pull-back displacement."""

from __future__ import annotations

import torch

from bids_interp.spatial.fields import exponential, warp
from bids_interp.spatial.grid import Grid

#: A stationary velocity, which is integrated, or a displacement that pulls the image back.
FIELD_KINDS = ('velocity', 'displacement')


def flow(
    field: torch.Tensor, grid: Grid, kind: str = 'velocity'
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the forward and the pull-back displacement of a field.

    Parameters
    ----------
    field : torch.Tensor
        (B, 3, X, Y, Z) mm along world axes.
    grid : Grid
        Grid of the field.
    kind : {'velocity', 'displacement'}
        A stationary velocity v (forward exp(v), pull-back exp(-v)), or a displacement u that pulls
        the image back and whose inverse is found numerically.

    Returns
    -------
    forward, backward : torch.Tensor
        (B, 3, X, Y, Z) mm: the movement of tissue, and the displacement that pulls the image back.
    """
    return forward_map(field, grid, kind), pull_back(field, grid, kind)


def forward_map(field: torch.Tensor, grid: Grid, kind: str = 'velocity') -> torch.Tensor:
    """Return the first result of :func:`flow`, the movement of tissue."""
    return exponential(field, grid) if _is_velocity(kind) else invert(field, grid)


def pull_back(field: torch.Tensor, grid: Grid, kind: str = 'velocity') -> torch.Tensor:
    """Return the second result of :func:`flow`, which pulls the image back."""
    return exponential(-field, grid) if _is_velocity(kind) else field


def _is_velocity(kind: str) -> bool:
    if kind not in FIELD_KINDS:
        raise ValueError(f'{kind!r} is not a kind of field; choose one of {FIELD_KINDS}.')
    return kind == 'velocity'


def invert(displacement: torch.Tensor, grid: Grid, iterations: int = 30) -> torch.Tensor:
    """Return the inverse of x + u(x) by the fixed point w(y) = -u(y + w(y)).

    Parameters
    ----------
    displacement : torch.Tensor
        (B, 3, X, Y, Z) mm.
    grid : Grid
        Grid of the displacement.
    iterations : int
        Number of iterations. They converge where u changes by less than its length (no folding);
        elsewhere the result is the last iterate, and its Jacobian shows the fold.

    References
    ----------
    Chen M, Lu W, Chen Q, Ruchala KJ, Olivera GH. A simple fixed-point approach to invert a
    deformation field. Medical Physics 2008;35(1):81-88.
    """
    inverse = -displacement
    for _ in range(iterations):
        inverse = -warp(displacement, inverse, grid, padding='border')
    return inverse
