"""From a subject's brain to the classifier's input: one function for training and explaining."""

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
    """How intensities become the classifier's input.

    Parameters
    ----------
    normalisation : {'percentile', 'zscore', 'minmax', 'none'}
        Divide by a percentile of the brain and clip; subtract the mean and divide by the
        standard deviation of the brain, background 0; divide by the maximum, so that background
        is 0 and the brightest voxel 1; or leave the intensities of the scan as they are.
    percentile : float
        The percentile, of voxels brighter than a twentieth of the 99th percentile.
    ceiling : float
        Upper limit after the division.
    """

    normalisation: str = 'percentile'
    percentile: float = 98.0
    ceiling: float = 1.3

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ModelError(f'There is no intensity normalisation {self.normalisation!r}.')

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise the intensities of one brain of any shape; background is 0.

        Raises
        ------
        ImageError
            If there is no brain in the image.
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
    """Make an array a volume (X, Y, Z) of finite float32.

    Parameters
    ----------
    image : numpy.ndarray
        (X, Y, Z), with any number of axes of length 1 behind. Values that are not finite, as many
        tools write outside of a mask, become background: 0.

    Raises
    ------
    ImageError
        If it holds several volumes or none, or nothing above 0.

    Examples
    --------
    >>> as_volume(np.array([[[[2.0], [np.nan]]]])).tolist()
    [[[2.0, 0.0]]]
    """
    shape = image.shape
    if len(shape) < 3 or 0 in shape:
        raise ImageError(f'An image of the shape {shape} is no volume.', 'Give a 3-D image.')
    if any(size != 1 for size in shape[3:]):
        raise ImageError(
            f'The image holds several volumes (shape {shape}).', 'Give one of them, or their mean.'
        )
    volume = np.ascontiguousarray(image.reshape(shape[:3]), dtype=np.float32)
    finite = np.isfinite(volume)
    if not finite.all():
        volume = np.where(finite, volume, np.float32(0))
    if not (volume > 0).any():
        raise ImageError(
            'The brain is empty: no voxel of the image is a number above 0.',
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
    """Bring a stripped brain onto the model's grid with one resampling.

    Parameters
    ----------
    brain : numpy.ndarray
        (X, Y, Z) intensities, zero or NaN outside the brain; see :func:`as_volume`.
    source : Grid
        Its grid.
    native_to_template : numpy.ndarray
        4 x 4, from the world of ``source`` to that of the template.
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        The model's own brain mask: what lies outside of it is background for every subject, so
        that the rim of a generous or tight mask is no shortcut.
    preprocessing : Preprocessing
        Intensity normalisation.

    Returns
    -------
    torch.Tensor
        (1, 1, X', Y', Z') float32.

    Raises
    ------
    ImageError
        If the brain is no volume, or empty.
    """
    data = torch.from_numpy(as_volume(brain))[None, None]
    inverse = np.linalg.inv(native_to_template)
    placed = resample(data, source, grid, inverse, antialias=True)
    placed = placed.clamp_min(0) * torch.from_numpy(mask.astype(np.float32))
    return preprocessing.normalise(placed)
