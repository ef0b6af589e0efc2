"""Blob cohort: images of blobs in memory, with the maps that are right for each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.phantom.blobs.blob_image import (
    AFFECTED,
    BODY_MM,
    Blobs,
    design_blobs,
    draw_blobs,
)
from bids_interp.spatial import Grid
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.loop.randomness import derived_seed

TARGET = Target('binary', 'group', ('control', 'patient'))
#: Range of the strength of the change.
SEVERITY = (0.7, 1.3)
#: Width of the background around the body that belongs to the mask.
RIM_MM = 4.0


@dataclass(frozen=True)
class BlobTruth:
    """What is right for each image.

    Parameters
    ----------
    truths : numpy.ndarray
        (N, A, X, Y, Z) exact log-Jacobians that bring the image into the other class. Each of the
        A maps is right by itself; A is 0 if no shape differs between the classes.
    types : numpy.ndarray
        (N,) numbers of the small blobs, such as ``'1+2'``; ``'-'`` for none.
    lookalikes : numpy.ndarray
        (N, X, Y, Z) bool, blobs that never differ between the classes.
    """

    truths: np.ndarray
    types: np.ndarray
    lookalikes: np.ndarray


@dataclass(frozen=True)
class BlobCohort:
    """Images, labels and truth of a variant.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, X, Y, Z) intensities with background 0; Z is 1 for two-dimensional images.
    labels : numpy.ndarray
        (N,) 0 controls, 1 patients.
    truth : BlobTruth
        Truth of each image.
    grid, mask : Grid, numpy.ndarray
        Grid of the images, and the voxels (X, Y, Z) that are compared.
    """

    images: torch.Tensor
    labels: np.ndarray
    truth: BlobTruth
    grid: Grid
    mask: np.ndarray

    def first_of_each_type(self, images: np.ndarray, count: int) -> np.ndarray:
        """Return the first images of each type and class, at most a number of each, sorted."""
        types = np.char.add(self.truth.types[images], np.where(self.labels[images] == 1, 'p', 'c'))
        kept = [images[types == name][:count] for name in np.unique(types)]
        return np.sort(np.concatenate(kept))

    def cohort(self, preprocessing: Preprocessing) -> Cohort:
        """Return the images with the intensities that a method expects."""
        images = torch.cat([preprocessing.normalise(image) for image in self.images.split(1)])
        numbers = np.arange(len(images))
        return Cohort(
            images,
            self.labels,
            numbers,
            tuple((f'subject:{number}',) for number in numbers),
            self.grid,
            self.mask,
            preprocessing,
            TARGET,
            tuple(f'image {number}' for number in numbers),
        )


def draw_cohort(variant: str, dim: int, n: int, size: int, seed: int) -> BlobCohort:
    """Draw the images of a variant, half of them patients.

    Parameters
    ----------
    variant : str
        One of :data:`bids_interp.phantom.blobs.blob_image.VARIANTS`.
    dim : int
        2 or 3.
    n : int
        Number of images.
    size : int
        Number of voxels along each axis.
    seed : int
        Random seed.
    """
    made = design_blobs(dim, variant, SEVERITY[1], size)
    base = derived_seed(seed, 'blobs', variant, dim)
    labels = np.zeros(n, int)
    labels[np.random.default_rng([base, 0]).permutation(n)[: n // 2]] = 1
    drawn = []
    for index, label in enumerate(labels):
        rng = np.random.default_rng([base, 1, index])
        drawn.append(draw_blobs(made, rng, bool(label), float(rng.uniform(*SEVERITY))))
    grid = _drawn_grid(made.grid, drawn[0].image.shape[2])
    mask = np.linalg.norm(grid.world_coordinates(), axis=0) < BODY_MM + RIM_MM
    images = np.stack([np.clip(one.image, 0, None) * mask for one in drawn])
    return BlobCohort(
        torch.from_numpy(images.astype(np.float32))[:, None],
        labels,
        BlobTruth(
            np.stack([_truths(one, grid.shape) for one in drawn]),
            np.array(['+'.join(map(str, one.small)) or '-' for one in drawn]),
            np.stack([(one.labels > 0) & ~np.isin(one.labels, AFFECTED) for one in drawn]),
        ),
        grid,
        mask,
    )


def _truths(one: Blobs, shape: tuple[int, int, int]) -> np.ndarray:
    """Alternatives (A, X, Y, Z), in the order of the affected blobs."""
    found = [one.truths[name] for name in sorted(one.truths)]
    return np.stack(found).astype(np.float32) if found else np.zeros((0, *shape), np.float32)


def _drawn_grid(grid: Grid, count: int) -> Grid:
    """Return the grid of the images: of two-dimensional ones, only the middle slice is kept."""
    first = (grid.shape[2] - count) // 2
    return grid.crop(np.array([0, 0, first]), np.array([*grid.shape[:2], first + count]))
