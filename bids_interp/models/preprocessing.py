"""Preprocessing of a brain to the classifier's input, the same for training and explaining."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bids_interp.errors import ImageError, ModelError
from bids_interp.spatial import Grid, resample

NORMALISATIONS = ('percentile', 'zscore', 'minmax', 'none')


@dataclass(frozen=True)
class Preprocessing:
    """Intensity normalisation of the classifier's input.

    Parameters
    ----------
    normalisation : {'percentile', 'zscore', 'minmax', 'none'}
        Division by a percentile of the brain, then clipping; subtraction of the mean of the brain
        and division by its standard deviation, with background 0; division by the maximum; or
        unchanged intensities.
    percentile : float
        Percentile of the voxels brighter than a twentieth of the 99th percentile.
    ceiling : float
        Upper limit after the division.
    """

    normalisation: str = 'percentile'
    percentile: float = 98.0
    ceiling: float = 1.3

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ModelError(f'Unknown intensity normalisation {self.normalisation!r}.')
        if not (0 <= self.percentile <= 100 and 0 < self.ceiling < np.inf):
            raise ModelError(
                'The percentile must be between 0 and 100, and the ceiling positive, not '
                f'{self.percentile} and {self.ceiling}.'
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return asdict(self)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise the intensities of one brain of any shape; background is 0.

        Raises
        ------
        ImageError
            If the image contains no brain.
        """
        positive = image[image > 0]
        if positive.numel() < 100:
            raise ImageError(
                'The brain is empty on the grid of the model.', 'Check the brain mask.'
            )
        if self.normalisation == 'none':
            return image
        if self.normalisation == 'minmax':
            return image / positive.max()
        top = float(np.percentile(positive.numpy(force=True), 99))
        brain = image > 0.05 * top
        values = image[brain]
        if self.normalisation == 'percentile':
            level = float(np.percentile(values.numpy(force=True), self.percentile))
            return (image / level).clamp(0.0, self.ceiling)
        normalised = (image - values.mean()) / values.std().clamp_min(1e-6)
        return torch.where(brain, normalised, torch.zeros_like(image))


def as_volume(image: np.ndarray) -> np.ndarray:
    """Return an array as a volume (X, Y, Z) of finite float32.

    Parameters
    ----------
    image : numpy.ndarray
        (X, Y, Z), optionally followed by axes of length 1. Values that are not finite, which many
        tools write outside a mask, become 0.

    Raises
    ------
    ImageError
        If it contains several volumes or none, or no value above 0.

    Examples
    --------
    >>> as_volume(np.array([[[[2.0], [np.nan]]]])).tolist()
    [[[2.0, 0.0]]]
    """
    shape = image.shape
    if len(shape) < 3 or 0 in shape:
        raise ImageError(f'An image of shape {shape} is not a volume.', 'Provide a 3-D image.')
    if any(size != 1 for size in shape[3:]):
        raise ImageError(
            f'The image contains several volumes (shape {shape}).', 'Provide one, or their mean.'
        )
    volume = np.ascontiguousarray(image.reshape(shape[:3]), dtype=np.float32)
    finite = np.isfinite(volume)
    if not finite.all():
        volume = np.where(finite, volume, np.float32(0))
    if not (volume > 0).any():
        raise ImageError(
            'The brain is empty: no voxel of the image is above 0.',
            'Check the image and its mask.',
        )
    return volume


def to_model_grid(
    brain: np.ndarray,
    source: Grid,
    native_to_template: np.ndarray,
    grid: Grid,
    mask: np.ndarray,
    preprocessing: Preprocessing,
) -> torch.Tensor:
    """Resample a skull-stripped brain to the model's grid, once, and normalise it.

    Parameters
    ----------
    brain : numpy.ndarray
        (X, Y, Z) intensities, zero or NaN outside the brain; see :func:`as_volume`.
    source : Grid
        Grid of the brain.
    native_to_template : numpy.ndarray
        4 x 4, from the world of ``source`` to that of the template.
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        The model's brain mask. Voxels outside it are background for every subject, so that the
        classifier cannot use the rim of a generous or tight mask.
    preprocessing : Preprocessing
        Intensity normalisation.

    Returns
    -------
    torch.Tensor
        (1, 1, X', Y', Z') float32.

    Raises
    ------
    ImageError
        If the brain is not a volume, or empty.
    """
    data = torch.from_numpy(as_volume(brain))[None, None]
    inverse = np.linalg.inv(native_to_template)
    resampled = resample(data, source, grid, inverse, antialias=True)
    resampled = resampled.clamp_min(0) * torch.from_numpy(mask.astype(np.float32))
    return preprocessing.normalise(resampled)
