"""Mask border: a warped template mask fitted to the tissue of the image."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical.brain_masks import foreground_mask

LOCAL_MM = 15.0  # range over which white matter determines the local brightness
DEEP_MM = 6.0  # the skull is never deeper than this, even if the mask is misplaced by a few mm
# Limits beyond the means of grey and white matter, in units of their difference.
DARKEST, BRIGHTEST = 1.0, 2.2


@dataclass(frozen=True)
class MaskSettings:
    """Distances of the fit in mm.

    Attributes
    ----------
    reach : float
        Largest distance of brain tissue outside the warped mask.
    core : float
        Depth inside the warped mask from which everything is brain.
    neck : float
        Half the width of the bridges to other tissue that are cut.
    close : float
        Half the width of the sulci that belong to the mask.
    """

    reach: float
    core: float
    neck: float
    close: float

    @classmethod
    def tight(cls) -> MaskSettings:
        """Return the settings for a warped mask that fits well."""
        return cls(reach=3.0, core=12.0, neck=2.0, close=5.0)

    @classmethod
    def loose(cls) -> MaskSettings:
        """Return the settings for a warped mask that may be several millimetres off."""
        return cls(reach=5.0, core=20.0, neck=2.0, close=5.0)


def refine(img: nib.Nifti1Image, prior: np.ndarray, settings: MaskSettings) -> np.ndarray:
    """Fit a warped mask to the image.

    Parameters
    ----------
    img : Nifti1Image
        Bias-corrected head (X, Y, Z).
    prior : ndarray (X, Y, Z)
        Warped template mask, 0 to 1.
    settings : MaskSettings
        Distances.

    Returns
    -------
    ndarray of bool (X, Y, Z)
        One connected component without holes.
    """
    spacing = nib.affines.voxel_sizes(img.affine)
    inside = foreground_mask(prior > 0.5)
    out = np.zeros(prior.shape, dtype=bool)
    if not inside.any():
        return out
    box = _box(inside, spacing, settings.reach + settings.close + 4)
    data = np.asarray(img.dataobj, dtype=np.float32)[box]
    inside = inside[box]
    smooth = ndimage.gaussian_filter(data, 0.5 / spacing)
    signed = _distance(inside, spacing) - _distance(~inside, spacing)  # mm, positive inside
    first = _fitted(smooth, signed, signed, spacing, settings)
    if not first.any():
        return out
    # Repeat with the brightness inside the fitted mask, so that the width of the warped mask does
    # not decide what counts as tissue.
    out[box] = _fitted(smooth, signed, _distance(first, spacing), spacing, settings)
    return out


def _fitted(
    data: np.ndarray,
    signed: np.ndarray,
    depth: np.ndarray,
    spacing: np.ndarray,
    settings: MaskSettings,
) -> np.ndarray:
    """Fit the mask to tissue.

    Parameters
    ----------
    data : ndarray (X, Y, Z)
        Slightly smoothed image.
    signed : ndarray (X, Y, Z)
        Distance to the border of the warped mask, mm, positive inside.
    depth : ndarray (X, Y, Z)
        Distance to the border of the mask in which brightness is measured.
    spacing : ndarray (3,)
        Voxel size, mm.
    settings : MaskSettings
        Distances.
    """
    even = even_brightness(data, depth > 3.0, spacing)
    low, high = tissue_range(even, depth > DEEP_MM)
    tissue = (even > low) & (even < high) & (signed > -settings.reach)
    core = signed > settings.core
    # Opening that keeps everything connected to the core.
    eroded = _distance(tissue | core, spacing) > settings.neck
    labels, _ = ndimage.label(eroded | core)
    kept = np.isin(labels, np.setdiff1d(labels[core], [0]))
    grown = (_distance(~kept, spacing) <= settings.neck + 0.5) & (tissue | core)
    closed = _distance(~grown, spacing) <= settings.close
    closed = _distance(ndimage.binary_fill_holes(closed), spacing) > settings.close
    final = (closed | grown) & (signed > -settings.reach)
    return foreground_mask(ndimage.gaussian_filter(final.astype(np.float32), 1.0 / spacing) > 0.5)


def even_brightness(data: np.ndarray, inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Divide by the local brightness of white matter, which N4 leaves uneven near the border.

    Parameters
    ----------
    data : ndarray (X, Y, Z)
        Image.
    inside : ndarray of bool (X, Y, Z)
        Voxels that are certainly brain.
    spacing : ndarray (3,)
        Voxel size, mm.

    Returns
    -------
    ndarray (X, Y, Z)
        Image in which white matter is about 1.
    """
    _, grey, white = three_means(data[inside])
    weight = (inside & (data > 0.5 * (grey + white)) & (data < 1.3 * white)).astype(np.float32)
    sigma = LOCAL_MM / spacing
    # The small constant gives the global mean far from any white matter.
    total = ndimage.gaussian_filter(data * weight, sigma) + 1e-3 * white
    local = total / (ndimage.gaussian_filter(weight, sigma) + 1e-3)
    return data / np.clip(local, 0.6 * white, 1.6 * white)


def tissue_range(data: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Return the lowest brightness of grey matter and the highest of white matter.

    Both follow from the means of three classes (k-means as ``Kmeans[3]`` of Atropos) deep inside
    the warped mask. Only the classes of grey and white matter are used, because the mean of the
    darkest class depends on the width of the ventricles and sulci.
    """
    _, grey, white = three_means(data[inside])
    return float(grey - DARKEST * (white - grey)), float(white + BRIGHTEST * (white - grey))


def three_means(values: np.ndarray) -> np.ndarray:
    """Return the means of three classes (CSF, grey, white) by k-means on the histogram."""
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(np.clip(values, low, high), bins=256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    means = np.percentile(values, (5, 40, 85)).astype(float)
    for _ in range(50):
        nearest = np.abs(centres[:, None] - means).argmin(axis=1)
        new = np.array(
            [
                np.average(centres[nearest == k], weights=counts[nearest == k] + 1e-9)
                if np.any(nearest == k)
                else means[k]
                for k in range(3)
            ]
        )
        if np.allclose(new, means):
            break
        means = new
    return np.sort(means)


def _distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the distance of each voxel to the nearest one outside the mask, mm; 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing).astype(np.float32)


def _box(mask: np.ndarray, spacing: np.ndarray, margin: float) -> tuple[slice, ...]:
    where = np.argwhere(mask)
    grow = np.ceil(margin / spacing).astype(int)
    low = np.maximum(where.min(axis=0) - grow, 0)
    high = np.minimum(where.max(axis=0) + grow + 1, mask.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
