"""Grids that tools get wrong: oblique, flipped, permuted and anisotropic."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from bids_interp.spatial import Grid


def centred(shape: tuple[int, int, int], linear: np.ndarray) -> Grid:
    """A grid whose centre is the origin of the world."""
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, 'T1w')


_OBLIQUE = Rotation.from_euler('xyz', [12, -8, 20], degrees=True).as_matrix()

GRIDS = {
    'isotropic': centred((40, 42, 44), np.diag([2.0, 2.0, 2.0])),
    'anisotropic': centred((40, 56, 28), np.diag([2.0, 1.5, 3.0])),
    'LAS': centred((40, 42, 44), np.diag([-2.0, 2.0, 2.0])),
    'PSR': centred((42, 44, 40), 2.0 * np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]])),
    'oblique': centred((40, 42, 30), _OBLIQUE @ np.diag([2.0, 2.0, 2.8])),
}
