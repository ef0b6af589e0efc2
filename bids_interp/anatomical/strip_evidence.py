"""Evidence in an image that it is already skull-stripped."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical.bias import correct_bias
from bids_interp.anatomical.brain_masks import brain_parts, foreground_mask
from bids_interp.anatomical.raw.background import measure_background
from bids_interp.nifti import image_like

BACKGROUND_SHARE = 0.30
BRAIN_LITRES = (0.35, 2.4)
DARK_SHARE = 0.12
RIM_MM = 4.0
#: Share of the brightness that separates tissue from the soft edge of a probability map.
SOFT_EDGE = 0.15
#: Ratio of the volumes above the background and above the soft edge. Stripped brains have up to
#: 1.04; a field of 1:6 looks like a soft edge until it is corrected.
SOFT_RATIO = 1.10
#: The same ratio from which an edge counts before bias correction. Heads, whose skull is as dark as
#: a soft edge, have up to 1.22; a brain multiplied by a probability map of 5 mm has 1.5.
SOFT_RATIO_OF_BRAIN = 1.35


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
    def possible(self) -> bool:
        """True if background and volume, which no receive field changes, are those of a brain."""
        return (
            self.background_share >= BACKGROUND_SHARE
            and BRAIN_LITRES[0] <= self.litres <= BRAIN_LITRES[1]
        )

    @property
    def stripped(self) -> bool:
        """True if all three measurements indicate a skull-stripped brain."""
        return self.possible and self.dark_share <= DARK_SHARE


def is_stripped(img: nib.Nifti1Image, threads: int = 1) -> bool:
    """Decide whether an image (X, Y, Z) is skull-stripped, whatever its receive field.

    The dark end of a strong field looks like bone and air. If only the share of dark voxels speaks
    against a brain, the field is corrected first.
    """
    found = stripped_evidence(img)
    if found.stripped or not found.possible:
        return found.stripped
    mask = image_like(tissue(np.asarray(img.dataobj)), img)
    return stripped_evidence(correct_bias(img, mask=mask, threads=threads)).stripped


def tissue(data: np.ndarray) -> np.ndarray:
    """Return the voxels (X, Y, Z) that are not background, without dust, holes filled."""
    return brain_parts(measure_background(data).differs(data))


def solid_tissue(data: np.ndarray, ratio: float = SOFT_RATIO) -> np.ndarray:
    """Return the voxels of :func:`tissue` without a soft edge, in an image without bias.

    A brain that was multiplied by a probability map fades over several voxels. Its edge is cut if
    the volume above the background is more than ``ratio`` times that of the rest.
    """
    whole, background = tissue(data), measure_background(data)
    bright = data - background.level > SOFT_EDGE * abs(background.bright)
    solid = ndimage.binary_fill_holes(bright & whole)
    return solid if whole.sum() > ratio * solid.sum() > 0 else whole


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
    background = measure_background(data)
    share = float(1 - background.differs(data).mean())
    foreground = foreground_mask(solid_tissue(data, SOFT_RATIO_OF_BRAIN))
    litres = float(foreground.sum() * np.prod(spacing) / 1e6)
    if not foreground.any():
        return StrippedEvidence(share, 0.0, 1.0)
    padded = np.pad(foreground, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    inner = data[depth > RIM_MM] - background.level
    if inner.size == 0:
        return StrippedEvidence(share, litres, 1.0)
    dark = float((inner < 0.25 * np.percentile(inner, 95)).mean())
    return StrippedEvidence(share, litres, dark)
