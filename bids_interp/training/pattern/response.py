"""Response of measured volumes to random smooth changes: how much of a true change is measured.

No labels are needed: known changes are applied to training images, and the volumes are measured
again. A registration shows only a part of a change, less of a small one and less where an image is
uniform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import linregress

from bids_interp.models.networks.morphometric import VolumeMeasure, halved
from bids_interp.phantom.change.smooth_noise import draw_smooth_change
from bids_interp.spatial import (
    Grid,
    exponential,
    flow_log_jacobian,
    sample,
    voxel_coordinates,
    warp,
)

#: Grains of the changes in mm: the scales of nuclei and of lobes.
GRAINS_MM = (4.0, 6.0, 9.0, 14.0)
#: Standard deviation of their log-Jacobians.
SPREAD = 0.1
#: Images to which changes are applied.
N_IMAGES = 4


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
    grains : dict
        Gain and correlation of each grain in mm.
    """

    gain: float
    ncc: float
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
        Gain and correlation, of all changes and of each grain.
    """
    rng = np.random.default_rng(seed)
    volumes = volumes.to(device)
    inside = inner_mask(mask)
    chosen = np.sort(rng.permutation(len(images))[:N_IMAGES])
    drawn, measured, true = [], [], []
    for image in images[chosen].split(1):
        image = image.to(device)
        places = voxel_coordinates(grid.shape, image) + volumes.register(image.float())
        for grain in GRAINS_MM:
            noise = draw_smooth_change(grid, mask, grain, SPREAD, rng)
            velocity = torch.from_numpy(noise)[None].to(device)
            # The map of the registration leads from the mean image to this image.
            change = sample(flow_log_jacobian(velocity, grid), places, padding='border')
            drawn.append(grain)
            measured.append(respond(volumes, image, velocity, grid)[0, 0].cpu())
            true.append(halved(change)[0, 0].cpu())
    found, wanted = torch.stack(measured), torch.stack(true)
    grains = {}
    for grain in GRAINS_MM:
        own = torch.tensor([one == grain for one in drawn])
        grains[grain] = slope_and_correlation(found[own], wanted[own], inside)
    return Response(*slope_and_correlation(found, wanted, inside), grains)


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


def inner_mask(mask: np.ndarray) -> torch.Tensor:
    """Return the voxels at half the resolution that lie in a mask entirely, (X/2, Y/2, Z/2) bool.

    Examples
    --------
    >>> mask = np.ones((4, 2, 2), bool)
    >>> mask[3, 1, 1] = False
    >>> inner_mask(mask).ravel().tolist()
    [True, False]
    """
    return halved(torch.from_numpy(mask.astype(np.float32))[None, None])[0, 0] == 1


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
    line = linregress(wanted.numpy().ravel(), found.numpy().ravel())
    return float(line.slope), float(line.rvalue)
