"""Cohort of labelled images in memory, on the grid of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bids_interp.errors import TrainingError
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.spatial import Grid

#: Prefix of the subject key among the keys of an image.
_SUBJECT = 'subject:'


@dataclass(frozen=True)
class Cohort:
    """Images with labels, families and identifying keys.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, X, Y, Z) classifier inputs.
    labels : numpy.ndarray
        (N,) class indices, or values for a regression.
    families : numpy.ndarray
        (N,) integers. Images of one family (sessions of a subject, siblings, several warps of one
        brain) stay on one side of every split.
    keys : tuple of tuple of str
        Keys that identify each image, see
        :func:`bids_interp.models.bundle.fingerprint.subject_keys`.
    grid : Grid
        Grid of the model.
    mask : numpy.ndarray
        Brain mask on the grid, (X, Y, Z) bool.
    preprocessing : Preprocessing
        Intensity preprocessing of the images.
    target : Target
        Meaning of the labels.
    names : tuple of str
        Image names for tables and messages.
    covariates : numpy.ndarray, optional
        (N, C) columns that contrasts of volumes are adjusted for.
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
    covariates: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count == len(self.labels) == len(self.families) == len(self.keys):
            raise TrainingError('A cohort needs as many labels, families and keys as images.')
        if tuple(self.images.shape[1:]) != (1, *self.grid.shape):
            raise TrainingError(
                f'Images of shape {tuple(self.images.shape[1:])} do not fit the grid of shape '
                f'{self.grid.shape}.'
            )
        values = np.unique(self.labels)
        if self.target.kind == 'regression':
            if len(values) < 2 or not np.isfinite(self.labels).all():
                raise TrainingError(
                    f'{self.target.label} is constant or contains values that are not numbers.',
                    'Check the label column.',
                )
        elif not np.array_equal(values, np.arange(len(self.target.classes))):
            missing = [c for i, c in enumerate(self.target.classes) if i not in values]
            raise TrainingError(
                f'No image belongs to {", ".join(missing) or "an expected class"}.',
                'Check the label column and the class names in the options.',
            )

    @property
    def brains(self) -> torch.Tensor:
        """Images (N, 1, X, Y, Z) within the brain mask; the same unless they show the skull."""
        if not self.preprocessing.skull:
            return self.images
        return self.images * torch.from_numpy(self.mask)

    def standardised(self) -> np.ndarray:
        """Return the labels (N,) of a regression, standardised."""
        return (self.labels - self.target.mean) / self.target.sd

    @property
    def participants(self) -> np.ndarray:
        """Participant index (N,) of each image, numbered in order of appearance.

        An image without a subject key counts as a participant of its own.
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
