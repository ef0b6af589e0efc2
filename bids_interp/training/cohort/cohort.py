"""A labelled cohort in memory, on the model's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bids_interp.errors import TrainingError
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid

#: How the key of a subject begins among the keys of an image.
_SUBJECT = 'subject:'


@dataclass(frozen=True)
class Cohort:
    """Images, labels and who belongs together.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, X, Y, Z) classifier inputs.
    labels : numpy.ndarray
        (N,) numbers of the classes, or values for a regression.
    families : numpy.ndarray
        (N,) integers; images of one family (sessions of a subject, siblings, several warps of
        one brain) stay on one side of every split.
    keys : tuple of tuple of str
        For each image what identifies it, see
        :func:`bids_interp.models.bundle.fingerprint.subject_keys`.
    grid : Grid
        The model's grid.
    mask : numpy.ndarray
        Brain mask on the grid, (X, Y, Z) bool.
    preprocessing : Preprocessing
        How the images were made.
    target : Target
        What the labels say.
    names : tuple of str
        Of the images, for tables and messages.
    """

    images: torch.Tensor
    labels: np.ndarray
    families: np.ndarray
    keys: tuple[tuple[str, ...], ...]
    grid: Grid
    mask: np.ndarray
    preprocessing: Preprocessing
    target: Target
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count == len(self.labels) == len(self.families) == len(self.keys):
            raise TrainingError('A cohort needs as many labels, families and keys as images.')
        if tuple(self.images.shape[1:]) != (1, *self.grid.shape):
            raise TrainingError(
                f'Images of {tuple(self.images.shape[1:])} do not lie on a grid of '
                f'{self.grid.shape}.'
            )
        values = np.unique(self.labels)
        if self.target.kind == 'regression':
            if len(values) < 2 or not np.isfinite(self.labels).all():
                raise TrainingError(
                    f'{self.target.label} is the same for all images, or is not a number.',
                    'Check the label column.',
                )
        elif not np.array_equal(values, np.arange(len(self.target.classes))):
            missing = [c for i, c in enumerate(self.target.classes) if i not in values]
            raise TrainingError(
                f'Every class is needed: no image is of {", ".join(missing) or "a known class"}.',
                'Check the label column and the values named positive and negative.',
            )

    def standardised(self) -> np.ndarray:
        """Labels of a regression in standard deviations, (N,)."""
        return (self.labels - self.target.mean) / self.target.sd

    @property
    def participants(self) -> np.ndarray:
        """(N,) integers, equal for images of one participant, in the order of the images.

        Images without a key of their subject are of different ones.
        """
        codes: dict[str | int, int] = {}
        return np.array(
            [
                codes.setdefault(next((k for k in keys if k.startswith(_SUBJECT)), n), len(codes))
                for n, keys in enumerate(self.keys)
            ],
            int,
        )

    def __len__(self) -> int:
        return len(self.images)
