"""Cohorts planted in memory, on a coarse grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_interp.bench.planted_cohort import (
    Brain,
    PlantedCohort,
    explained_images,
    load_ground_truth,
    plant_cohort,
    save_ground_truth,
)
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.phantom.inject.warps import field_grid
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.spatial import Grid

SCENARIO = SCENARIOS['S4']
BOX = Grid(
    (24, 28, 24), np.array([[8.0, 0, 0, -92], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])
)
MASK = (
    np.linalg.norm(BOX.world_coordinates() / np.array([70, 90, 70])[:, None, None, None], axis=0)
    < 1
)
INSIDE = region_mask('ventricles', BOX) > 0


@pytest.fixture(scope='module')
def plan():
    # The region is a few voxels wide here: what fits is no exact 30 %.
    return fit_atrophy(field_grid(BOX, 6.0), {'ventricles': 0.3}, 'shell', sigma_mm=6.0)


@pytest.fixture(scope='module')
def brains() -> list[Brain]:
    rng = np.random.default_rng(0)
    noise = [torch.from_numpy(rng.random(BOX.shape)).numpy() for _ in range(3)]
    data = [(MASK * (1 + 0.2 * one)).astype(np.float32) for one in noise]
    return [Brain(f'{number:02d}', one, BOX, np.eye(4)) for number, one in enumerate(data)]


def made(brains, plan, scenario=SCENARIO, **options) -> PlantedCohort:
    preprocessing = Preprocessing(normalisation='none')
    return plant_cohort(brains, scenario, plan, BOX, MASK, preprocessing, replicates=2, **options)


@pytest.fixture(scope='module')
def planted(brains, plan) -> PlantedCohort:
    return made(brains, plan)


def test_every_brain_is_there_as_control_and_as_patient(planted):
    cohort = planted.cohort
    assert cohort.images.shape == (6, 1, *BOX.shape)
    assert cohort.families.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(sorted(cohort.labels[cohort.families == f]) == [0, 1] for f in range(3))
    assert (cohort.images[:, 0].numpy()[:, ~MASK] == 0).all()


def test_truths_grow_in_controls_and_shrink_back_in_patients(planted):
    for truth, label in zip(planted.truths, planted.cohort.labels, strict=True):
        assert truth[INSIDE].mean() * (1 if label == 0 else -1) > 0.05


def test_without_a_change_there_is_no_truth(brains, plan):
    null = made(brains, plan, replace(SCENARIO, null=True))
    assert not null.truths.any()


def test_untouched_controls_have_no_sham(planted, brains, plan):
    null = replace(SCENARIO, null=True)
    shams, without = made(brains, plan, null), made(brains, plan, null, untouched=True)
    for label, is_same in ((0, False), (1, True)):
        own = shams.cohort.labels == label
        difference = np.abs(shams.pull_backs[own] - without.pull_backs[own]).max(axis=(1, 2, 3, 4))
        assert (difference == 0).all() == is_same
    # What is left is the anatomy alone, which a patient with a planted change has, too.
    controls = planted.cohort.labels == 0
    assert not np.array_equal(planted.pull_backs[controls], without.pull_backs[controls])


def test_the_same_images_are_explained_by_all(planted):
    chosen = explained_images(planted.cohort, 1, seed=4)
    assert chosen.tolist() == list(range(6))
    assert np.array_equal(chosen, explained_images(planted.cohort, 1, seed=4))


def test_ground_truth_comes_back(planted, tmp_path):
    save_ground_truth(tmp_path / 'truth.safetensors', planted)
    truths, pull_backs = load_ground_truth(tmp_path / 'truth.safetensors')
    np.testing.assert_array_equal(truths, planted.truths)
    np.testing.assert_array_equal(pull_backs, planted.pull_backs)
