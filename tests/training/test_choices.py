"""Recipes, the model's grid, folds, calibration, selection: what is decided before and between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_interp.errors import TrainingError, UsageError
from bids_interp.models.bundle.fold_metrics import Candidate
from bids_interp.models.target import Target
from bids_interp.spatial import Grid
from bids_interp.training.calibration import (
    SMALLEST_GAP,
    Calibration,
    class_gaps,
    fit_calibration,
    probabilities,
)
from bids_interp.training.cohort.folds import make_folds
from bids_interp.training.cohort.model_grid import model_grid, template_mask
from bids_interp.training.ipmi2021 import PaperRecipe
from bids_interp.training.loop.randomness import step_generators
from bids_interp.training.recipe import PRESETS, make_recipe, recipe_digest
from bids_interp.training.selection import most_reproducible, split_halves
from bids_interp.training.simulator import SimulatorRecipe
from helpers.balls import BINARY, SEVERAL, binary_cohort, regression_cohort

NUMBER = Target('regression', 'age', (), 50.0, 10.0)


class TestRecipe:
    def test_presets(self) -> None:
        assert [PRESETS[name].n_folds for name in ('default', 'fast', 'ipmi2021')] == [5, 3, 5]
        assert make_recipe('fast').simulator.capacity == 'pattern'
        paper = make_recipe('ipmi2021')
        assert isinstance(paper.simulator, PaperRecipe)
        assert (paper.cube, paper.preprocessing.normalisation) == (64, 'zscore')
        assert (paper.classifier.learning_rate, paper.classifier.batch) == (5e-4, 40)
        assert paper.classifier.augmentation is None
        assert (paper.simulator.margin, paper.simulator.smoothness) == (12.5, 4e-5)
        assert (paper.simulator.hinge_rate, paper.simulator.cycle_rate) == (2e-4, 1e-4)
        assert (paper.simulator.batch, paper.simulator.steps) == (40, 950)
        assert (paper.simulator.weight_decay, paper.simulator.least_auc) == (1e-4, 0.85)

    def test_the_table_of_the_document(self, repository: Path) -> None:
        text = (repository / 'docs' / 'training.md').read_text()
        rows = {
            cells[0]: cells[1:]
            for line in text.splitlines()
            if len(cells := [cell.strip() for cell in line.strip('|').split('|')]) == 4
        }
        for column, name in enumerate(('default', 'fast', 'ipmi2021')):
            recipe = PRESETS[name]
            simulator = recipe.simulator
            expected = {
                'voxel size (mm)': f'{recipe.spacing_mm:g}',
                'grid': ' x '.join([str(recipe.cube)] * 3) if recipe.cube else 'fitted to brain',
                'folds': str(recipe.n_folds),
                'steps of a network that classifies': str(recipe.classifier.steps),
                'images per step': str(recipe.classifier.batch),
                'simulator': simulator.capacity,
            }
            if isinstance(simulator, PaperRecipe):
                expected['steps of the simulator'] = str(simulator.steps)
            assert {key: rows[key][column] for key in expected} == expected

    def test_changes(self) -> None:
        recipe = make_recipe(
            'default',
            capacity='residual',
            architecture='sfcn',
            n_folds=4,
            spacing_mm=5.0,
            cube=32,
            members=2,
            classifier_steps=7,
            simulator_steps=3,
            batch=2,
        )
        assert (recipe.n_folds, recipe.spacing_mm, recipe.cube, recipe.members) == (4, 5.0, 32, 2)
        assert recipe.classifier.architecture == 'sfcn'
        # A classifier that is validated less often than it has steps would never be validated.
        assert (recipe.classifier.steps, recipe.classifier.validate_every) == (7, 7)
        simulator = recipe.simulator
        assert (simulator.capacity, simulator.template_steps, simulator.residual_steps) == (
            'residual',
            3,
            3,
        )
        assert recipe.classifier.batch == simulator.batch == 2

    def test_capacities_have_the_stages_they_need(self) -> None:
        assert make_recipe('default', capacity='template').simulator.residual_steps == 0
        assert make_recipe('fast', capacity='condconv').simulator.residual_steps > 0
        assert make_recipe('ipmi2021', simulator_steps=5).simulator.steps == 5

    @pytest.mark.parametrize(
        ('choice', 'words'),
        [
            ({'preset': 'slow'}, "'slow'.*default"),
            ({'preset': 'ipmi2021', 'capacity': 'template'}, '--preset ipmi2021 .*--capacity'),
            ({'preset': 'default', 'capacity': 'huge'}, "--capacity 'huge'"),
        ],
    )
    def test_mistakes(self, choice: dict, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            make_recipe(**choice)

    def test_digests_tell_recipes_apart(self) -> None:
        changed = [
            make_recipe('default'),
            make_recipe('fast'),
            make_recipe('ipmi2021'),
            make_recipe('default', members=2),
            make_recipe('default', classifier_steps=9),
            make_recipe('default', capacity='template', simulator_steps=9),
            make_recipe('default', batch=4),
        ]
        assert len({recipe.digest() for recipe in changed}) == len(changed)
        assert make_recipe('fast').digest() == make_recipe('fast').digest()
        stronger = replace(SimulatorRecipe().augmentation, noise=0.5)
        assert recipe_digest(SimulatorRecipe(augmentation=stronger)) != recipe_digest(
            SimulatorRecipe()
        )


class TestGrid:
    @pytest.fixture
    def template(self) -> nib.Nifti1Image:
        """A box of 40 x 60 x 20 mm, off the centre of its image."""
        data = np.zeros((70, 80, 50), np.float32)
        data[5:46, 10:71, 20:41] = 3.0
        affine = np.eye(4)
        affine[:3, 3] = [-12, -34, 7]
        return nib.Nifti1Image(data, affine)

    @pytest.mark.parametrize('cube', [0, 20])
    def test_the_brain_is_inside_and_centred(self, template, cube: int) -> None:
        grid, mask = model_grid(template, 'box', 4.0, cube)
        assert grid.space == 'box'
        np.testing.assert_allclose(grid.spacing, 4)
        corners = np.array([[0, 0, 0], np.array(grid.shape) - 1]) @ grid.linear.T
        low, high = corners + grid.affine[:3, 3]
        box_low, box_high = np.array([-7, -24, 27]), np.array([33, 36, 47])
        np.testing.assert_allclose((low + high) / 2, (box_low + box_high) / 2)
        assert (box_low - low >= 0).all()
        assert (high - box_high >= 0).all()
        if cube:
            assert grid.shape == (20, 20, 20)
        else:
            assert all(size % 4 == 0 for size in grid.shape)
            assert (box_low - low >= 4).all()
        # The mask is the box and a voxel around it.
        volume = mask.sum() * 4.0**3
        assert 40 * 60 * 20 < volume < 54 * 74 * 34
        edge = mask.copy()
        edge[1:-1, 1:-1, 1:-1] = False
        assert not edge.any()

    def test_a_cube_that_is_too_small(self, template) -> None:
        with pytest.raises(UsageError, match=r'^15 .*\b4 mm .*\b11 x 16 x 6\b'):
            model_grid(template, 'box', 4.0, 15)
        assert model_grid(template, 'box', 4.0, 16)[0].shape == (16, 16, 16)

    def test_a_mask_lies_where_the_brain_is(self, template) -> None:
        grid = Grid.from_image(template).with_spacing(5.0)
        mask = template_mask(template, grid)
        points = grid.world_coordinates()[:, mask]
        np.testing.assert_allclose(points.mean(axis=1), [13, 6, 37], atol=2.5)


class TestFolds:
    def shares(self, folds, code: np.ndarray) -> np.ndarray:
        return np.array([code[fold.test].mean() for fold in folds])

    def test_strata_are_balanced(self) -> None:
        rng = np.random.default_rng(0)
        labels, sex = rng.integers(0, 2, 120), rng.integers(0, 2, 120)
        families = np.arange(120)
        folds = make_folds(labels, families, 4, 0, [sex])
        patients = labels == 1
        shares = [sex[f.test][patients[f.test]].mean() for f in folds]
        assert max(shares) - min(shares) < 0.08
        assert np.ptp(self.shares(folds, labels)) < 0.05

    def test_the_last_strata_are_given_up_first(self) -> None:
        """A site with a single subject of a class costs the site, not the sex."""
        labels = np.arange(96) % 2
        sex = np.arange(96) // 2 % 2
        site = np.array(['big'] * 95 + ['tiny'])
        with_site = make_folds(labels, np.arange(96), 4, 0, [sex, site])
        without = make_folds(labels, np.arange(96), 4, 0, [sex])
        for one, two in zip(with_site, without, strict=True):
            assert np.array_equal(one.test, two.test)
        for fold in with_site:
            assert sex[fold.test].mean() == pytest.approx(0.5)

    def test_a_rare_class_is_in_every_part(self) -> None:
        labels = np.array([0] * 60 + [1] * 60 + [2] * 6)
        for fold in make_folds(labels, np.arange(126), 3, 0):
            for part in (fold.train, fold.validation, fold.test):
                assert set(labels[part]) == {0, 1, 2}

    def test_too_rare_a_class_is_named(self) -> None:
        labels = np.array([0] * 20 + [1] * 20 + [2] * 2)
        with pytest.raises(TrainingError, match=r'\bMCI\b.*\b2 ') as caught:
            make_folds(labels, np.arange(42), 3, 0, names=('CN', 'AD', 'MCI'))
        assert '--folds' in (caught.value.advice or '')

    def test_many_images_of_few_families(self) -> None:
        labels, families = np.repeat([0, 1], 50), np.repeat(np.arange(4), 25)
        with pytest.raises(TrainingError, match=r'\b2 .*\b3 folds'):
            make_folds(labels, families, 3, 0)

    def test_more_folds_than_families_of_a_class(self) -> None:
        with pytest.raises(TrainingError, match=r'\b1 .*\b6 .*\b7 folds'):
            make_folds(np.array([0] * 20 + [1] * 6), np.arange(26), 7, 0)

    def test_another_seed_shuffles(self) -> None:
        labels = np.arange(40) % 2
        one, two, same = (make_folds(labels, np.arange(40), 4, seed) for seed in (0, 1, 0))
        assert any(not np.array_equal(a.test, b.test) for a, b in zip(one, two, strict=True))
        assert all(np.array_equal(a.train, b.train) for a, b in zip(one, same, strict=True))


class TestCalibration:
    @pytest.mark.parametrize(
        ('target', 'planted'), [(BINARY, [-1.5]), (SEVERAL, [0.75, -1.25, 0.5])]
    )
    def test_a_planted_calibration_is_found(self, target: Target, planted: list[float]) -> None:
        rng = np.random.default_rng(0)
        outputs = rng.normal(0, 2, (6000, len(planted)))
        chances = probabilities(outputs, Calibration(1.0, tuple(planted)), target)
        labels = np.array([rng.choice(len(p), p=p) for p in chances])
        for temperature in (1.0, 4.0):
            found = fit_calibration(temperature * outputs, labels, target)
            assert found.temperature == pytest.approx(temperature, rel=0.1)
            assert found.intercept == pytest.approx(planted, abs=0.1)

    @pytest.mark.parametrize('count', [10, 20, 100])
    def test_a_rare_class_gets_probabilities_of_its_frequency(self, count: int) -> None:
        """Balanced training gives balanced logits; one image in five is a patient."""
        rng = np.random.default_rng(1)

        def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
            labels = (np.arange(number) % 5 == 0).astype(int)
            return labels[:, None] + rng.normal(-0.5, 1, (number, 1)), labels

        outputs, truth = draw(2000)

        def brier(calibration: Calibration) -> float:
            return float(((probabilities(outputs, calibration, BINARY)[:, 1] - truth) ** 2).mean())

        reached = [brier(fit_calibration(*draw(count), BINARY)) for _ in range(30)]
        assert np.mean(reached) < 0.16 < 0.2 < brier(Calibration())

    def test_labels_without_outputs_give_the_frequencies_of_the_classes(self) -> None:
        found = fit_calibration(np.zeros((6, 3)), np.array([0, 0, 0, 0, 1, 1]), SEVERAL)
        assert found.temperature == pytest.approx(1, rel=1e-3)
        shares = probabilities(np.zeros((1, 3)), found, SEVERAL)[0]
        assert shares == pytest.approx(np.array([4.5, 2.5, 0.5]) / 7.5, abs=0.05)

    def test_two_images_hardly_move_the_calibration(self) -> None:
        found = fit_calibration(np.array([[3.0], [-4.0]]), np.array([0, 1]), BINARY)
        assert found.temperature < 4
        assert abs(found.intercept[0]) < 0.5

    def test_a_perfect_classifier_is_not_made_endlessly_sure(self) -> None:
        labels = np.array([0, 1] * 10)
        outputs = np.where(labels == 1, 0.1, -0.1)[:, None]
        assert fit_calibration(outputs, labels, BINARY).temperature == pytest.approx(0.25)

    def test_a_regression_has_none(self) -> None:
        assert fit_calibration(np.ones((3, 1)), np.ones(3), NUMBER) == Calibration(1.0, (0.0,))
        assert probabilities(np.ones((3, 1)), Calibration(), NUMBER).shape == (3, 0)

    def test_probabilities_by_hand(self) -> None:
        two = probabilities(np.array([[4.0]]), Calibration(2.0, (-1.0,)), BINARY)
        np.testing.assert_allclose(two, [[1 / (1 + np.e), np.e / (1 + np.e)]])
        outputs, intercepts = 2 * np.log([[1.0, 2.0, 5.0]]), (0.0, 0.0, np.log(2.0))
        three = probabilities(outputs, Calibration(2.0, intercepts), SEVERAL)
        np.testing.assert_allclose(three, [[1 / 13, 2 / 13, 10 / 13]])

    def test_gaps_of_several_contrasts(self) -> None:
        outputs = np.array([[5.0, 0, 0], [7, 0, 0], [0, 3, 0], [0, 3, 0], [0, 0, 1], [0, 0, 1]])
        labels = np.array([0, 0, 1, 1, 2, 2])
        # large-middle: 3 - (-6); large-small: 1 - (-6); middle-small: 1 - (-3).
        assert class_gaps(outputs, labels, SEVERAL) == [9, 7, 4]

    def test_one_image_that_is_far_off_does_not_make_the_gap(self) -> None:
        outputs = np.array([[-1.0], [-2.0], [-9.0], [1.0], [2.0], [3.0], [4.0], [10.0]])
        assert class_gaps(outputs, np.array([0] * 3 + [1] * 5), BINARY) == [5.0]

    def test_gaps_of_a_useless_classifier_and_of_a_missing_class(self) -> None:
        outputs = np.array([[2.0, 0, 0], [0, 0, 2.0]])
        # Standard deviations of the three scores: +-1, +-2 and +-1.
        expected = [SMALLEST_GAP * deviation for deviation in (1, 2, 1)]
        assert class_gaps(outputs, np.array([2, 0]), SEVERAL) == expected
        assert class_gaps(0 * outputs, np.array([2, 0]), SEVERAL) == [SMALLEST_GAP] * 3
        # The scale of a classifier brought along does not matter.
        assert class_gaps(1e-3 * outputs, np.array([2, 0]), SEVERAL)[0] < 1e-3
        assert class_gaps(np.ones((3, 1)), np.ones(3), NUMBER) == [1]


class TestSelection:
    def test_the_most_reproducible_of_the_valid_ones(self) -> None:
        rows = [
            Candidate(0.5, 0.70, 1.0),
            Candidate(1.0, 0.80, 0.91),
            Candidate(2.0, 0.95, 0.89),
        ]
        assert most_reproducible(rows) == 1.0
        # Nobody reaches it: the best of them counts, not an absolute.
        assert most_reproducible([replace(row, validity=0.5 * row.validity) for row in rows]) == 1.0
        assert most_reproducible([replace(row, validity=0.0) for row in rows]) == 2.0

    def test_halves_keep_families_and_classes(self) -> None:
        cohort = binary_cohort(64)
        labels = (cohort.families % 2).astype(int)
        cohort = replace(cohort, labels=labels)
        train = np.arange(4, 60)
        one, two = split_halves(cohort, train, seed=3)
        assert sorted([*one, *two]) == train.tolist()
        assert not set(cohort.families[one]) & set(cohort.families[two])
        assert labels[one].mean() == labels[two].mean() == 0.5
        again = split_halves(cohort, train, seed=4)[0]
        assert not np.array_equal(np.sort(one), np.sort(again))

    def test_halves_of_a_regression(self) -> None:
        cohort = regression_cohort()
        one, two = split_halves(cohort, np.arange(40), seed=0)
        assert len(one) == len(two) == 20
        assert not set(cohort.families[one]) & set(cohort.families[two])
        assert torch.is_tensor(cohort.images[one])


def test_every_step_draws_anew_and_a_repeated_step_the_same() -> None:
    def drawn(*parts: object) -> tuple[float, float, float]:
        rng, generator = step_generators(*parts)
        return float(rng.random()), float(torch.rand(1, generator=generator)), float(torch.rand(1))

    steps = [drawn(1, 'template', step) for step in (0, 1, 1)]
    assert steps[1] == steps[2]
    others = [drawn(2, 'template', 1), drawn(1, 'residual', 1), steps[0]]
    for one, two in zip(steps[1], np.transpose(others), strict=True):
        assert one not in two
