"""Brain masks: components of a foreground, closing of sulci, and volume."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.nifti import image_like
from bids_interp.spatial.mask import main_components


def foreground_mask(different: np.ndarray) -> np.ndarray:
    """Return the largest connected component of a boolean array (X, Y, Z), holes filled."""
    labels, count = ndimage.label(different)
    if count == 0:
        return np.zeros_like(different, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())


def brain_parts(mask: np.ndarray) -> np.ndarray:
    """Return a brain mask (X, Y, Z) without fragments, holes filled.

    A large separate part, such as a cerebellum that another tool has cut off, is kept.
    """
    return ndimage.binary_fill_holes(main_components(mask))


def brain_mask_of(brain: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the mask of a brain image that is 0 outside, with sulci and holes closed."""
    data = np.asarray(brain.dataobj)
    closed = ndimage.binary_closing(np.pad(data > 0, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    return image_like(brain_parts(closed), brain)


def volume_litres(mask: nib.Nifti1Image) -> float:
    """Return the volume of a binary mask in litres.

    Examples
    --------
    >>> volume_litres(nib.Nifti1Image(np.ones((10, 10, 10)), np.diag([5.0, 5.0, 8.0, 1.0])))
    0.2
    """
    voxels = float(np.asarray(mask.dataobj).sum())
    return voxels * float(np.prod(nib.affines.voxel_sizes(mask.affine))) / 1e6
