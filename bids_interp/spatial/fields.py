"""Fields of velocity and displacement: warp, composition, exponential, smoothing, resampling.

Fields are tensors (B, 3, X, Y, Z) in **mm along the world axes** (RAS+), independent of the
orientation of the voxel grid. A displacement ``u`` represents the map ``p -> p + u(p)``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from bids_interp.spatial.grid import Grid

#: Largest initial step of the squarings, in voxels.
FIRST_STEP = 0.25
MIN_SQUARINGS = 6
#: Number of coordinates above which one image is interpolated on several cores.
LARGE = 1_000_000
#: More squarings indicate a field that is not a warp.
MAX_SQUARINGS = 14


def _linear(matrix: np.ndarray, field: torch.Tensor) -> torch.Tensor:
    """Apply a 3 x 3 matrix to the vectors of a field (B, 3, X, Y, Z)."""
    weights = torch.as_tensor(np.array(matrix), dtype=field.dtype, device=field.device)
    return torch.einsum('ij,bjxyz->bixyz', weights, field)


def to_voxels(field: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Convert vectors in mm along world axes to voxel steps along i, j, k."""
    return _linear(np.linalg.inv(grid.linear), field)


def to_mm(field: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Convert voxel steps along i, j, k to mm along world axes."""
    return _linear(grid.linear, field)


def transform_vectors(field: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    """Transform vectors by the linear part of a world-to-world affine (4 x 4)."""
    return _linear(np.asarray(affine)[:3, :3], field)


def voxel_coordinates(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Return the voxel indices of a grid, (1, 3, X, Y, Z), with type and device of ``like``."""
    axes = [torch.arange(size, dtype=like.dtype, device=like.device) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing='ij'))[None]


def sample(
    data: torch.Tensor,
    coordinates: torch.Tensor,
    mode: str = 'bilinear',
    padding: str = 'zeros',
) -> torch.Tensor:
    """Interpolate ``data`` at voxel coordinates.

    Parameters
    ----------
    data : torch.Tensor
        (B, C, X, Y, Z).
    coordinates : torch.Tensor
        (B or 1, 3, X', Y', Z') voxel indices of ``data``, component order i, j, k.
    mode : str
        ``'bilinear'`` (trilinear in 3-D) or ``'nearest'``.
    padding : str
        ``'zeros'`` for images, ``'border'`` for fields.

    Returns
    -------
    torch.Tensor
        (B, C, X', Y', Z').
    """
    sizes = data.shape[2:]
    # grid_sample expects x, y, z in [-1, 1] with x along the LAST array axis.
    normalised = torch.stack(
        [2.0 * coordinates[:, axis] / max(sizes[axis] - 1, 1) - 1.0 for axis in (2, 1, 0)], dim=-1
    )
    if normalised.shape[0] == 1 and data.shape[0] > 1:
        normalised = normalised.expand(data.shape[0], -1, -1, -1, -1)
    parts = torch.get_num_threads() if data.device.type == 'cpu' and data.shape[0] == 1 else 1
    if parts > 1 and normalised.numel() > LARGE and not torch.is_grad_enabled():
        return _sample_in_slabs(data, normalised, parts, mode, padding)
    return F.grid_sample(data, normalised, mode=mode, padding_mode=padding, align_corners=True)


def _sample_in_slabs(
    data: torch.Tensor, positions: torch.Tensor, parts: int, mode: str, padding: str
) -> torch.Tensor:
    """Interpolate one large image on several cores; PyTorch's CPU kernel only splits batches."""
    count = positions.shape[1]
    thickness = -(-count // parts)
    missing = thickness * parts - count
    if missing:
        last = positions[:, -1:].expand(-1, missing, -1, -1, -1)
        positions = torch.cat([positions, last], dim=1)
    slabs = positions.reshape(parts, thickness, *positions.shape[2:])
    several = data.expand(parts, -1, -1, -1, -1)
    found = F.grid_sample(several, slabs, mode=mode, padding_mode=padding, align_corners=True)
    whole = found.transpose(0, 1).reshape(1, data.shape[1], thickness * parts, *found.shape[3:])
    return whole[:, :, :count]


def _warp_voxels(
    data: torch.Tensor, steps: torch.Tensor, mode: str = 'bilinear', padding: str = 'border'
) -> torch.Tensor:
    """Pull ``data`` back by a displacement given in voxel steps."""
    return sample(data, voxel_coordinates(tuple(data.shape[2:]), steps) + steps, mode, padding)


def warp(
    image: torch.Tensor,
    displacement: torch.Tensor,
    grid: Grid,
    mode: str = 'bilinear',
    padding: str = 'zeros',
) -> torch.Tensor:
    """Pull an image back: ``out(p) = image(p + u(p))``.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z) on ``grid``.
    displacement : torch.Tensor
        (B, 3, X, Y, Z), mm along world axes. To move tissue by ``exp(v)``, pull back by
        ``exp(-v)``.
    grid : Grid
        Grid of both.
    mode, padding : str
        See :func:`sample`.

    Returns
    -------
    torch.Tensor
        (B, C, X, Y, Z).
    """
    return _warp_voxels(image, to_voxels(displacement, grid), mode, padding)


def compose(first: torch.Tensor, then: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Return the displacement of the map that applies ``first`` and then ``then``.

    ``p -> p + u1(p) + u2(p + u1(p))``; both (B, 3, X, Y, Z) in mm on ``grid``.
    """
    return first + warp(then, first, grid, padding='border')


def count_squarings(velocity: torch.Tensor, grid: Grid) -> int:
    """Return the number of squarings N = max(6, ceil(log2(max|v| / 0.25))), v in voxels."""
    largest = float(to_voxels(velocity.detach(), grid).abs().max())
    if not math.isfinite(largest):
        raise ValueError('The velocity field contains NaN or infinite values.')
    if largest == 0.0:
        return MIN_SQUARINGS
    needed = math.ceil(math.log2(max(largest, 1e-12) / FIRST_STEP))
    return min(MAX_SQUARINGS, max(MIN_SQUARINGS, needed))


def exponential(velocity: torch.Tensor, grid: Grid, squarings: int | None = None) -> torch.Tensor:
    """Integrate a stationary velocity over unit time by scaling and squaring.

    Parameters
    ----------
    velocity : torch.Tensor
        (B, 3, X, Y, Z), mm along world axes per unit time.
    grid : Grid
        Grid of the velocity.
    squarings : int, optional
        Number of squarings; by default that of :func:`count_squarings`.

    Returns
    -------
    torch.Tensor
        Displacement u with exp(v)(p) = p + u(p), (B, 3, X, Y, Z) mm. The inverse map is
        ``exponential(-velocity, grid)``.

    References
    ----------
    Arsigny V et al., MICCAI 2006 (scaling and squaring of stationary velocities).
    """
    count = count_squarings(velocity, grid) if squarings is None else squarings
    # Voxel steps save a matrix product in each iteration.
    steps = to_voxels(velocity, grid) / 2**count
    for _ in range(count):
        steps = steps + _warp_voxels(steps, steps)
    return to_mm(steps, grid)


def gaussian_kernel(sigma: float) -> torch.Tensor:
    """Return a one-dimensional Gaussian of unit sum, sigma in voxels, truncated at 3 sigma."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return kernel / kernel.sum()


def smooth(data: torch.Tensor, sigma_mm: float, grid: Grid) -> torch.Tensor:
    """Smooth every channel by a separable Gaussian, with zeros outside the grid.

    Parameters
    ----------
    data : torch.Tensor
        (B, C, X, Y, Z) on ``grid``.
    sigma_mm : float
        Standard deviation in mm; 0 returns the data unchanged.
    grid : Grid
        Grid of the data.
    """
    if sigma_mm <= 0:
        return data
    for axis, spacing in enumerate(grid.spacing):
        data = _smooth_axis(data, axis, sigma_mm / float(spacing))
    return data


def smooth_voxels(data: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth every channel of (B, C, X, Y, Z) as :func:`smooth`, with ``sigma`` in voxels."""
    for axis in range(3):
        data = _smooth_axis(data, axis, sigma)
    return data


def _smooth_axis(data: torch.Tensor, axis: int, sigma: float) -> torch.Tensor:
    """Smooth (B, C, X, Y, Z) along one voxel axis by a Gaussian of ``sigma`` voxels.

    A matrix product: on a CPU two to ten times faster than a convolution and its gradient. Along an
    axis of one voxel, as in a two-dimensional image, there is nothing to average.
    """
    if data.shape[2 + axis] == 1:
        return data
    matrix = torch.from_numpy(_smoothing_matrix(data.shape[2 + axis], sigma)).to(data)
    if axis == 2:
        return data @ matrix
    if axis == 1 and data.shape[4] == 1:
        # The matrix is symmetric; a product with single columns would take ten times as long.
        return (data[..., 0] @ matrix)[..., None]
    if axis == 1:
        return matrix @ data
    return (matrix @ data.flatten(3)).view(data.shape)


@lru_cache(maxsize=64)
def _smoothing_matrix(size: int, sigma: float) -> np.ndarray:
    """Matrix (size, size) of the smoothing of an axis; NumPy's, which holds in any Torch mode."""
    kernel = gaussian_kernel(sigma).numpy()
    radius = len(kernel) // 2
    offsets = np.arange(size)[:, None] - np.arange(size)
    near = kernel[(offsets + radius).clip(0, 2 * radius)]
    return np.where(np.abs(offsets) <= radius, near, np.float32(0))


def _antialias(data: torch.Tensor, source: Grid, target: Grid, scale: np.ndarray) -> torch.Tensor:
    """Smooth along the axes of ``source`` that ``target`` samples more coarsely.

    ``scale`` is the linear part from target to source world. The standard deviation is
    sqrt(ratio^2 - 1) / 2.355 voxels, as in nilearn and TorchIO.
    """
    steps = np.linalg.inv(source.linear) @ scale @ target.linear  # source voxels per target step
    ratios = np.abs(steps).max(axis=1)
    for axis, ratio in enumerate(ratios):
        if ratio > 1.05:
            data = _smooth_axis(data, axis, math.sqrt(ratio**2 - 1) / 2.355)
    return data


def resample(
    data: torch.Tensor,
    source: Grid,
    target: Grid,
    target_to_source: np.ndarray | None = None,
    mode: str = 'bilinear',
    padding: str = 'zeros',
    antialias: bool = False,
    displacement: torch.Tensor | None = None,
) -> torch.Tensor:
    """Resample from one grid to another, through a warp and an affine between their worlds.

    This is the resampler of the method: linear, differentiable, for batches of images and fields
    on any device, with an optional warp in the same interpolation.

    Parameters
    ----------
    data : torch.Tensor
        (B, C, X, Y, Z) on ``source``. Vectors are resampled by component; their components stay
        along the axes of the source's world, see :func:`transform_vectors`.
    source, target : Grid
        Grids of the input and the output.
    target_to_source : numpy.ndarray, optional
        4 x 4 matrix from the target's world to the source's world; identity by default.
    mode, padding : str
        See :func:`sample`.
    antialias : bool
        Smooth before sampling more coarsely.
    displacement : torch.Tensor, optional
        (B, 3, X', Y', Z') mm along the axes of the target's world: pull back by p + u(p) in the
        same, single interpolation.

    Returns
    -------
    torch.Tensor
        (B, C, X', Y', Z') on ``target``.
    """
    between = np.eye(4) if target_to_source is None else np.asarray(target_to_source)
    if antialias:
        data = _antialias(data, source, target, between[:3, :3])
    matrix = np.linalg.inv(source.affine) @ between @ target.affine
    voxels = voxel_coordinates(target.shape, data)
    offset = torch.as_tensor(matrix[:3, 3], dtype=data.dtype, device=data.device)
    coordinates = _linear(matrix[:3, :3], voxels) + offset.view(1, 3, 1, 1, 1)
    if displacement is not None:
        steps = np.linalg.inv(source.linear) @ between[:3, :3]
        coordinates = coordinates + _linear(steps, displacement)
    return sample(data, coordinates, mode, padding)
