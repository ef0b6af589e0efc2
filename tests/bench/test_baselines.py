from __future__ import annotations

import numpy as np
from scipy.stats import ttest_ind

from bids_interp.bench.baselines import (
    class_difference,
    exact_difference,
    morphometry_t_map,
)
from bids_interp.spatial import Grid

GRID = Grid((6, 6, 6), np.diag([4.0, 4.0, 4.0, 1.0]))
MASK = np.zeros(GRID.shape, bool)
MASK[1:5, 1:5, 1:5] = True


def test_the_t_map_is_welchs_and_its_sign_that_of_the_patients():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(9, 2, 3, 2))
    labels = np.array([0, 1, 0, 1, 1, 0, 1, 1, 1])
    maps[labels == 1, 0] += 3
    found = morphometry_t_map(maps, labels)
    wanted = ttest_ind(maps[labels == 1], maps[labels == 0], equal_var=False).statistic
    np.testing.assert_allclose(found, wanted)
    assert (found[0] > 0).all()
    assert morphometry_t_map(np.zeros((4, 1, 1, 1)), np.array([0, 0, 1, 1])).item() == 0


def test_the_class_difference_is_that_of_the_means():
    images = np.arange(4.0).reshape(4, 1, 1, 1)
    assert class_difference(images, np.array([1, 0, 0, 1])).item() == 0.0
    assert class_difference(images, np.array([0, 0, 1, 1])).item() == 2.0


def test_exact_volumes_of_patients_that_were_shrunk():
    """A pull-back by 10 % outwards shows structures a tenth shorter along each axis."""
    points = GRID.world_coordinates()
    outwards = 0.1 * (points - points.mean(axis=(1, 2, 3), keepdims=True))
    labels = np.array([0, 1, 0, 1, 1])
    fields = np.where(labels[:, None, None, None, None] == 1, outwards, 0.0).astype(np.float16)
    found = exact_difference(fields, labels, GRID, batch=2)
    np.testing.assert_allclose(found, -3 * np.log(1.1), atol=2e-3)
