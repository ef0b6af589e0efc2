"""Augmentation: random transformations that an explanation must not depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bids_interp.spatial import Grid, compose, to_mm, warp
from bids_interp.spatial.fields import voxel_coordinates


@dataclass(frozen=True)
class Augmentation:
    """Strength (standard deviation) of each random transformation.

    Parameters
    ----------
    affine : float
        Deviation of the entries of the linear map from the identity.
    shift_mm : float
        Translation.
    warp_mm : float
        Smooth displacement with knots ``knots_mm`` apart.
    knots_mm : float
        Distance between knots.
    gain, bias, noise : float
        Global factor, smooth factor and independent noise, in units of the image.
    """

    affine: float = 0.02
    shift_mm: float = 2.4
    warp_mm: float = 2.4
    knots_mm: float = 36.0
    gain: float = 0.1
    bias: float = 0.05
    noise: float = 0.02


#: Augmentation of the classifier, and the weaker one in the simulator's loss.
CLASSIFIER_AUGMENTATION = Augmentation()
SIMULATOR_AUGMENTATION = Augmentation(
    affine=0.0, shift_mm=0.8, warp_mm=1.4, gain=0.0, bias=0.02, noise=0.03
)


@dataclass(frozen=True)
class Transformation:
    """Transformation drawn once for a batch, so that image and simulation share it."""

    displacement: torch.Tensor
    gain: torch.Tensor
    noise: torch.Tensor

    def take(self, part: slice) -> Transformation:
        """Select the transformations of some images of the batch."""
        return Transformation(self.displacement[part], self.gain[part], self.noise[part])

    def to(self, device: torch.device) -> Transformation:
        """Move the transformation to a device."""
        return Transformation(
            self.displacement.to(device), self.gain.to(device), self.noise.to(device)
        )

    def apply(
        self, image: torch.Tensor, grid: Grid, then: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Transform images (B, 1, X, Y, Z).

        A pull-back ``then`` (B, 3, X, Y, Z) in mm is applied to the images first. Both steps share
        one interpolation.
        """
        pull_back = self.displacement
        if then is not None:
            pull_back = compose(pull_back, then, grid)
        return warp(image, pull_back, grid) * self.gain + self.noise


def _smooth_noise(
    batch: int, channels: int, grid: Grid, knots_mm: float, generator: torch.Generator
) -> torch.Tensor:
    sizes = [
        max(3, round(n * h / knots_mm) + 1) for n, h in zip(grid.shape, grid.spacing, strict=True)
    ]
    knots = torch.randn(batch, channels, *sizes, generator=generator)
    return F.interpolate(knots, size=grid.shape, mode='trilinear', align_corners=True)


def draw_transformation(
    strength: Augmentation, batch: int, grid: Grid, generator: torch.Generator
) -> Transformation:
    """Draw a transformation for a batch on a grid."""
    displacement = strength.warp_mm * _smooth_noise(batch, 3, grid, strength.knots_mm, generator)
    displacement = displacement + strength.shift_mm * torch.randn(
        batch, 3, 1, 1, 1, generator=generator
    )
    if strength.affine:
        linear = strength.affine * torch.randn(batch, 3, 3, generator=generator)
        centre = torch.tensor(grid.shape, dtype=torch.float32).view(1, 3, 1, 1, 1) / 2
        away = to_mm(voxel_coordinates(grid.shape, displacement) - centre, grid)[0]
        displacement = displacement + torch.einsum('bij,jxyz->bixyz', linear, away)
    gain = 1 + strength.gain * torch.randn(batch, 1, 1, 1, 1, generator=generator)
    if strength.bias:
        gain = gain + strength.bias * _smooth_noise(batch, 1, grid, 60.0, generator)
    noise = strength.noise * torch.randn(batch, 1, *grid.shape, generator=generator)
    return Transformation(displacement, gain, noise)
