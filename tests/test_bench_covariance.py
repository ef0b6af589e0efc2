"""Made-up people of the covariance benchmark against hand-computed moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import load_script


@pytest.fixture(scope='module')
def script(repository: Path):
    return load_script(repository / 'benchmarks' / 'bench_covariance.py')


def volumes_of_brains() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five brains, two images of each class, an effect in the first voxel."""
    rng = np.random.default_rng(0)
    families, labels = np.repeat(np.arange(5), 4), np.tile([0, 0, 1, 1], 5)
    brains = rng.normal(0, 0.2, (5, 6))
    effect = np.array([-0.3, 0, 0, 0, 0, 0])
    noise = rng.normal(0, 0.01, (20, 6))
    return brains[families] + labels[:, None] * effect + noise, labels, families


def test_volumes_are_split_into_brains_images_and_effect(script) -> None:
    volumes, labels, families = volumes_of_brains()
    found = script.split_volumes(volumes, labels, families, np.zeros(6))
    assert found.effect == pytest.approx([-0.3, 0, 0, 0, 0, 0], abs=0.02)
    assert found.brains.sum(axis=0) == pytest.approx(np.zeros(6), abs=1e-12)
    controls = np.stack([volumes[(families == k) & (labels == 0)].mean(axis=0) for k in range(5)])
    assert found.brains == pytest.approx(controls - controls.mean(axis=0))
    assert np.abs(found.images).max() < 0.05
    rebuilt = found.images[0] + controls[0]
    assert rebuilt == pytest.approx(volumes[0])


def test_people_have_the_covariance_of_the_brains_and_patients_the_effect(script) -> None:
    volumes, labels, families = volumes_of_brains()
    measured = script.split_volumes(volumes, labels, families, np.zeros(6))
    people, group = script.draw_people(measured, 20000, np.random.default_rng(1))
    wanted = np.cov(measured.brains.T) + measured.images.T @ measured.images / 20
    assert np.cov(people[group == 0].T) == pytest.approx(wanted, abs=3e-3)
    difference = people[group == 1].mean(axis=0) - people[group == 0].mean(axis=0)
    assert difference == pytest.approx(measured.effect, abs=0.02)
    assert group.mean() == 0.5


def test_estimators_are_found_by_name(script) -> None:
    name, estimate = script.read_estimator('mean=bids_interp.bench.baselines:contrast_map')
    assert name == 'mean'
    assert estimate(np.array([[1.0], [3.0]]), np.array([0, 1])).item() == 2.0
