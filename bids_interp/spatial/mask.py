"""Masks of brains: from intensities, and without loose fragments."""

from __future__ import annotations

import numpy as np

#: Smallest share of the largest component that a separate part of the brain has. The brainstem has
#: about 2 %, an eye 0.5 %.
SEPARATE_SHARE = 0.01


def brain_voxels(data: np.ndarray, faintest: float = 0.03) -> np.ndarray:
    """Return the voxels of a skull-stripped brain, without traces of interpolation around it.

    Traces are darker than the share ``faintest`` of the brain's brightness.

    >>> data = np.zeros((9, 9, 9))
    >>> data[2:7, 2:7, 2:7], data[4, 4, 4], data[0, 0, 0] = 100.0, 0.0, 1e-5
    >>> int(brain_voxels(data).sum())
    125
    """
    from scipy.ndimage import binary_fill_holes

    positive = data[data > 0]
    if positive.size == 0:
        return np.zeros(data.shape, bool)
    # Dark fluid inside the brain is part of the mask.
    return binary_fill_holes(data > faintest * float(np.percentile(positive, 99.5)))


def main_components(mask: np.ndarray, share: float = SEPARATE_SHARE) -> np.ndarray:
    """Return the large components of a mask (X, Y, Z): the brain, and parts cut off from it.

    Components below a share of the largest one are removed.

    >>> mask = np.zeros((40, 12, 12), bool)
    >>> mask[2:12, 1:11, 1:11] = mask[20:25, 4:8, 4:8] = mask[35, 5, 5] = True
    >>> int(mask.sum()), int(main_components(mask).sum())
    (1081, 1080)
    """
    from scipy.ndimage import label

    labels, count = label(mask)
    if count < 2:
        return np.asarray(mask, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= share * sizes.max())[labels] & (labels > 0)
