"""Response of measured volumes to random smooth changes: how much of a true change is measured.

No labels are needed: known changes are applied to training images, and the volumes are measured
again. A registration shows only a part of a change, less of a small one and less where an image is
uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from bids_interp.models.networks.morphometric import VolumeMeasure
from bids_interp.phantom.change.smooth_noise import draw_smooth_change
from bids_interp.spatial import (
    Grid,
    exponential,
    flow_log_jacobian,
    sample,
    smooth_voxels,
    voxel_coordinates,
    warp,
)

#: Grains of the changes in mm: the scales of nuclei and of lobes.
GRAINS_MM = (4.0, 6.0, 9.0, 14.0)
#: Standard deviation of their log-Jacobians.
SPREAD = 0.1
#: Images to which changes are applied.
N_IMAGES = 4
#: Gaussian that smooths the map, in mm.
MAP_SIGMA_MM = 12.0
#: Weight of the global gain in the map, as a share of the mean energy of the changes.
GLOBAL_WEIGHT = 0.5


@dataclass(frozen=True)
class Response:
    """Response of measured log-volumes to known changes of many scales.

    Parameters
    ----------
    gain : float
        Slope of measured on true log-volumes. A measured pattern divided by it has, over patterns
        of all these scales, the right amplitude.
    ncc : float
        Their correlation.
    map : numpy.ndarray or None
        (X/2, Y/2, Z/2) float32 local gain, smoothed and drawn towards the global one.
    grains : dict
        Gain and correlation of each grain in mm.
    """

    gain: float
    ncc: float
    map: np.ndarray | None
    grains: dict[float, tuple[float, float]]


@torch.no_grad()
def measure_response(
    volumes: VolumeMeasure,
    images: torch.Tensor,
    grid: Grid,
    mask: np.ndarray,
    seed: int,
    device: str = 'cpu',
) -> Response:
    """Measure the response of volumes to random smooth changes of a few images.

    Each change is applied forwards and backwards, and half of the difference is taken, so that the
    blur of the interpolation cancels.

    Parameters
    ----------
    volumes : VolumeMeasure
        Measure with its mean image.
    images : torch.Tensor
        (N, 1, X, Y, Z) training images; at most `N_IMAGES` of them are used.
    grid : Grid
        Grid of the images.
    mask : numpy.ndarray
        (X, Y, Z) bool, where volumes are measured.
    seed : int
        Seed of the choice of images and of the changes.
    device : str
        Device that measures the volumes.

    Returns
    -------
    Response
        Gain, correlation and local gain.
    """
    rng = np.random.default_rng(seed)
    volumes = volumes.to(device)
    inside = F.avg_pool3d(torch.from_numpy(mask.astype(np.float32))[None, None], 2)[0, 0] > 0.5
    chosen = np.sort(rng.permutation(len(images))[:N_IMAGES])
    measured: dict[float, list[torch.Tensor]] = {grain: [] for grain in GRAINS_MM}
    true: dict[float, list[torch.Tensor]] = {grain: [] for grain in GRAINS_MM}
    for image in images[chosen].split(1):
        image = image.to(device)
        places = voxel_coordinates(grid.shape, image) + volumes.register(image.float())
        for grain in GRAINS_MM:
            drawn = draw_smooth_change(grid, mask, grain, SPREAD, rng)
            velocity = torch.from_numpy(drawn)[None].to(device)
            found = respond(volumes, image, velocity, grid)
            # The map of the registration leads from the mean image to this image.
            change = sample(flow_log_jacobian(velocity, grid), places, padding='border')
            measured[grain].append(found[0, 0].cpu())
            true[grain].append(F.avg_pool3d(change, 2)[0, 0].cpu())
    grains = {
        grain: slope_and_correlation(torch.stack(measured[grain]), torch.stack(true[grain]), inside)
        for grain in GRAINS_MM
    }
    found, wanted = (torch.stack(sum(parts.values(), [])) for parts in (measured, true))
    gain, ncc = slope_and_correlation(found, wanted, inside)
    sigma = MAP_SIGMA_MM / (2 * float(grid.spacing.mean()))
    return Response(gain, ncc, _local_gain(found, wanted, inside, gain, sigma), grains)


def respond(
    volumes: VolumeMeasure, image: torch.Tensor, velocity: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Return half of the difference in volume between an image moved forwards and backwards.

    Parameters
    ----------
    volumes : VolumeMeasure
        Measure.
    image : torch.Tensor
        (1, 1, X, Y, Z).
    velocity : torch.Tensor
        (1, 3, X, Y, Z) mm, along which its tissue moves.
    grid : Grid
        Grid of both.
    """
    ahead, back = (
        volumes(warp(image, exponential(-sign * velocity, grid), grid)) for sign in (1, -1)
    )
    return 0.5 * (ahead - back)


def slope_and_correlation(
    measured: torch.Tensor, true: torch.Tensor, inside: torch.Tensor
) -> tuple[float, float]:
    """Return the slope of measured on true values of (N, X, Y, Z) in a mask, and their correlation.

    Examples
    --------
    >>> true = torch.tensor([[[[0.0, 1.0, 2.0, 9.0]]]])
    >>> inside = torch.tensor([[[True, True, True, False]]])
    >>> slope, correlation = slope_and_correlation(0.5 * true + 1, true, inside)
    >>> round(slope, 3), round(correlation, 3)
    (0.5, 1.0)
    """
    found, wanted = (part[:, inside].double() for part in (measured, true))
    found, wanted = found - found.mean(), wanted - wanted.mean()
    product = (found * wanted).sum()
    energy = wanted.square().sum()
    return float(product / energy), float(product / (energy * found.square().sum()).sqrt())


def _local_gain(
    measured: torch.Tensor, true: torch.Tensor, inside: torch.Tensor, gain: float, sigma: float
) -> np.ndarray:
    """Return the slope in the neighbourhood of each voxel, (X, Y, Z); the global one outside."""
    weight = inside[None, None].float()
    product = (measured * true).mean(dim=0)[None, None] * weight
    energy = true.square().mean(dim=0)[None, None] * weight
    # Few changes determine the slope of one voxel poorly.
    extra = GLOBAL_WEIGHT * float(energy[weight > 0].mean())
    slope = (smooth_voxels(product, sigma) + extra * gain) / (smooth_voxels(energy, sigma) + extra)
    return torch.where(weight > 0, slope, torch.full_like(slope, gain))[0, 0].numpy()
