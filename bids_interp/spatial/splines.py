"""Splines: smooth fields on a coarse lattice, evaluated exactly on finer grids.

Trilinear upsampling of a coarse velocity gives a gradient that jumps from cell to cell, which shows
as facets in the log-Jacobian. A cubic B-spline is twice continuously differentiable, so maps are
smooth at 1 mm for any resolution of the model.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch

from bids_interp.spatial.fields import resample, transform_vectors
from bids_interp.spatial.grid import Grid


def _basis(distance: np.ndarray) -> np.ndarray:
    """Return the centred cubic B-spline."""
    t = np.abs(distance)
    inner = 2.0 / 3.0 - t**2 + t**3 / 2.0
    outer = (2.0 - t) ** 3 / 6.0
    return np.where(t < 1, inner, np.where(t < 2, outer, 0.0))


def axis_weights(size: int, positions: np.ndarray) -> np.ndarray:
    """Return the weights of the coefficients of one axis, (len(positions), size).

    The lattice is mirrored at its ends; positions (in lattice steps) outside it get zero.
    """
    positions = np.asarray(positions, dtype=np.float64)
    weights = np.zeros((len(positions), size))
    for offset in range(-2, size + 2):
        mirrored = abs(offset)
        if mirrored > size - 1:
            mirrored = 2 * (size - 1) - mirrored
        if 0 <= mirrored < size:
            weights[:, mirrored] += _basis(positions - offset)
    weights[(positions < -1e-6) | (positions > size - 1 + 1e-6)] = 0.0
    return weights


def is_aligned(source: Grid, target: Grid) -> bool:
    """Return True if the axes of both grids are parallel, so that evaluation is separable."""
    between = np.linalg.inv(source.linear) @ target.linear
    return bool(np.allclose(between, np.diag(np.diag(between)), atol=1e-6))


class SplineEvaluator:
    """Evaluation of B-spline coefficients on another grid with parallel axes.

    Parameters
    ----------
    source : Grid
        Lattice of the coefficients.
    target : Grid
        Grid of the values; its axes are parallel to those of ``source``.

    Raises
    ------
    ValueError
        If the axes of the grids are not parallel.
    """

    def __init__(self, source: Grid, target: Grid) -> None:
        if not is_aligned(source, target):
            raise ValueError('B-splines can only be evaluated on grids with parallel axes.')
        matrix = np.linalg.inv(source.affine) @ target.affine
        self.weights = [
            torch.as_tensor(
                axis_weights(size, matrix[axis, axis] * np.arange(count) + matrix[axis, 3]),
                dtype=torch.float32,
            )
            for axis, (size, count) in enumerate(zip(source.shape, target.shape, strict=True))
        ]

    def __call__(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return the values (B, C, X', Y', Z') of coefficients (B, C, X, Y, Z)."""
        a, b, c = (weights.to(coefficients) for weights in self.weights)
        data = torch.einsum('zk,ncijk->ncijz', c, coefficients)
        data = torch.einsum('yj,ncijz->nciyz', b, data)
        return torch.einsum('xi,nciyz->ncxyz', a, data)


def spline_coefficients(values: np.ndarray) -> np.ndarray:
    """Return the coefficients of the cubic B-spline that interpolates values (C, X, Y, Z)."""
    return np.stack(
        [
            scipy.ndimage.spline_filter(channel, order=3, mode='mirror', output=np.float32)
            for channel in np.asarray(values, dtype=np.float32)
        ]
    )


def refine_velocity(
    velocity: np.ndarray,
    source: Grid,
    target: Grid,
    target_to_source: np.ndarray | None = None,
) -> torch.Tensor:
    """Resample a velocity field to another grid and world by cubic splines.

    Unlike :func:`bids_interp.spatial.resample`, this keeps the gradient of the field continuous,
    as the log-Jacobian needs.

    Parameters
    ----------
    velocity : numpy.ndarray
        (3, X, Y, Z), mm along the axes of the source's world.
    source : Grid
        Grid of the velocity (in template space).
    target : Grid
        Grid of the result (in template space or a subject's own space).
    target_to_source : numpy.ndarray, optional
        4 x 4 affine A from the target's world to the source's, with linear part L. The result is
        v'(p) = L^-1 v(A p), so that exp(v') = A^-1 exp(v) A.

    Returns
    -------
    torch.Tensor
        (1, 3, X', Y', Z'), mm along the axes of the target's world; zero outside the source.
    """
    coefficients = torch.from_numpy(spline_coefficients(velocity))[None]
    between = np.eye(4) if target_to_source is None else np.asarray(target_to_source, dtype=float)
    carried = Grid(target.shape, between @ target.affine, source.space)
    if is_aligned(source, carried):
        refined = SplineEvaluator(source, carried)(coefficients)
    else:
        # For a rotated grid: splines to a lattice as fine as the target, then linear.
        lattice = source.with_spacing(max(1.0, float(carried.spacing.min())))
        refined = resample(SplineEvaluator(source, lattice)(coefficients), lattice, carried)
    return transform_vectors(refined, np.linalg.inv(between))
