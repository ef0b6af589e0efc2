"""Background of an image: its level, its noise, and what differs from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Share of the brightness by which a constant background may vary, as after interpolation.
TOLERANCE = 0.005
#: Largest share, for a background of noise.
LARGEST_TOLERANCE = 0.05
NOISE_SDS = 4.0


@dataclass(frozen=True)
class Background:
    """Background on the faces of an image.

    Attributes
    ----------
    level : float
        Median of the faces.
    tolerance : float
        Largest difference from the level that counts as background.
    bright : float
        Brightness of the image above the level: its 99th percentile.
    """

    level: float
    tolerance: float
    bright: float

    def differs(self, data: np.ndarray) -> np.ndarray:
        """Return the voxels (X, Y, Z) that are not background."""
        return np.asarray(np.abs(data - self.level) > self.tolerance)


def face_values(data: np.ndarray) -> np.ndarray:
    """Return the values (n,) on the six faces of an image (X, Y, Z)."""
    return np.concatenate([np.take(data, (0, -1), axis=axis).ravel() for axis in range(3)])


def measure_background(data: np.ndarray) -> Background:
    """Measure the background of an image (X, Y, Z) on its faces.

    Examples
    --------
    >>> image = np.full((9, 9, 9), 30.0)
    >>> image[2:7, 2:7, 2:7] = 230.0
    >>> measure_background(image)
    Background(level=30.0, tolerance=1.0, bright=200.0)
    """
    faces = face_values(data)
    level = float(np.median(faces))
    bright = float(np.percentile(data, 99)) - level
    noise = NOISE_SDS * 1.4826 * float(np.median(np.abs(faces - level)))
    size = abs(bright)
    return Background(level, max(TOLERANCE * size, min(noise, LARGEST_TOLERANCE * size)), bright)
