"""Intensities of an image in a standard form: dark background of 0, no frame, no outliers.

Each function takes voxels (X, Y, Z), not all equal, and returns them with a note for the user; the
same array and an empty note if nothing is to be done.
"""

from __future__ import annotations

import numpy as np

from bids_interp.anatomical.raw.background import face_values, measure_background

#: Share of the voxels from which a constant background surrounds a stripped brain.
BACKGROUND_SHARE = 0.30
#: Share of the brightness below which a level is left as it is.
SMALL_LEVEL = 0.02
#: Level of noise, in units of its spread between the 5th and 25th percentile; Rayleigh noise of a
#: magnitude image has 1.7.
NOISE_LEVEL = 4.0
#: Share of a brain that is darker than a background which is not the lowest value.
DARKER_SHARE = 0.02
#: Voxels brighter than this many times the 99.5th percentile are faults; vessels reach 5.
OUTLIER = 10.0


def without_frame(data: np.ndarray) -> tuple[np.ndarray, str]:
    """Give outer slices of one value the value of most voxels; padding differs from background."""
    values, counts = np.unique(data[::3, ::3, ::3], return_counts=True)
    if counts.max() < BACKGROUND_SHARE * counts.sum():
        return data, ''
    common = values[counts.argmax()]
    out = data
    for axis in range(3):
        for place in (0, -1):
            face = np.take(data, place, axis)
            if face.min() == face.max() != common:
                out = out.copy() if out is data else out
                np.moveaxis(out, axis, 0)[place] = common
    return out, '' if out is data else 'The outer slices have another value than the background.'


def without_level(data: np.ndarray) -> tuple[np.ndarray, str]:
    """Subtract the level of the background, or of the darkest tissue if that is darker."""
    background = measure_background(data)
    inside = background.differs(data)
    is_constant = inside.mean() <= 1 - BACKGROUND_SHARE
    if is_constant and inside.any():
        tissue = data[inside]
        bright = float(np.percentile(tissue, 99))
        darkest = float(np.percentile(tissue, 0.5))
        margin = max(SMALL_LEVEL * (bright - darkest), 2 * background.tolerance)
        if (tissue < background.level - margin).mean() > DARKER_SHARE:
            shifted = np.where(inside, np.maximum(data - darkest, 0), 0).astype(data.dtype)
            return shifted, (
                f'The background ({background.level:.4g}) is brighter than the darkest tissue '
                f'({darkest:.4g}); both were set to 0.'
            )
        level, spread = background.level, background.tolerance
    else:
        # Tissue reaches some faces of a whole head, so the darkest quarter of them is air.
        lowest, low = np.percentile(face_values(data), (5, 25))
        level, spread = float(min(low, np.percentile(data, 5))), float(low - lowest)
    bright = abs(float(np.percentile(data, 99)) - level)
    if abs(level) <= max(SMALL_LEVEL * bright, NOISE_LEVEL * spread):
        return data, ''
    return data - data.dtype.type(level), (
        f'The background level of {level:.4g} was subtracted from all intensities.'
    )


def without_outliers(data: np.ndarray) -> tuple[np.ndarray, str]:
    """Clip single voxels with values far beyond anything in a head."""
    tissue = data[measure_background(data).differs(data)]
    if tissue.size == 0:
        return data, ''
    bright = float(np.percentile(tissue, 99.5))
    outliers = np.abs(data) > OUTLIER * bright
    count = int(outliers.sum())
    if bright <= 0 or count == 0:
        return data, ''
    return np.where(outliers, np.clip(data, 0, bright), data).astype(data.dtype), (
        f'{count} value(s) are more than {OUTLIER:.0f} times as large as those of tissue; '
        f'they were clipped at {bright:.4g}.'
    )
