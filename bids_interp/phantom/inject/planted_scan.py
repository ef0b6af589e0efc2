"""Planted scan: a replicate of a real scan with a known change, in one interpolation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bids_interp.phantom.change.anatomy import spline_noise
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.change.boundary import BoundaryChange, PlantedChange
from bids_interp.phantom.inject.warps import ReplicateWarp, fade
from bids_interp.spatial import (
    Grid,
    SplineEvaluator,
    refine_velocity,
    resample,
    spline_coefficients,
)

#: Intensity confound: power of the contrast, and standard deviation of the log bias field.
CONFOUND_POWER = 1.15
CONFOUND_BIAS = 0.12
_CONFOUND_KNOTS_MM = 80.0
_CONFOUND_SEED = 6


class PlantedScan(NamedTuple):
    """Replicate on the grid of its scan."""

    #: (X, Y, Z) float32 intensities.
    image: np.ndarray
    #: (X, Y, Z) uint8 brain mask.
    brain_mask: np.ndarray
    #: (X, Y, Z) float32 exact log-Jacobian on the grid of the scan; None without a change.
    truth: np.ndarray | None


def plant_change(
    image: np.ndarray,
    grid: Grid,
    mask: np.ndarray,
    mask_grid: Grid,
    native_to_template: np.ndarray,
    warp: ReplicateWarp,
    field_grid: Grid,
    confound: bool = False,
) -> PlantedScan:
    """Warp a scan into one replicate.

    Parameters
    ----------
    image : numpy.ndarray
        (X, Y, Z) intensities of the scan, whole head or brain.
    grid : Grid
        Grid of the scan, with any orientation, voxel size and obliqueness.
    mask : numpy.ndarray
        Brain mask, 0 and 1, on `mask_grid`.
    mask_grid : Grid
        Grid of the mask, in the same world as the scan.
    native_to_template : numpy.ndarray
        4 x 4 from the world of the scan to that of the template, RAS+ mm.
    warp : ReplicateWarp
        Warp on `field_grid` in template space.
    field_grid : Grid
        Grid of the warp.
    confound : bool
        Whether contrast and bias field are changed, equally in every scan.

    Returns
    -------
    PlantedScan
        Image, mask and truth on the grid of the scan.

    Notes
    -----
    The composed displacement u of template space becomes L^-1 u(A p) in the scan's own. A
    log-Jacobian is carried by plain resampling, without a factor.
    """
    with torch.no_grad():
        shift = refine_velocity(warp.pull_back, field_grid, grid, native_to_template)
        data = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
        moved = resample(data, grid, grid, displacement=shift, padding='border')[0, 0].numpy()
        inside = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
        brain = resample(inside, mask_grid, grid, displacement=shift)[0, 0].numpy() >= 0.5
        truth = None
        if warp.truth is not None:
            truth = carry_map(warp.truth, field_grid, grid, native_to_template)
    if confound:
        bias = confound_bias(field_grid, grid, native_to_template)
        moved = change_intensities(moved, brain, bias)
    return PlantedScan(moved, brain.astype(np.uint8), truth)


def confound_bias(source: Grid, grid: Grid, native_to_template: np.ndarray) -> np.ndarray:
    """Make the bias field (X, Y, Z) of the confound, the same in template space for every scan.

    Parameters
    ----------
    source : Grid
        Grid of the deformations, in template space.
    grid : Grid
        Grid of the bias field.
    native_to_template : numpy.ndarray
        4 x 4 from the world of `grid` to that of the template.
    """
    pattern = fade(source) * _confound_pattern(source)
    return np.exp(CONFOUND_BIAS * carry_map(pattern, source, grid, native_to_template))


def change_intensities(image: np.ndarray, brain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Change the contrast of a scan and apply a bias field; zeros stay zero.

    Parameters
    ----------
    image : numpy.ndarray
        Intensities.
    brain : numpy.ndarray
        Boolean mask; the contrast keeps the 95th percentile of its voxels.
    bias : numpy.ndarray
        Factor of each voxel.

    Returns
    -------
    numpy.ndarray
        float32 intensities.
    """
    bright = max(float(np.percentile(image[brain], 95)), 1e-6)
    share = np.maximum(image, 0) / bright
    return (bright * share**CONFOUND_POWER * bias).astype(np.float32)


def _confound_pattern(grid: Grid) -> np.ndarray:
    rng = np.random.default_rng(_CONFOUND_SEED)
    return spline_noise(grid, rng, _CONFOUND_KNOTS_MM, components=1)[0]


def carry_map(
    values: np.ndarray, source: Grid, grid: Grid, native_to_template: np.ndarray
) -> np.ndarray:
    """Resample a smooth map from template space to a scan by cubic splines, without a determinant.

    Parameters
    ----------
    values : numpy.ndarray
        (X, Y, Z) on `source`.
    source, grid : Grid
        Grids in template space and of the scan.
    native_to_template : numpy.ndarray
        4 x 4 from the world of the scan to that of the template.

    Returns
    -------
    numpy.ndarray
        float32 on `grid`, 0 outside `source`.
    """
    step = float(Grid(grid.shape, native_to_template @ grid.affine).spacing.min())
    lattice = source.with_spacing(max(1.0, step))
    coefficients = torch.from_numpy(spline_coefficients(values[None]))[None]
    fine = SplineEvaluator(source, lattice)(coefficients)
    return resample(fine, lattice, grid, native_to_template)[0, 0].numpy()


def save_change(path: str | Path, change: PlantedChange) -> None:
    """Write a change as NPZ; equal fields give equal bytes."""
    names = list(change.changes)
    common: dict[str, Any] = {
        'affine': change.grid.affine,
        'space': np.array(change.grid.space),
        'names': np.array(names, dtype=str),
        'sizes': np.array([change.changes[name] for name in names], dtype=float),
    }
    if isinstance(change, BoundaryChange):
        np.savez(path, velocities=change.velocities, **common)
        return
    np.savez(
        path,
        velocity=change.velocity,
        absorb=np.array(change.absorb),
        quality=np.array([change.absorbed, change.rmse]),
        **common,
    )


def load_change(path: str | Path) -> PlantedChange:
    """Read a change that :func:`save_change` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        changes = dict(zip(kept['names'].tolist(), kept['sizes'].tolist(), strict=True))
        is_boundary = 'velocities' in kept
        velocity = kept['velocities' if is_boundary else 'velocity']
        shape = velocity.shape[-3:]
        grid = Grid((shape[0], shape[1], shape[2]), kept['affine'], str(kept['space']))
        if is_boundary:
            return BoundaryChange(grid, velocity, changes)
        absorbed, rmse = kept['quality'].tolist()
        return AtrophyField(grid, velocity, changes, str(kept['absorb']), absorbed, rmse)
