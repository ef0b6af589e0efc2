"""NaN background of an image, as SPM, CAT12 and nilearn write it outside of their masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Share of NaN voxels from which NaN is the value of the background.
BACKGROUND_SHARE = 0.10
#: Brightness of tissue, as a share of the 99th percentile.
TISSUE_SHARE = 0.10


def fill_nan_background(data: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Replace NaN outside of the brain by the value of a dark background.

    NaN is background if it is frequent, connected to the border of the image, or not beside tissue.

    Parameters
    ----------
    data : ndarray (X, Y, Z)
        Voxels.

    Returns
    -------
    filled : ndarray (X, Y, Z)
        Voxels; background is 0, or the lowest value of an image with negative values.
    n_filled : int
        Number of voxels that were replaced.
    n_left : int
        Number of NaN voxels inside of tissue, which remain.

    Examples
    --------
    >>> image = np.ones((5, 5, 5))
    >>> image[0, 0, 0] = image[2, 2, 2] = np.nan
    >>> fill_nan_background(image)[1:]
    (1, 1)
    """
    missing = np.isnan(data)
    if not missing.any() or missing.all():
        return data, 0, int(missing.sum())
    left = np.zeros_like(missing) if missing.mean() >= BACKGROUND_SHARE else _in_tissue(data)
    background = missing & ~left
    finite = data[np.isfinite(data)]
    darkest = min(0.0, float(finite.min())) if finite.size else 0.0
    return np.where(background, darkest, data), int(background.sum()), int(left.sum())


def _in_tissue(data: np.ndarray) -> np.ndarray:
    """Return the NaN voxels (X, Y, Z) that are enclosed and beside tissue."""
    missing = np.isnan(data)
    parts, _ = ndimage.label(missing, np.ones((3, 3, 3)))
    values = np.where(np.isfinite(data), data, 0)
    tissue = values > TISSUE_SHARE * np.percentile(values[~missing], 99)
    beside = np.unique(parts[missing & ndimage.binary_dilation(tissue, np.ones((3, 3, 3)))])
    faces = [np.take(parts, (0, -1), axis=axis).ravel() for axis in range(3)]
    return np.isin(parts, np.setdiff1d(beside, np.concatenate(faces))) & missing
