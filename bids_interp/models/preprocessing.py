"""Preprocessing of a brain to the classifier's input, the same for training and explaining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bids_interp.errors import ImageError, ModelError
from bids_interp.spatial import Grid, resample

NORMALISATIONS = ('percentile', 'zscore', 'minmax', 'mean', 'histogram', 'none')
#: Percentiles of the landmarks of a histogram, as in TorchIO's ``HistogramStandardization``.
LANDMARK_PERCENTILES = (1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 99)
#: Share of the brightness (99th percentile) above which a voxel is foreground.
FOREGROUND = 0.05
#: Smallest volume of a head's foreground outside the brain, relative to the brain's. The shared
#: heads, which are defaced, have at least 1; a stripped brain has less than 0.01.
HEAD_SHARE = 0.25


@dataclass(frozen=True)
class Preprocessing:
    """Intensity normalisation of the classifier's input.

    Parameters
    ----------
    normalisation : {'percentile', 'zscore', 'minmax', 'mean', 'histogram', 'none'}
        Division by a percentile, then clipping; subtraction of the mean and division by the
        standard deviation; division by the maximum; division by the mean; a piecewise linear map
        of percentiles to landmarks (Nyul and Udupa, 1999); or unchanged intensities.
    percentile : float
        Percentile that becomes 1.
    ceiling : float
        Upper limit after the division by a percentile.
    voxels : {'brain', 'all'}
        Voxels whose mean, standard deviation and percentiles are taken. ``brain``: those brighter
        than a twentieth of the 99th percentile; the background of ``zscore`` and ``histogram`` is
        then 0. ``all``: the whole grid with its background, which is transformed as well.
    landmarks : sequence of float
        For ``histogram``: the values at `LANDMARK_PERCENTILES`, rising.
    skull : bool
        The network takes whole heads. The foreground of the head replaces that of the brain.
    """

    normalisation: str = 'percentile'
    percentile: float = 98.0
    ceiling: float = 1.3
    voxels: str = 'brain'
    landmarks: Sequence[float] = ()
    skull: bool = False

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ModelError(f'Unknown intensity normalisation {self.normalisation!r}.')
        if not (0 <= self.percentile <= 100 and 0 < self.ceiling < np.inf):
            raise ModelError(
                'The percentile must be between 0 and 100, and the ceiling positive, not '
                f'{self.percentile} and {self.ceiling}.'
            )
        if self.voxels not in ('brain', 'all'):
            raise ModelError(f'Unknown voxels {self.voxels!r}.', 'Choose "brain" or "all".')
        object.__setattr__(self, 'landmarks', tuple(self.landmarks))
        count = len(LANDMARK_PERCENTILES) if self.normalisation == 'histogram' else 0
        if len(self.landmarks) != count or (np.diff(self.landmarks) <= 0).any():
            raise ModelError(
                f'The normalisation {self.normalisation!r} takes {count} landmarks, in rising '
                f'order, not {list(self.landmarks)}.',
                f'The landmarks are the values at the percentiles {LANDMARK_PERCENTILES}.',
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON; of the later fields, only what differs from the default."""
        plain = {**asdict(self), 'landmarks': list(self.landmarks)}
        for name, usual in (('voxels', 'brain'), ('landmarks', []), ('skull', False)):
            if plain[name] == usual:
                del plain[name]
        return plain

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise the intensities of one brain, or head, of any shape.

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
        inside = torch.ones_like(image, dtype=torch.bool)
        if self.voxels == 'brain':
            inside = image > FOREGROUND * _percentiles(positive, [99.0])[0]
        values = image[inside]
        if self.normalisation == 'percentile':
            level = _percentiles(values, [self.percentile])[0].clamp_min(1e-6)
            return (image / level).clamp(0.0, self.ceiling)
        if self.normalisation == 'mean':
            return image / values.mean()
        if self.normalisation == 'histogram':
            known = _percentiles(values, LANDMARK_PERCENTILES)
            normalised = _piecewise_linear(image, known, torch.tensor(self.landmarks).to(image))
        else:
            normalised = (image - values.mean()) / values.std().clamp_min(1e-6)
        return torch.where(inside, normalised, torch.zeros_like(image))


def _percentiles(values: torch.Tensor, percentiles: Sequence[float]) -> torch.Tensor:
    """Return percentiles of any number of values; torch.quantile takes 16 million at most."""
    found = np.percentile(values.numpy(force=True), percentiles)
    return torch.from_numpy(np.asarray(found)).to(values)


def _piecewise_linear(
    image: torch.Tensor, known: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """Map ``known`` values (K,), rising, to ``wanted``; the outer pieces go on beyond the ends."""
    piece = torch.bucketize(image, known[1:-1].contiguous())
    width = (known[1:] - known[:-1]).clamp_min(1e-6 * known[-1].abs().clamp_min(1e-6))
    slope = (wanted[1:] - wanted[:-1]) / width
    return wanted[piece] + (image - known[piece]) * slope[piece]


def check_head(head: np.ndarray, brain: np.ndarray, name: str = 'The image') -> None:
    """Refuse a skull-stripped image for a network that takes whole heads.

    Parameters
    ----------
    head : numpy.ndarray
        (X, Y, Z) intensities of the image.
    brain : numpy.ndarray
        (X, Y, Z) the same within the brain, 0 outside.
    name : str
        Name for the message.

    Raises
    ------
    ImageError
        If the foreground outside the brain is too small for a head.
    """
    inside = brain != 0
    bright = float(np.percentile(np.abs(head[inside]), 99)) if inside.any() else 0.0
    outside = (np.abs(head) > FOREGROUND * bright) & ~inside
    if outside.sum() < HEAD_SHARE * inside.sum():
        raise ImageError(
            f'{name} is skull-stripped, but the model was trained with the skull on.',
            'Provide the image before the brain extraction, or a model for stripped brains.',
        )


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
    """Resample a brain to the model's grid, once, and normalise it.

    Parameters
    ----------
    brain : numpy.ndarray
        (X, Y, Z) intensities, zero or NaN outside the brain; see :func:`as_volume`. The whole head
        if the model takes heads (``preprocessing.skull``).
    source : Grid
        Grid of the brain.
    native_to_template : numpy.ndarray
        4 x 4, from the world of ``source`` to that of the template.
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        The model's brain mask. Voxels outside it are background for every subject, so that the
        classifier cannot use the rim of a generous or tight mask. Not used for whole heads.
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
    resampled = resampled.clamp_min(0)
    if not preprocessing.skull:
        resampled = resampled * torch.from_numpy(mask.astype(np.float32))
    return preprocessing.normalise(resampled)
