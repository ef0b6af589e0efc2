"""Morphometric classifier: registration to a mean image, then one linear layer on local volumes.

The registration has no weights to learn. It is a fixed number of steps, each differentiable with
respect to the image, so simulators and saliency methods work as with any other network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from bids_interp.spatial import (
    along_axes,
    sample,
    smooth_voxels,
    voxel_coordinates,
    voxel_determinant,
)

#: Added to the local standard deviation, in units of the input; flat regions stay flat.
FLAT = 0.05
#: Lower limit of relative volumes; smaller ones occur only where the steps folded the grid.
SMALLEST_VOLUME = 0.05


class Registration(NamedTuple):
    """Settings of the steps of a registration; Gaussians and lengths in voxels of their resolution.

    Parameters
    ----------
    steps : tuple of int
        Steps at half and at full resolution.
    local_sigma : float
        Standard deviation of the Gaussian of local means; smoother variation is removed.
    rate : float
        Factor on each step.
    no_edge : float
        Added to the squared gradient, so that differences without an edge cause little movement.
    step_sigma : float
        Standard deviation of the Gaussian that smooths each step (viscous fluid).
    elastic_sigma : float
        Standard deviation of the Gaussian that smooths the displacement after each step (elastic
        body); 0 does not. Without it more steps adapt the displacement to differences in anatomy
        that no displacement explains.
    """

    steps: tuple[int, int]
    local_sigma: float
    rate: float
    no_edge: float
    step_sigma: float
    elastic_sigma: float


#: Registrations by name. A bundle that names none was made with the first one.
REGISTRATIONS = {
    'viscous': Registration((6, 8), 3.0, 1.0, 1e-3, 1.5, 0.0),
    'elastic': Registration((10, 10), 4.0, 4.0, 0.1, 2.0, 0.7),
}
#: Registration of new classifiers, chosen by its response to random changes.
REGISTRATION = 'elastic'


class VolumeMeasure(nn.Module):
    """Local volumes of tissue relative to a mean image.

    The image and the mean image are normalised to the same local mean and deviation, which removes
    brightness and smooth bias. A displacement then grows in steps, as in demons with symmetric
    forces; each step, and the displacement after it, is smoothed by a Gaussian. The result is the
    log-Jacobian of the map from the mean image to the image, averaged over two voxels along each
    axis.

    Parameters
    ----------
    shape : tuple of int
        Size of the input image, not necessarily divisible by 2.
    registration : str
        Name in `REGISTRATIONS`.

    References
    ----------
    Thirion JP. Image matching as a diffusion process: an analogy with Maxwell's demons. Medical
    Image Analysis 1998;2(3):243-260.
    Vercauteren T, Pennec X, Perchant A, Ayache N. Diffeomorphic demons: efficient non-parametric
    image registration. NeuroImage 2009;45(1):S61-S72.
    """

    def __init__(self, shape: tuple[int, int, int], registration: str = REGISTRATION) -> None:
        super().__init__()
        self.settings = REGISTRATIONS[registration]
        self.mean: torch.Tensor
        self.register_buffer('mean', torch.zeros(1, 1, *shape))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return log relative volumes (B, 1, X/2, Y/2, Z/2) of images (B, 1, X, Y, Z)."""
        return halved(self.log_jacobian(image))

    def log_jacobian(self, image: torch.Tensor) -> torch.Tensor:
        """Return log relative volumes (B, 1, X, Y, Z) at the resolution of the images."""
        # Small differences of volume are lost in half precision.
        with torch.autocast(image.device.type, enabled=False):
            displacement = self.register(image.float())
            return voxel_determinant(displacement).clamp_min(SMALLEST_VOLUME).log()

    def register(self, image: torch.Tensor) -> torch.Tensor:
        """Return the displacement (B, 3, X, Y, Z) from the mean image to images, in voxel steps."""
        sigma, steps = self.settings.local_sigma, self.settings.steps
        moving, fixed = local_contrast(image, sigma), local_contrast(self.mean, sigma)
        coarse, target = (halved(part, ceil_mode=True) for part in (moving, fixed))
        displacement = moving.new_zeros(len(image), 3, *coarse.shape[2:])
        displacement = _grow(displacement, coarse, target, steps[0], self.settings)
        # Voxels of half the resolution are twice as long.
        displacement = 2 * F.interpolate(
            displacement, image.shape[2:], mode='trilinear', align_corners=False
        )
        return _grow(displacement, moving, fixed, steps[1], self.settings)


def local_contrast(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Subtract the local mean of images (B, 1, X, Y, Z) and divide by the local deviation."""
    mean = smooth_voxels(image, sigma)
    variance = smooth_voxels(image.square(), sigma) - mean.square()
    return (image - mean) / (variance.clamp_min(0) + FLAT**2).sqrt()


def _grow(
    displacement: torch.Tensor,
    moving: torch.Tensor,
    fixed: torch.Tensor,
    steps: int,
    settings: Registration,
) -> torch.Tensor:
    """Return a displacement (B, 3, X, Y, Z) after some more steps, in voxel steps."""
    here = voxel_coordinates(tuple(fixed.shape[2:]), moving)
    fixed_slope = _slope(fixed)
    for _ in range(steps):
        moved = sample(moving, here + displacement)
        missing = fixed - moved
        slope = 0.5 * (fixed_slope + _slope(moved))
        size = slope.square().sum(dim=1, keepdim=True) + missing.square() + settings.no_edge
        step = smooth_voxels(missing * slope / size, settings.step_sigma)
        displacement = displacement + settings.rate * step
        if settings.elastic_sigma:
            displacement = smooth_voxels(displacement, settings.elastic_sigma)
    return displacement


def _slope(image: torch.Tensor) -> torch.Tensor:
    """Return central differences (B, 3, X, Y, Z) of images (B, 1, X, Y, Z), per voxel."""
    padded = F.pad(image, (1,) * 6, mode='replicate')
    inner = [slice(1, -1)] * 3
    parts = []
    for axis in range(3):
        ahead, behind = inner.copy(), inner.copy()
        ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
        parts.append(0.5 * (padded[:, :, *ahead] - padded[:, :, *behind]))
    return torch.cat(parts, dim=1)


def halved(data: torch.Tensor, *, ceil_mode: bool = False) -> torch.Tensor:
    """Average pairs of voxels of (B, C, X, Y, Z) along each axis of more than one voxel."""
    return F.avg_pool3d(data, along_axes(data.shape[2:], 2), ceil_mode=ceil_mode)


def half_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the size of the maps of :class:`VolumeMeasure`.

    Examples
    --------
    >>> half_shape((48, 57, 47)), half_shape((64, 64, 1))
    ((24, 28, 23), (32, 32, 1))
    """
    x, y, z = (size // half for size, half in zip(shape, along_axes(shape, 2), strict=True))
    return x, y, z


class MorphometricClassifier(nn.Module):
    """Classifier whose logits are weighted sums of local volumes.

    Volumes are measured without labels, so few subjects suffice; only the weights of the sum are
    learned from the labels (:mod:`bids_interp.training.morphometry`). The output therefore depends
    on volumes, and hardly on brightness or texture.

    Parameters
    ----------
    shape : tuple of int
        Size of the input image.
    outputs : int
        Number of logits.
    registration : str
        Name in `REGISTRATIONS`. The default is that of bundles that do not name it.
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int = 1, registration: str = 'viscous'
    ) -> None:
        super().__init__()
        self.volumes = VolumeMeasure(shape, registration)
        sizes = half_shape(shape)
        self.head = nn.Linear(sizes[0] * sizes[1] * sizes[2], outputs)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, outputs) of images (B, 1, X, Y, Z)."""
        return self.head(self.volumes(image).flatten(1))
