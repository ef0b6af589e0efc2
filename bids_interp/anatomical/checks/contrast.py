"""Contrast of a registered brain: that of a T1w scan, or of something else with its name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_interp.anatomical.mask_border import three_means

#: Standard deviations of the local mean that is subtracted, in voxels of 2 mm.
LOCAL_VOXELS = 4.0
#: Largest share of neighbours in a scan with equal values, and its smallest number of values.
MAX_EQUAL, MIN_VALUES = 0.40, 24
#: Smallest order of white and grey matter, of grey matter and fluid, and local correlation.
MIN_WHITE_OVER_GREY, MIN_GREY_OVER_FLUID, MIN_LOCAL = 0.51, 0.51, 0.10


@dataclass(frozen=True)
class Contrast:
    """Contrast of a brain in the tissue of its template.

    Attributes
    ----------
    white_over_grey, grey_over_fluid : float
        Probability that a voxel of the first tissue is brighter than one of the second; about 0.5
        without contrast, below it for an inverted one.
    local : float
        Correlation of brain and template after subtraction of their local means.
    """

    white_over_grey: float
    grey_over_fluid: float
    local: float

    @property
    def is_t1w(self) -> bool:
        """True if tissue and details are those of a T1w scan."""
        return (
            self.white_over_grey >= MIN_WHITE_OVER_GREY
            and self.grey_over_fluid >= MIN_GREY_OVER_FLUID
            and self.local >= MIN_LOCAL
        )


@dataclass(frozen=True)
class Values:
    """Values of an image in its brain.

    Attributes
    ----------
    count : int
        Number of distinct values.
    equal_share : float
        Share of neighbouring voxels with the same value: noise gives neighbours different values,
        labels are constant over many voxels.
    """

    count: int
    equal_share: float

    @property
    def are_a_scan(self) -> bool:
        """True if the values are not those of a mask or of labels."""
        return self.count >= MIN_VALUES and self.equal_share <= MAX_EQUAL


def measure_values(data: np.ndarray, inside: np.ndarray) -> Values:
    """Measure the values of an image (X, Y, Z) in a brain mask (X, Y, Z).

    Examples
    --------
    >>> labels = np.repeat(np.arange(4), 8).reshape(2, 2, 8)
    >>> measure_values(labels, np.ones(labels.shape, bool)).are_a_scan
    False
    """
    equal = total = 0
    for axis in range(3):
        first, second = (slice(None, -1), slice(1, None))
        pair = [np.moveaxis(a, axis, 0) for a in (data, inside)]
        both = pair[1][first] & pair[1][second]
        equal += int((pair[0][first] == pair[0][second])[both].sum())
        total += int(both.sum())
    return Values(len(np.unique(data[inside])), equal / max(total, 1))


def measure_contrast(brain: np.ndarray, template: np.ndarray) -> Contrast:
    """Measure the contrast of a brain that is aligned with a template.

    Parameters
    ----------
    brain, template : ndarray (X, Y, Z)
        Brains on one grid of about 2 mm, 0 outside.
    """
    both = (brain > 0) & (template > 0.05 * np.percentile(template, 99))
    inside = ndimage.binary_erosion(both, iterations=2)
    if inside.sum() < 100:
        return Contrast(0.5, 0.5, 0.0)
    means = three_means(template[inside])
    classes = np.abs(template[..., None] - means).argmin(axis=-1)
    fluid, grey, white = (brain[inside & (classes == k)] for k in range(3))
    details = [_details(image, both)[inside] for image in (brain, template)]
    flat = min(part.std() for part in details) == 0
    local = 0.0 if flat else float(np.corrcoef(*details)[0, 1])
    return Contrast(_brighter(white, grey), _brighter(grey, fluid), local)


def _details(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return an image (X, Y, Z) minus its local mean within a mask."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), LOCAL_VOXELS)
    mean = ndimage.gaussian_filter(np.where(inside, image, 0), LOCAL_VOXELS)
    return np.asarray(image - mean / np.maximum(weight, 1e-3))


def _brighter(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a value of the first kind is above one of the second."""
    if first.size == 0 or second.size == 0:
        return 0.5
    ordered = np.sort(second)
    below = np.searchsorted(ordered, first, 'left') + np.searchsorted(ordered, first, 'right')
    return float(below.mean() / (2 * second.size))
