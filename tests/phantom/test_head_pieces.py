"""Appearance, shapes, velocity fit and folder of the phantom heads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_interp.errors import OutputError, UsageError
from bids_interp.phantom.change.velocity_fit import Targets, fit_velocity, wanted_log_jacobian
from bids_interp.phantom.dataset_folder import (
    GENERATOR,
    check_cohort,
    check_free,
    folder_in_progress,
)
from bids_interp.phantom.heads.appearance import bias_field, rician_noise, vary_contrast
from bids_interp.phantom.heads.parts import PARTS
from bids_interp.spatial import Grid

GRID = Grid((24, 26, 28), np.diag([2.0, 2.5, 3.0, 1.0]), 'MNI152NLin2009aSym')


def test_contrast_keeps_white_matter_and_air() -> None:
    image = np.array([0.0, 0.5, 1.0])
    powers = []
    for seed in range(400):
        varied = vary_contrast(image, np.random.default_rng(seed), spread=0.3)
        assert varied[[0, 2]].tolist() == [0.0, 1.0]
        powers.append(np.log(varied[1]) / np.log(0.5))
    assert np.std(np.log(powers)) == pytest.approx(0.3, rel=0.15)


def test_noise_is_rician() -> None:
    air = rician_noise(np.zeros((40, 40, 40)), np.random.default_rng(0), sigma=0.1)
    bright = rician_noise(np.ones((40, 40, 40)), np.random.default_rng(1), sigma=0.1)
    assert air.min() > 0
    assert air.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)
    assert bright.std() == pytest.approx(0.1, rel=0.03)


def test_bias_field_is_smooth_and_positive() -> None:
    field = bias_field(GRID, np.random.default_rng(3), strength=0.2)
    assert field.min() > 0
    assert 0.02 < np.log(field).std() < 0.5
    assert np.abs(np.diff(np.log(field), axis=0)).max() < 0.05


def test_inner_parts_lie_below_the_skin() -> None:
    assert len(PARTS) > 20
    assert all(part.depth_mm >= 0 and 0 < part.contrast <= 1 for part in PARTS)
    assert all(abs(part.shape.centre[0]) > 1e-6 for part in PARTS if part.both)
    assert all(part.shape.centre[0] == 0 for part in PARTS if not part.both)


def _wave(grid: Grid) -> np.ndarray:
    """A smooth divergence with mean 0 that differs along each axis."""
    axes = [
        np.cos(np.pi * (axis + 1) * (np.arange(size) + 0.5) / size)
        for axis, size in enumerate(grid.shape)
    ]
    return (axes[0][:, None, None] * axes[1][:, None] * axes[2]).astype(np.float32)


def _ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    offsets = np.indices(GRID.shape) - np.reshape(centre, (3, 1, 1, 1))
    return np.clip(radius - np.linalg.norm(offsets, axis=0), 0, 1).astype(np.float32)


def test_the_absorber_takes_up_what_the_region_loses() -> None:
    region, taker = _ball((8, 12, 14), 5), _ball((17, 12, 14), 6)
    targets = Targets({'a': region > 0.5}, {'a': region}, taker)
    wanted, level = wanted_log_jacobian(targets, {'a': -0.2})
    nowhere, _ = wanted_log_jacobian(targets._replace(taker=0 * taker), {'a': -0.2})
    assert nowhere is None
    assert wanted is not None
    assert level > 0
    assert np.expm1(wanted[region > 0.5]).mean() == pytest.approx(-0.2, abs=1e-4)
    assert np.expm1(wanted.astype(np.float64)).sum() == pytest.approx(0, abs=1e-2)


def test_a_fitted_velocity_reaches_its_log_jacobian() -> None:
    found = fit_velocity(GRID, 0.05 * _wave(GRID))
    assert found is not None
    velocity, rmse = found
    assert velocity.shape == (3, *GRID.shape)
    assert rmse < 1e-3


@pytest.mark.parametrize(
    'numbers',
    [(0, (1.0, 1.0), 0, 0.5), (2, (1.0, 0.5), 0, 0.5), (2, (1.0, 1.0), -1, 0.5),
     (2, (1.0, 1.0), 0, 1.5), (2, (0.0, 1.0), 0, 0.5)],
)  # fmt: skip
def test_impossible_cohorts_are_refused(numbers) -> None:
    check_cohort(1, (0.5, 0.5), 0, 0.0)
    with pytest.raises(UsageError):
        check_cohort(*numbers)


def test_only_a_phantom_is_overwritten(tmp_path: Path) -> None:
    check_free(tmp_path / 'new', overwrite=False)
    description = tmp_path / 'dataset_description.json'
    description.write_text(json.dumps({'GeneratedBy': [{'Name': GENERATOR}]}))
    check_free(tmp_path, overwrite=True)
    with pytest.raises(OutputError):
        check_free(tmp_path, overwrite=False)
    description.write_text(json.dumps({'GeneratedBy': [{'Name': 'another'}]}))
    with pytest.raises(OutputError):
        check_free(tmp_path, overwrite=True)


def test_a_dataset_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / 'heads'
    out.mkdir()
    (out / 'old').touch()
    with pytest.raises(ZeroDivisionError), folder_in_progress(out) as work:
        (work / 'half').touch()
        _ = 1 / 0
    assert [path.name for path in tmp_path.rglob('*')] == ['heads', 'old']
    with folder_in_progress(out) as work:
        (work / 'whole').touch()
        assert (out / 'old').exists()
    assert [path.name for path in tmp_path.rglob('*')] == ['heads', 'whole']
