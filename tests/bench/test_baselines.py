from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from bids_interp.bench.baselines import contrast_map, exact_volumes, oracle_maps
from bids_interp.spatial import Grid

GRID = Grid((6, 6, 6), np.diag([4.0, 4.0, 4.0, 1.0]))


def test_the_t_map_is_welchs_and_its_sign_that_of_the_patients():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(9, 12))
    labels = np.array([0, 1, 0, 1, 1, 0, 1, 1, 1])
    maps[labels == 1, :6] += 3
    found = contrast_map(maps, labels, studentised=True)
    wanted = ttest_ind(maps[labels == 1], maps[labels == 0], equal_var=False).statistic
    np.testing.assert_allclose(found, wanted)
    assert (found[:6] > 0).all()
    still = contrast_map(np.zeros((4, 1)), np.array([0, 0, 1, 1]), studentised=True)
    assert still.item() == 0


def test_the_class_difference_is_that_of_the_means():
    images = np.arange(4.0)[:, None]
    assert contrast_map(images, np.array([1, 0, 0, 1])).item() == 0.0
    assert contrast_map(images, np.array([0, 0, 1, 1])).item() == 2.0


def test_exact_volumes_of_patients_that_were_shrunk():
    """A pull-back by 10 % outwards shows structures a tenth shorter along each axis."""
    points = GRID.world_coordinates()
    outwards = 0.1 * (points - points.mean(axis=(1, 2, 3), keepdims=True))
    labels = np.array([0, 1, 0, 1, 1])
    fields = np.where(labels[:, None, None, None, None] == 1, outwards, 0.0).astype(np.float16)
    found = exact_volumes(fields, GRID, batch=2)
    np.testing.assert_allclose(found[labels == 1], -3 * np.log(1.1), atol=2e-3)
    np.testing.assert_allclose(found[labels == 0], 0, atol=2e-3)


def test_the_oracle_names_the_subtype_of_unseen_people():
    rng = np.random.default_rng(0)
    changes = np.zeros((2, 30))
    changes[0, :5], changes[1, 20:] = -0.4, -0.2
    subtypes = np.arange(40) % 2
    truths = -changes[subtypes] * rng.uniform(0.7, 1.3, (40, 1))
    volumes = changes[subtypes] + rng.normal(0, 0.1, (40, 30))
    own = np.concatenate([changes, changes.mean(axis=0, keepdims=True)])
    found = oracle_maps(truths, subtypes, volumes, own)
    means = [truths[subtypes == k].mean(axis=0) for k in (0, 1)]
    assert found[0] == pytest.approx(means[0], abs=0.01)
    assert found[1] == pytest.approx(means[1], abs=0.01)
    assert 0.1 < found[2, 0] / means[0][0] < 0.9
