"""Was the brain extracted before? Seen from the image alone."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

BACKGROUND_SHARE = 0.30
BRAIN_LITRES = (0.35, 2.4)
DARK_SHARE = 0.12
RIM_MM = 4.0


@dataclass(frozen=True)
class StrippedEvidence:
    """What speaks for an extracted brain.

    Attributes
    ----------
    background_share : float
        Share of voxels with one and the same value, that of the image's border.
    litres : float
        Volume of the largest other thing, holes filled.
    dark_share : float
        Share of voxels below a quarter of white matter's brightness inside of that thing, more
        than 4 mm from its surface: air and bone of a head, little but ventricles in a brain.
    """

    background_share: float
    litres: float
    dark_share: float

    @property
    def stripped(self) -> bool:
        """Whether all of it speaks for an extracted brain."""
        return (
            self.background_share >= BACKGROUND_SHARE
            and BRAIN_LITRES[0] <= self.litres <= BRAIN_LITRES[1]
            and self.dark_share <= DARK_SHARE
        )


def stripped_evidence(img: nib.Nifti1Image) -> StrippedEvidence:
    """Measure what tells an extracted brain from a head.

    Parameters
    ----------
    img : Nifti1Image
        3-D T1w image, any grid.

    Returns
    -------
    StrippedEvidence
        Its property ``stripped`` is the verdict. A head, defaced or with a background set to
        zero, has too much volume and too much dark bone and air inside.
    """
    data = np.asarray(img.dataobj, dtype=np.float32)
    spacing = nib.affines.voxel_sizes(img.affine)
    step = tuple(max(1, int(2.0 // s)) for s in spacing)
    # Taking every n-th voxel keeps an exactly constant background, which averaging would blur.
    data = data[:: step[0], :: step[1], :: step[2]]
    spacing = spacing * step
    border = np.concatenate([np.take(data, (0, -1), axis=a).ravel() for a in range(3)])
    background = float(np.median(border))
    bright = float(np.percentile(data, 99)) - background
    different = np.abs(data - background) > 0.005 * abs(bright)
    share = float(1 - different.mean())
    thing = foreground_mask(different)
    litres = float(thing.sum() * np.prod(spacing) / 1e6)
    if not thing.any():
        return StrippedEvidence(share, 0.0, 1.0)
    depth = ndimage.distance_transform_edt(np.pad(thing, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    inner = data[depth > RIM_MM] - background
    if inner.size == 0:
        return StrippedEvidence(share, litres, 1.0)
    dark = float((inner < 0.25 * np.percentile(inner, 95)).mean())
    return StrippedEvidence(share, litres, dark)


def foreground_mask(different: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a boolean array (X, Y, Z), holes filled."""
    labels, count = ndimage.label(different)
    if count == 0:
        return np.zeros_like(different, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(labels == sizes.argmax())
