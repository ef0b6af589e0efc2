"""The published training: its steps, batches, images and optimisers, and when it is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.errors import UsageError
from bids_interp.models.bundle.fold_metrics import GateMetrics
from bids_interp.models.bundle.reader import load_bundle
from bids_interp.models.bundle.schema import (
    ClassifierConfig,
    ModelFacts,
    SimulatorConfig,
    TrainingFacts,
)
from bids_interp.models.explain.explainer import simulate
from bids_interp.models.networks.ipmi2021 import PaperNetwork, PaperSimulator
from bids_interp.reports.training.training_outputs import FinishedTraining, write_model
from bids_interp.spatial import Grid
from bids_interp.training.assemble import assemble
from bids_interp.training.classifier import ClassifierRecipe
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult, FoldWorkspace, train_fold
from bids_interp.training.ipmi2021 import (
    PaperRecipe,
    PaperSimulatorTask,
    Turn,
    plan_turns,
)
from bids_interp.training.ipmi2021_gate import recognised_images
from bids_interp.training.loop.engine import LAST, run_task
from bids_interp.training.recipe import TrainingRecipe
from helpers.balls import (
    GRID,
    RECIPE,
    binary_cohort,
    folds_of,
    regression_cohort,
    several_cohort,
)

TINY = PaperRecipe(steps=6, batch=4)
SEED = 3


class TestTurns:
    """Order of the steps, as in the published code, whose iterations count from 0."""

    def test_an_iteration_has_eight_steps(self) -> None:
        """Remove, then inject; a sequential, then a random batch; cycle, then hinge."""
        turns = [turn for turn in plan_turns(50, SEED) if turn.iteration == 12]
        whole = [
            Turn(12, sign, is_random, is_cycle)
            for sign in (-1.0, 1.0)
            for is_random in (False, True)
            for is_cycle in (True, False)
        ]
        assert turns in (whole, whole[:-1])
        assert [turn.optimizer for turn in whole] == [2, 0, 2, 0, 3, 1, 3, 1]

    def test_the_cycle_begins_with_the_fifth_iteration(self) -> None:
        first = [turn.iteration for turn in plan_turns(6, SEED) if turn.is_cycle]
        assert Counter(first) == {4: 4, 5: 4}

    def test_the_last_hinge_is_taken_in_seven_of_ten_iterations(self) -> None:
        counts = Counter(plan_turns(2000, SEED))
        last = sum(Turn(n, 1.0, True, False) in counts for n in range(2000))
        assert last / 2000 == pytest.approx(0.7, abs=0.03)
        for sign, is_random in ((-1.0, False), (-1.0, True), (1.0, False)):
            assert all(counts[Turn(n, sign, is_random, False)] == 1 for n in range(2000))

    def test_a_longer_training_begins_like_a_shorter_one(self) -> None:
        short = plan_turns(20, SEED)
        assert plan_turns(40, SEED)[: len(short)] == short
        assert plan_turns(20, SEED + 1) != short


def task_of(cohort: Cohort, recipe: PaperRecipe = TINY, seed: int = SEED) -> PaperSimulatorTask:
    sides = {1.0: np.flatnonzero(cohort.labels == 0), -1.0: np.flatnonzero(cohort.labels == 1)}
    torch.manual_seed(seed)
    return PaperSimulatorTask(cohort, sides, Masses(), PaperNetwork(cohort.grid), recipe, seed)


class Masses(nn.Module):
    """Logit of a ball or a disc: smaller ones are patients. With weights, as trainings expect."""

    def __init__(self, middle: float = 560.0, scale: float = 0.05) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.tensor(middle), requires_grad=False)
        self.scale = scale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scale * (self.middle - image.sum(dim=(1, 2, 3, 4)))[:, None]


class TestBatches:
    @pytest.fixture
    def task(self) -> PaperSimulatorTask:
        return task_of(binary_cohort(), replace(TINY, batch=5))

    @pytest.mark.parametrize('sign', [1.0, -1.0])
    def test_sequential_batches_walk_through_all_images(self, task, sign: float) -> None:
        """16 images, five a time; the order is shuffled, and the same in each round."""
        walk = np.concatenate([task._chosen(Turn(n, sign, False, False)) for n in range(16)])
        own = task.sides[sign]
        assert sorted(walk[:16]) == own.tolist() != walk[:16].tolist()
        np.testing.assert_array_equal(walk, np.tile(walk[:16], 5))

    def test_random_batches_are_drawn_anew_without_repeats(self, task) -> None:
        drawn = [task._chosen(Turn(n, 1.0, True, False)).tolist() for n in range(30)]
        assert len({tuple(sorted(batch)) for batch in drawn}) > 25
        assert all(len(set(batch)) == 5 for batch in drawn)
        assert set(np.concatenate(drawn)) == set(task.sides[1.0])

    @pytest.mark.parametrize('is_random', [False, True])
    def test_cycle_and_hinge_see_the_same_images(self, task, is_random: bool) -> None:
        one, two = (task._chosen(Turn(3, 1.0, is_random, cycle)) for cycle in (True, False))
        np.testing.assert_array_equal(one, two)

    def test_few_images_fill_a_batch(self, task) -> None:
        task.sides = {1.0: np.array([7, 9])}
        for is_random in (False, True):
            chosen = task._chosen(Turn(1, 1.0, is_random, False))
            assert len(chosen) == 5
            assert set(chosen) == {7, 9}


class TestImages:
    def test_the_prediction_decides_the_direction(self) -> None:
        """Images that the classifier gets wrong are not used."""
        cohort = binary_cohort(8)
        scores = np.array([-2.0, 3.0, 1.0, -1.0, -0.5, 0.5, -4.0, 2.0])[:, None]
        sides = recognised_images(cohort, np.arange(1, 8), scores[1:], 0)
        # Image 0 is not asked for; 2 and 3 are on the wrong side.
        assert sides[1.0].tolist() == [4, 6]
        assert sides[-1.0].tolist() == [1, 5, 7]

    def test_a_contrast_has_the_images_of_its_classes(self) -> None:
        cohort = several_cohort(9)
        outputs = np.eye(3)[cohort.labels]
        outputs[1] = [0, 1, 4]  # A middle one, taken for a small one.
        found = [recognised_images(cohort, np.arange(9), outputs, n) for n in range(3)]
        assert [(side[1.0].tolist(), side[-1.0].tolist()) for side in found] == [
            ([0, 3, 6], [1, 4, 7]),
            ([0, 3, 6], [2, 5, 8]),
            ([4, 7], [2, 5, 8]),
        ]


class TestOptimisers:
    def test_they_are_four_with_the_published_numbers(self) -> None:
        optimizer = task_of(binary_cohort()).configure_optimizers()
        groups = [adam.param_groups[0] for adam in optimizer.adams]
        assert [group['lr'] for group in groups] == [2e-4, 2e-4, 1e-4, 1e-4]
        assert {group['weight_decay'] for group in groups} == {1e-4}
        assert {type(adam) for adam in optimizer.adams} == {torch.optim.Adam}
        weights = [list(map(id, group['params'])) for group in groups]
        assert all(own == weights[0] for own in weights)

    def test_steps_follow_the_plan(self, tmp_path: Path) -> None:
        """A checkpoint counts the steps of each Adam."""
        task = task_of(binary_cohort())
        run_task(task, tmp_path)
        wanted = Counter(turn.optimizer for turn in plan_turns(TINY.steps, SEED))
        assert task.global_step == sum(wanted.values())
        (state,) = torch.load(tmp_path / LAST, weights_only=True)['optimizer_states']
        steps = [float(adam['state'][0]['step']) for adam in state['adams']]
        assert steps == [wanted[number] for number in range(4)]

    def test_a_killed_training_goes_on_to_the_same_weights(self, tmp_path: Path) -> None:
        """From a checkpoint within an iteration, behind steps of all four Adams."""

        class Killed(Exception):
            pass

        class Doomed(PaperSimulatorTask):
            def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
                if self.global_step == 23:
                    raise Killed
                return super().training_step(batch, batch_index)

        cohort = binary_cohort()
        whole = task_of(cohort)
        run_task(whole, tmp_path / 'whole', checkpoint_every=5)
        doomed = task_of(cohort)
        doomed.__class__ = Doomed
        with pytest.raises(Killed):
            run_task(doomed, tmp_path / 'killed', checkpoint_every=5)
        # The weights come from the checkpoint, wherever the new task starts.
        again = task_of(cohort)
        nn.init.zeros_(again.simulator.enter.kernels)
        run_task(again, tmp_path / 'killed', checkpoint_every=5)
        for name, value in whole.simulator.state_dict().items():
            assert torch.equal(value, again.simulator.state_dict()[name]), name


def trained(
    cohort: Cohort, folder: Path, recipe: PaperRecipe, external: nn.Module | None = None, **given
) -> FoldResult:
    whole = replace(RECIPE, simulator=recipe)
    return train_fold(
        cohort,
        folds_of(cohort)[0],
        0,
        whole,
        FoldWorkspace(folder, **given),
        seed=SEED,
        external=external,
    )


class Sizes(nn.Module):
    """Logits of three sizes; ``vague`` ones do not know the last two apart."""

    def __init__(self, vague: bool = False) -> None:
        super().__init__()
        self.masses = nn.Parameter(torch.tensor([470.0, 190.0, 50.0]), requires_grad=False)
        self.vague = vague

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        away = (image.sum(dim=(1, 2, 3, 4))[:, None] - self.masses).abs()
        if self.vague:
            nearest = away[:, 1:].amin(dim=1)
            away = torch.stack([away[:, 0], nearest, nearest + 0.1], dim=1)
        return -0.05 * away


class TestGate:
    def test_a_good_classifier_is_explained(self, tmp_path: Path) -> None:
        cohort = binary_cohort()
        result = trained(cohort, tmp_path, TINY, Masses(middle=180.0))
        measured = result.trained.metrics.simulator
        train = folds_of(cohort)[0].train
        counts = {
            name: int((cohort.labels[train] == number).sum())
            for number, name in enumerate(cohort.target.classes)
        }
        assert measured.gates == [GateMetrics('control-patient', 1.0, 0.85, counts)]
        assert len(measured.validity) == 1
        assert all(np.abs(value).max() > 0 for value in result.maps.values())

    @pytest.mark.parametrize(
        ('least', 'middle', 'word'), [(1.01, 180.0, '1.01'), (0.85, 1e4, 'control')]
    )
    def test_a_bad_classifier_is_not(
        self, tmp_path: Path, least: float, middle: float, word: str
    ) -> None:
        """An AUC that is too small, or a class that it never predicts, which is named."""
        lines: list[str] = []
        result = trained(
            binary_cohort(),
            tmp_path,
            replace(TINY, least_auc=least),
            Masses(middle=middle),
            report=lines.append,
        )
        measured = result.trained.metrics.simulator
        assert word in measured.gates[0].reason
        assert [word in line for line in lines] == [True]
        assert not list(tmp_path.rglob(LAST))
        assert not measured.explains('control-patient')
        assert measured.validity == []
        assert not any(value.any() for value in result.maps.values())
        # The rest of the fold is as ever.
        assert len(result.test_outputs) == len(folds_of(binary_cohort())[0].test)

    def test_each_contrast_has_its_own(self, tmp_path: Path) -> None:
        """Middle and small cannot be told apart: only this contrast is left out."""
        cohort = several_cohort()
        result = trained(cohort, tmp_path, TINY, Sizes(vague=True))
        measured = result.trained.metrics.simulator
        names = [contrast.name for contrast in cohort.target.contrasts]
        assert [measured.explains(name) for name in names] == [True, True, False]
        assert [row.contrast for row in measured.validity] == names[:2]
        simulator = PaperSimulator(GRID, cohort.mask, 3)
        simulator.load_state_dict(result.trained.simulator)
        simulator.eval()
        with torch.no_grad():
            fields = [simulator(cohort.images[:1], torch.ones(1), n) for n in range(3)]
        assert [bool(field.any()) for field in fields] == [True, True, False]
        assert not torch.equal(fields[0], fields[1])

    def test_most_folds_decide_for_the_model(self, tmp_path: Path) -> None:
        """One of two is enough, none is not; maps come from those that were trained."""
        cohort, folds = binary_cohort(), folds_of(binary_cohort())
        good, bad = (
            trained(cohort, tmp_path / name, replace(TINY, least_auc=least), Masses(180.0))
            for name, least in (('good', 0.85), ('bad', 1.01))
        )
        # The test outputs of the other fold are not those of its own images, but as many.
        for results, wanted in (((good, bad), True), ((bad, bad), False)):
            made = assemble(cohort, folds, results, covariates={}, site=None, seed=0)
            gate = made.metrics['simulator']['gate']
            assert gate['count'] == 2
            assert gate['trained'] == (1 if wanted else 0)
            assert (made.metrics['simulator']['validity'] is None) is not wanted
            assert made.metrics['simulator']['fold_ncc'] == {'inject': None, 'remove': None}
            if wanted:
                np.testing.assert_array_equal(made.maps['inject'], good.maps['inject'])
            else:
                assert made.metrics['explanation_warranted'] is False
                assert '0.85' in made.metrics['verdict'] or '1.01' in made.metrics['verdict']

    def test_a_number_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match='--positive .*--classes'):
            trained(regression_cohort(), tmp_path, TINY, Masses())


def test_equal_seeds_give_equal_simulators(tmp_path: Path) -> None:
    """Whatever was drawn before."""
    results = []
    for number in range(2):
        torch.manual_seed(number)
        recipe = replace(TINY, steps=1)
        results.append(trained(binary_cohort(), tmp_path / str(number), recipe, Masses(180.0)))
    one, two = (result.trained.simulator for result in results)
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def discs(count: int = 32) -> Cohort:
    """Images of one slice; discs are smaller in patients."""
    whole = binary_cohort(count)
    grid = Grid((32, 32, 1), np.diag([2.0, 2.0, 2.0, 1.0]), 'plane')
    away = torch.from_numpy(grid.world_coordinates() - 31.0)[:2].norm(dim=0)
    rng = np.random.default_rng(0)
    radii = np.where(whole.labels == 1, 13.0, 20.0) + rng.normal(0, 1, count)
    images = torch.stack([torch.sigmoid((float(r) - away) / 2)[None] for r in radii])
    return replace(whole, images=images.float(), grid=grid, mask=np.ones(grid.shape, bool))


def test_a_model_of_images_of_two_dimensions(tmp_path: Path) -> None:
    """From the training of both published networks to the model on disk; one fold is explained."""
    cohort = discs()
    folds: list[Fold] = folds_of(cohort)
    recipe = TrainingRecipe(
        n_folds=2,
        classifier=ClassifierRecipe(
            architecture='ipmi2021',
            steps=40,
            batch=8,
            optimizer='adam',
            schedule='constant',
            learning_rate=2e-3,
            gradient_penalty=0.0,
            label_smoothing=0.0,
            validate_every=10,
            augmentation=None,
        ),
        simulator=replace(TINY, batch=8, hinge_rate=2e-3),
    )
    # The classifier of the second fold is not good enough.
    recipes = (recipe, replace(recipe, simulator=replace(recipe.simulator, least_auc=1.01)))
    results = [
        train_fold(cohort, fold, n, own, FoldWorkspace(tmp_path / f'work/fold-{n}'), seed=SEED)
        for n, (fold, own) in enumerate(zip(folds, recipes, strict=True))
    ]
    names = [str(number) for number in range(len(cohort))]
    table = {'covariates': {}, 'site': None, 'subjects': names, 'families': names}
    facts = ModelFacts(
        'discs',
        ClassifierConfig('ipmi2021'),
        SimulatorConfig(capacity='ipmi2021'),
        TrainingFacts(preset='ipmi2021'),
    )
    saved, report = write_model(
        FinishedTraining(cohort, folds, results, table, 0),
        facts,
        bundle=str(tmp_path / 'bundle'),
        report_dir=tmp_path / 'report',
        checkpoints=tmp_path / 'work',
    )
    bundle = load_bundle(saved)
    assert bundle.config.metrics['auc']['value'] > 0.9
    assert bundle.config.metrics['simulator']['gate']['trained'] == 1
    assert bundle.config.metrics['simulator']['effectiveness'] > 0
    assert bundle.warranted
    assert bundle.membership(bundle.mean_image, 'unknown', 'data', 'x').folds == (0,)
    reason = results[1].trained.metrics.simulator.gates[0].reason
    assert reason in report.read_text()
    assert reason in (saved / 'README.md').read_text()
    moved = simulate(bundle, cohort.images[:1], (0,)).velocity['inject']
    assert moved.shape == (3, 32, 32, 1)
    assert np.abs(moved[:2]).max() > 1e-3
    assert not moved[2].any()
