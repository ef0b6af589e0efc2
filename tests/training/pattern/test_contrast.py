"""Contrast of volumes: families, covariates and standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from bids_interp.errors import TrainingError
from bids_interp.training.pattern.contrast import (
    ContrastDesign,
    contrast_volumes,
    variance_ratio,
)

VOXELS = 300


def design_of(values, families, covariates=None) -> ContrastDesign:
    count = len(values)
    columns = np.zeros((count, 0)) if covariates is None else covariates
    return ContrastDesign(np.asarray(values, float), families, np.arange(count), columns)


def test_single_images_give_least_squares():
    rng = np.random.default_rng(0)
    values, ages = np.arange(40) % 2, rng.normal(size=(40, 1))
    volumes = rng.normal(size=(40, VOXELS)) + 0.7 * values[:, None]
    found = contrast_volumes(volumes, design_of(values, np.arange(40), ages), 0)
    columns = np.column_stack([np.ones(40), ages, values])
    expected = np.linalg.lstsq(columns, volumes, rcond=None)[0][-1]
    assert np.allclose(found.effects, expected, atol=1e-9)


def test_family_effects_cancel_within_families():
    """Anatomy that brothers share does not hide a difference between them, however many are ill."""
    rng = np.random.default_rng(1)
    families = np.repeat(np.arange(20), 4)
    values = np.tile([0, 0, 0, 1, 0, 1, 1, 1], 10)
    shared = 10 * rng.normal(size=(20, VOXELS))[families]
    volumes = shared + rng.normal(size=(80, VOXELS)) + values[:, None]
    found = contrast_volumes(volumes, design_of(values, families), 0)
    # Of each family, one image is compared with three.
    error = np.sqrt((1 + 1 / 3) / 20)
    assert abs(found.effects.mean() - 1) < 5 * error / np.sqrt(VOXELS)
    assert found.effects.std() < 1.2 * error
    assert np.median(found.errors) == pytest.approx(error, rel=0.2)


def test_errors_between_families_count_families_not_images():
    """Copies of a brain are not more people."""
    rng = np.random.default_rng(2)
    families = np.repeat(np.arange(24), 5)
    values = families % 2
    volumes = rng.normal(size=(24, VOXELS))[families] + 0.05 * rng.normal(size=(120, VOXELS))
    found = contrast_volumes(volumes, design_of(values, families), 0)
    assert np.median(found.errors) == pytest.approx(2 / np.sqrt(24), rel=0.2)
    assert found.effects.std() == pytest.approx(2 / np.sqrt(24), rel=0.2)


def test_errors_do_not_contain_the_effect():
    rng = np.random.default_rng(3)
    values = np.arange(60) % 2
    noise = rng.normal(size=(60, VOXELS))
    plain, strong = (
        contrast_volumes(noise + size * values[:, None], design_of(values, np.arange(60)), 0)
        for size in (0.0, 50.0)
    )
    assert np.allclose(plain.errors, strong.errors, rtol=1e-6)


def test_covariates_are_removed():
    rng = np.random.default_rng(4)
    values = np.arange(60) % 2
    ages = (values + rng.normal(size=60))[:, None]
    volumes = np.repeat(3 * ages, VOXELS, axis=1) + 0.1 * rng.normal(size=(60, VOXELS))
    adjusted, plain = (
        contrast_volumes(volumes, design_of(values, np.arange(60), columns), 0).effects
        for columns in (ages, None)
    )
    assert abs(adjusted.mean()) < 0.02 < 1 < plain.mean()


def test_label_that_covariates_explain_is_refused():
    values = np.arange(40) % 2
    with pytest.raises(TrainingError):
        contrast_volumes(
            np.ones((40, 3)), design_of(values, np.arange(40), 2.0 * values[:, None] - 5), 0
        )


def test_too_few_families_are_refused():
    with pytest.raises(TrainingError):
        contrast_volumes(np.ones((4, 3)), design_of([0, 0, 1, 1], np.arange(4)), 0)


@pytest.mark.parametrize('true', [0.0, 1.0, 9.0])
def test_variance_ratio(true):
    """Estimated over the voxels, with families of different sizes."""
    rng = np.random.default_rng(5)
    families = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    shared = np.sqrt(true) * rng.normal(size=(30, 800))[families]
    volumes = shared + rng.normal(size=(len(families), 800))
    found = variance_ratio(volumes - volumes.mean(axis=0), families, 1)
    assert found == pytest.approx(true, rel=0.25, abs=0.1)
