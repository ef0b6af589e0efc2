"""Evidence in an image that it is already skull-stripped."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical.brain_masks import foreground_mask

BACKGROUND_SHARE = 0.30
BRAIN_LITRES = (0.35, 2.4)
DARK_SHARE = 0.12
RIM_MM = 4.0


@dataclass(frozen=True)
class StrippedEvidence:
    """Measurements that distinguish a skull-stripped brain from a head.

    Attributes
    ----------
    background_share : float
        Share of voxels with the value of the image's border.
    litres : float
        Volume of the largest foreground component, holes filled.
    dark_share : float
        Share of voxels more than 4 mm inside that component with less than a quarter of the
        brightness of white matter: air and bone in a head, only ventricles in a brain.
    """

    background_share: float
    litres: float
    dark_share: float

    @property
    def stripped(self) -> bool:
        """True if all three measurements indicate a skull-stripped brain."""
        return (
            self.background_share >= BACKGROUND_SHARE
            and BRAIN_LITRES[0] <= self.litres <= BRAIN_LITRES[1]
            and self.dark_share <= DARK_SHARE
        )


def stripped_evidence(img: nib.Nifti1Image) -> StrippedEvidence:
    """Measure the evidence that an image is skull-stripped.

    Parameters
    ----------
    img : Nifti1Image
        3-D T1w image, any grid.

    Returns
    -------
    StrippedEvidence
        The property ``stripped`` gives the conclusion. A head that was defaced, or whose background
        was set to zero, still has too large a volume with too much dark bone and air.
    """
    data = np.asarray(img.dataobj, dtype=np.float32)
    spacing = nib.affines.voxel_sizes(img.affine)
    step = tuple(max(1, int(2.0 // s)) for s in spacing)
    # Sampling every n-th voxel keeps a constant background exact; averaging would blur it.
    data = data[:: step[0], :: step[1], :: step[2]]
    spacing = spacing * step
    border = np.concatenate([np.take(data, (0, -1), axis=a).ravel() for a in range(3)])
    background = float(np.median(border))
    bright = float(np.percentile(data, 99)) - background
    different = np.abs(data - background) > 0.005 * abs(bright)
    share = float(1 - different.mean())
    foreground = foreground_mask(different)
    litres = float(foreground.sum() * np.prod(spacing) / 1e6)
    if not foreground.any():
        return StrippedEvidence(share, 0.0, 1.0)
    padded = np.pad(foreground, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    inner = data[depth > RIM_MM] - background
    if inner.size == 0:
        return StrippedEvidence(share, litres, 1.0)
    dark = float((inner < 0.25 * np.percentile(inner, 95)).mean())
    return StrippedEvidence(share, litres, dark)
