"""Salt-and-pepper background of the uniform images (UNIT1) of MP2RAGE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_interp.spatial.mask import main_components

#: Local standard deviation of noise, as a share of the range of intensities. Uniform noise over the
#: whole range has 0.29, boundaries between tissues less than 0.2 as a rule.
NOISE_SHARE = 0.2
#: Share of noise on the faces of the image from which its background is noise.
FACE_SHARE = 0.5
HEAD_LITRES = (0.35, 12.0)
CLOSING_MM = 4.0


def suppress_noise_background(
    data: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, float]:
    """Set a background of noise to the lowest value; leave other images as they are.

    The ratio of two images is undefined where both are dark, so air has any value (Marques et al.
    2010). There, neighbours differ as much as voxels can; in a head they resemble each other.

    Parameters
    ----------
    data : ndarray (X, Y, Z)
        Voxels.
    spacing : sequence of float
        Voxel sizes in mm.

    Returns
    -------
    data : ndarray (X, Y, Z)
        Voxels; the same array if its background is not noise.
    share : float
        Share of voxels that were set.
    """
    low, high = np.percentile(data, (2, 98))
    if not low < high:
        return data, 0.0
    scaled = (data - low) / (high - low)
    faces = [np.take(scaled, place, axis) for axis in range(3) for place in ((0, 1), (-2, -1))]
    if np.mean([_is_noise(face).mean() for face in faces]) < FACE_SHARE:
        return data, 0.0
    head = main_components(ndimage.binary_opening(~_is_noise(scaled)), 1.0)
    if not HEAD_LITRES[0] <= head.sum() * np.prod(spacing) / 1e6 <= HEAD_LITRES[1]:
        return data, 0.0
    head = ndimage.binary_fill_holes(_closed(ndimage.binary_dilation(head), spacing))
    return np.where(head, data, np.minimum(low, 0)).astype(data.dtype), float(1 - head.mean())


def _is_noise(scaled: np.ndarray) -> np.ndarray:
    """Return the voxels (X, Y, Z) that differ from their neighbours as noise does."""
    mean = ndimage.uniform_filter(scaled, 3)
    variance = ndimage.uniform_filter(scaled**2, 3) - mean**2
    return np.asarray(variance > NOISE_SHARE**2)


def _closed(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return a mask with gaps of twice ``CLOSING_MM`` closed, such as boundaries of tissues."""
    margin = [int(np.ceil(CLOSING_MM / size)) + 1 for size in spacing]
    padded = np.pad(mask, [(n, n) for n in margin])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(grown, sampling=spacing) > CLOSING_MM
    inside = tuple(slice(n, -n) for n in margin)
    return np.asarray(closed[inside]) | mask
