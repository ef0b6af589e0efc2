"""Planted volumes: log-volumes of scans as they are and with a planted change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from bids_interp.bench.planted_cohort import Brain, image_of
from bids_interp.models.networks.morphometric import REGISTRATION, VolumeMeasure
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.change.atrophy import AtrophyField
from bids_interp.phantom.inject.warps import fade
from bids_interp.spatial import Grid, refine_velocity, resample, smooth
from bids_interp.training.morphometry import MorphometryRecipe, pooled_grid, pooled_mask
from bids_interp.training.pattern.fit import PatternRecipe

#: Scans in which the change of half the strength is measured, too.
N_CHECKED = 6
#: Strength of that change, which halves the log-volumes of the whole change.
HALF = 0.5


@dataclass(frozen=True)
class PlantedVolumes:
    """Measured log-volumes of scans, untouched and with the largest change.

    Parameters
    ----------
    features : numpy.ndarray
        (2, N, F) log-volumes that the classifier sums: untouched, then planted.
    maps : numpy.ndarray
        (2, N, V) log-volumes whose contrast is the map, in every second voxel of the brain along
        each axis.
    truth : numpy.ndarray
        (V,) log-Jacobian of the change in the same voxels.
    largest : float
        Relative volume change of the regions, such as -0.3.
    interpolation_error : float
        Root mean square error of interpolated log-volumes at half of the change, relative to the
        measured effect.
    """

    features: np.ndarray
    maps: np.ndarray
    truth: np.ndarray
    largest: float
    interpolation_error: float

    def __len__(self) -> int:
        """Return the number of scans."""
        return self.features.shape[1]

    def strength(self, effect: float) -> float:
        """Return the strength of a relative volume change; 1 is the largest one.

        Examples
        --------
        >>> nothing = np.zeros((2, 0, 0))
        >>> PlantedVolumes(nothing, nothing, np.zeros(0), -0.36, 0.0).strength(-0.2)
        0.5
        """
        return float(np.round(np.log1p(effect) / np.log1p(self.largest), 12))


@torch.no_grad()
def measure_planted(
    brains: Sequence[Brain],
    change: AtrophyField,
    largest: float,
    grid: Grid,
    mask: np.ndarray,
    preprocessing: Preprocessing,
    device: str = 'cpu',
) -> PlantedVolumes:
    """Measure the log-volumes of brains, untouched and with a change.

    Each image is interpolated once from its native brain and registered to the mean of the
    untouched images. Log-volumes of smaller changes are interpolated between the two; the error of
    that is measured in a few brains.

    Parameters
    ----------
    brains : sequence of Brain
        Skull-stripped brains, one per person.
    change : AtrophyField
        Change on the grid of the deformations.
    largest : float
        Its relative volume change.
    grid, mask, preprocessing
        Input space of the model.
    device : str
        Device that measures the volumes.
    """
    change = change.faded(fade(change.grid))
    still = torch.zeros(1, 3, *grid.shape)
    shifts = [
        refine_velocity(change.at(strength).pull_back, change.grid, grid) for strength in (1, HALF)
    ]
    meter = _Meter(grid, mask, device)

    def images(which: Sequence[Brain], shift: torch.Tensor) -> Iterable[torch.Tensor]:
        return (preprocessing.normalise(image_of(brain, shift, grid, mask)) for brain in which)

    untouched = torch.cat(list(images(brains, still)))
    meter.volumes.mean.copy_(untouched.mean(dim=0, keepdim=True))
    before = meter.measure(untouched.split(1))
    after = meter.measure(images(brains, shifts[0]))
    checked = meter.measure(images(brains[:N_CHECKED], shifts[1]))[1]
    truth = resample(torch.from_numpy(change.at(1).log_jacobian)[None, None], change.grid, grid)
    return PlantedVolumes(
        np.stack([before[0], after[0]]),
        np.stack([before[1], after[1]]),
        meter.thin(truth)[0],
        largest,
        _interpolation_error(before[1], after[1], checked),
    )


def _interpolation_error(before: np.ndarray, after: np.ndarray, half: np.ndarray) -> float:
    before, after = before[: len(half)], after[: len(half)]
    error = half - (before + HALF * (after - before))
    size = np.square(half - before).mean()
    return float(np.sqrt(np.square(error).mean() / size)) if size else 0.0


class _Meter:
    """Log-volumes of images, smoothed as by the classifier and as by the fit of the pattern."""

    def __init__(self, grid: Grid, mask: np.ndarray, device: str) -> None:
        self.grid, self.device = grid, device
        self.volumes = VolumeMeasure(grid.shape, REGISTRATION).eval().to(device)
        self.coarse = pooled_mask(mask)[0, 0]
        self.fine = torch.from_numpy(mask)[::2, ::2, ::2]

    def measure(self, images: Iterable[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return features (N, F) and maps (N, V) of images (1, 1, X, Y, Z)."""
        features, maps = [], []
        for image in images:
            found = self.volumes.log_jacobian(image.to(self.device)).cpu()
            half = smooth(
                F.avg_pool3d(found, 2), MorphometryRecipe().smoothing_mm, pooled_grid(self.grid)
            )
            features.append(half[0, 0][self.coarse].numpy())
            maps.append(self.thin(smooth(found, PatternRecipe().smoothing_mm, self.grid))[0])
        return np.stack(features), np.stack(maps)

    def thin(self, values: torch.Tensor) -> np.ndarray:
        """Return every second voxel of the brain of (N, 1, X, Y, Z), as (N, V)."""
        return values[:, 0, ::2, ::2, ::2][:, self.fine].numpy()
