"""A labelled cohort in memory, on the model's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bids_interp.errors import TrainingError
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.spatial import Grid


@dataclass(frozen=True)
class Cohort:
    """Images, labels and who belongs together.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, X, Y, Z) classifier inputs.
    labels : numpy.ndarray
        (N,) 0 or 1.
    families : numpy.ndarray
        (N,) integers; images of one family (sessions of a subject, siblings, several warps of
        one brain) stay on one side of every split.
    keys : tuple of tuple of str
        For each image what identifies it, see :func:`bids_interp.models.fingerprint.subject_keys`.
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        Brain mask on the grid, (X, Y, Z) bool.
    preprocessing : Preprocessing
        How the images were made.
    """

    images: torch.Tensor
    labels: np.ndarray
    families: np.ndarray
    keys: tuple[tuple[str, ...], ...]
    grid: Grid
    mask: np.ndarray
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count == len(self.labels) == len(self.families) == len(self.keys):
            raise TrainingError('A cohort needs as many labels, families and keys as images.')
        if tuple(self.images.shape[1:]) != (1, *self.grid.shape):
            raise TrainingError(
                f'Images of {tuple(self.images.shape[1:])} do not lie on a grid of '
                f'{self.grid.shape}.'
            )
        if len(np.unique(self.labels)) != 2:
            raise TrainingError(
                'Both classes are needed: all images have the same label.',
                'Check the label column and the values named positive and negative.',
            )

    def __len__(self) -> int:
        return len(self.images)
