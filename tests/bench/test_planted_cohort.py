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
    fit_scenario,
    load_ground_truth,
    plant_cohort,
    save_ground_truth,
)
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.change.effects import VolumeEffect
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.phantom.inject.warps import field_grid
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.spatial import Grid, log_jacobian

SCENARIO = SCENARIOS['S4']
BOX = Grid(
    (24, 28, 24), np.array([[8.0, 0, 0, -92], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])
)
MASK = (
    np.linalg.norm(BOX.world_coordinates() / np.array([70, 90, 70])[:, None, None, None], axis=0)
    < 1
)
INSIDE = region_mask('ventricles', BOX) > 0
POINTS = BOX.world_coordinates()


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
    plans = plan if isinstance(plan, list) else [plan]
    options = {'replicates': 2, **options}
    return plant_cohort(brains, scenario, plans, BOX, MASK, preprocessing, **options)


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
    names = ('pull_backs', 'truths', 'subtypes', 'motions')
    for name, found in zip(
        names, load_ground_truth(tmp_path / 'truth.safetensors', *names), strict=True
    ):
        np.testing.assert_array_equal(found, getattr(planted, name))


def test_the_exact_motion_has_the_exact_log_jacobian(planted):
    inner = (slice(4, -4),) * 3
    for motion, truth, label in zip(
        planted.motions, planted.truths, planted.cohort.labels, strict=True
    ):
        field = torch.from_numpy(motion.astype(np.float32))[None]
        found = log_jacobian(field, BOX)[0, 0].numpy()
        assert np.corrcoef(found[inner].ravel(), truth[inner].ravel())[0, 1] > 0.95
        # What expands moves away from the middle, and back where the change is removed.
        outward = (motion * (POINTS - POINTS[:, INSIDE].mean(axis=1)[:, None, None, None])).sum(0)
        assert outward[MASK].mean() * (1 if label == 0 else -1) > 0


@pytest.fixture(scope='module')
def two_subtypes(brains, plan) -> PlantedCohort:
    effect = VolumeEffect('frontal', {'frontal_ribbon': -0.2}, 'shell')
    other = fit_atrophy(plan.grid, effect.changes, 'shell', sigma_mm=6.0)
    scenario = replace(SCENARIO, subtypes=(effect,))
    return made(brains, [plan, other], scenario, replicates=4)


def test_each_patient_has_the_change_of_its_own_subtype(two_subtypes):
    cohort, subtypes = two_subtypes.cohort, two_subtypes.subtypes
    assert (subtypes[cohort.labels == 0] == -1).all()
    frontal = region_mask('frontal_ribbon', BOX) > 0
    for family in range(3):
        own = (cohort.families == family) & (cohort.labels == 1)
        assert sorted(subtypes[own]) == [0, 1]
    for truth, subtype in zip(two_subtypes.truths, subtypes, strict=True):
        # Removing the change: ventricles shrink back, the ribbon grows back.
        if subtype == 0:
            assert truth[INSIDE].mean() < -0.05
            assert abs(truth[frontal].mean()) < 0.02
        elif subtype == 1:
            assert truth[frontal].mean() > 0.05
            assert abs(truth[INSIDE].mean()) < 0.02


def test_the_truth_of_a_control_is_the_mean_of_the_subtypes(two_subtypes, planted):
    frontal = region_mask('frontal_ribbon', BOX) > 0
    controls = two_subtypes.cohort.labels == 0
    one = planted.truths[planted.cohort.labels == 0][:, INSIDE].mean()
    for truth in two_subtypes.truths[controls]:
        assert truth[INSIDE].mean() == pytest.approx(one / 2, rel=0.25)
        assert truth[frontal].mean() < -0.03


def test_images_of_each_subtype_are_explained(two_subtypes):
    cohort, subtypes = two_subtypes.cohort, two_subtypes.subtypes
    chosen = explained_images(cohort, 1, 0, subtypes)
    assert len(chosen) == 3 * 3
    assert np.bincount(subtypes[chosen] + 1).tolist() == [3, 3, 3]


def test_nothing_is_planted_and_nothing_is_twisted_without_an_effect(brains):
    changes = fit_scenario(SCENARIOS['S11'], BOX, 6.0)
    found = made(brains, changes, SCENARIOS['S11'])
    assert not found.truths.any()
    assert not found.motions.any()
    still = made(brains, changes, SCENARIOS['S11'], untouched=True)
    np.testing.assert_array_equal(found.pull_backs, still.pull_backs)
    assert np.abs(found.pull_backs).max() > 1
