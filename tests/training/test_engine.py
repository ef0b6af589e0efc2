"""What can go wrong in a training loop: lost files, too little memory, numbers that are none."""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from bids_interp.errors import TrainingError
from bids_interp.reports.training.learning_curves import read_curves
from bids_interp.training.classifier import ClassifierTask
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.ipmi2021 import PaperSimulatorTask
from bids_interp.training.loop import checkpoints, engine
from bids_interp.training.loop import fold_progress as progress
from bids_interp.training.loop.checkpoints import (
    AtomicCheckpointIO,
    checkpoint_before,
    usable_checkpoint,
)
from bids_interp.training.loop.engine import (
    CURVE,
    LAST,
    IndivisibleError,
    StepTask,
    keep_curve,
    run_task,
)
from bids_interp.training.loop.fold_progress import ProgressLines
from helpers.balls import CLASSIFIER, binary_cohort, folds_of

STEPS = 24
# A batch of 6 without layers that mix its images, so that any share of it computes the same.
RECIPE = replace(CLASSIFIER, steps=STEPS, batch=6, validate_every=8)
# Only the last state is validated, so that it is the best one and would be missed.
AT_THE_END = replace(RECIPE, validate_every=1000)
SEED = 1
NUMBER = re.compile(r'\d+(?:\.\d+)?')


@pytest.fixture(scope='module')
def cohort() -> Cohort:
    return binary_cohort()


@pytest.fixture(scope='module')
def fold(cohort: Cohort) -> Fold:
    return folds_of(cohort)[0]


@pytest.fixture(scope='module')
def whole(cohort: Cohort, fold: Fold, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights after an uninterrupted training in one pass."""
    task = ClassifierTask(cohort, fold, RECIPE, SEED)
    run_task(task, tmp_path_factory.mktemp('whole'))
    return task.network.state_dict()


class Crowded(ClassifierTask):
    """Runs out of GPU memory at some step as long as more than ``fits`` images are in a pass."""

    at, fits, refused = 0, 3, 0

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        part = self.part(self.recipe.batch, batch_index)
        images = len(range(*part.indices(self.recipe.batch)))
        if self.global_step >= self.at and images > self.fits:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return super().training_step(batch, batch_index)


def crowded(cohort: Cohort, fold: Fold, at: int, fits: int = 3) -> Crowded:
    task = Crowded(cohort, fold, RECIPE, SEED)
    task.at, task.fits = at, fits
    return task


def assert_same(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    for name, value in weights.items():
        # What a normalisation takes away at once has no gradient, and Adam moves it by rounding.
        if not (name.startswith('features') and name.endswith(('0.bias', '3.bias'))):
            torch.testing.assert_close(value, others[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize(
    ('at', 'every'), [(0, 50), (10, 50), (11, 5), (15, 7)], ids=lambda value: str(value)
)
def test_out_of_memory_doubles_the_passes_and_changes_nothing_else(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path, caplog, at: int, every: int
) -> None:
    """At once; before the first checkpoint; behind checkpoints at odd steps."""
    task = crowded(cohort, fold, at)
    with caplog.at_level(logging.WARNING, 'bids_interp'):
        run_task(task, tmp_path, checkpoint_every=every, name='fold 1')
    assert task.refused == 1
    assert task.global_step == STEPS
    assert [record.args for record in caplog.records] == [('fold 1', 2)]
    assert_same(task.network.state_dict(), whole)


def test_passes_that_do_not_divide_the_batch_are_skipped(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path
) -> None:
    """6 images: 2 passes, then 3 are not tried but 4 and 5, which cannot be, and then 6."""
    task = crowded(cohort, fold, at=9, fits=1)
    run_task(task, tmp_path, checkpoint_every=4)
    assert_same(task.network.state_dict(), whole)


def test_one_image_at_a_time_is_too_much(cohort: Cohort, fold: Fold, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='GPU') as caught:
        run_task(crowded(cohort, fold, at=0, fits=0), tmp_path)
    assert '--resolution' in (caught.value.advice or '')


def test_a_killed_training_in_passes_goes_on(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path
) -> None:
    """Restarted in one pass, it meets the small memory again and must not lose its place."""

    class Killed(Exception):
        pass

    class Doomed(Crowded):
        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            if self.global_step == 17:
                raise Killed
            return super().training_step(batch, batch_index)

    with pytest.raises(Killed):
        run_task(Doomed(cohort, fold, RECIPE, SEED), tmp_path, checkpoint_every=5)
    again = crowded(cohort, fold, at=0)
    run_task(again, tmp_path, checkpoint_every=5)
    assert again.global_step == STEPS
    assert_same(again.network.state_dict(), whole)


def test_a_batch_that_devices_cannot_share(cohort: Cohort, fold: Fold) -> None:
    class Trainer:
        accumulate_grad_batches, world_size = 1, 4

    task = ClassifierTask(cohort, fold, RECIPE, SEED)
    task.trainer = Trainer()
    with pytest.raises(IndivisibleError, match=r'\b6 .*\b4 devices'):
        task.part(6, 0)


def test_parts_are_the_whole_batch(cohort: Cohort, fold: Fold) -> None:
    class Trainer:
        accumulate_grad_batches, world_size = 2, 2

    seen = []
    for rank in range(2):
        for index in range(2):
            task = ClassifierTask(cohort, fold, RECIPE, SEED)
            task.trainer = Trainer()
            task._trainer.global_rank = rank
            seen += list(range(8))[task.part(8, index)]
    assert sorted(seen) == list(range(8))


def test_a_write_that_dies_half_way_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({'step': torch.tensor(1)}, path)

    def dies(checkpoint: Any, partial: Any, options: Any = None) -> None:
        Path(partial).write_bytes(b'half')
        raise OSError('ENOSPC')

    monkeypatch.setattr(
        checkpoints.TorchCheckpointIO, 'save_checkpoint', lambda self, *given: dies(*given)
    )
    with pytest.raises(OSError, match='ENOSPC'):
        writer.save_checkpoint({'step': torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True)['step'] == 1
    assert [file.name for file in tmp_path.iterdir()] == [LAST]


def test_a_checkpoint_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / LAST
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint({'step': torch.tensor(step)}, path)
    assert torch.load(path, weights_only=True)['step'] == 2
    before = checkpoint_before(path)
    assert torch.load(before, weights_only=True)['step'] == 1
    assert sorted(tmp_path.iterdir()) == sorted([path, before])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b'')


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def other(path: Path) -> None:
    torch.save({'no': 'state'}, path)


@pytest.mark.parametrize('damage', [cut, empty, flip, other])
@pytest.mark.parametrize(('n_damaged', 'resumed'), [(1, 15), (2, 0)])
def test_a_training_survives_damaged_checkpoints(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path, damage, n_damaged: int, resumed: int, caplog
) -> None:
    class Killed(Exception):
        pass

    class Doomed(ClassifierTask):
        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            if self.global_step == 22:
                raise Killed
            return super().training_step(batch, batch_index)

    class Noting(ClassifierTask):
        first = -1

        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            self.first = self.global_step if self.first < 0 else self.first
            return super().training_step(batch, batch_index)

    with pytest.raises(Killed):
        run_task(Doomed(cohort, fold, RECIPE, SEED), tmp_path, checkpoint_every=5)
    damaged = [tmp_path / LAST, checkpoint_before(tmp_path / LAST)][:n_damaged]
    for path in damaged:
        damage(path)
    again = Noting(cohort, fold, RECIPE, SEED)
    with caplog.at_level(logging.WARNING, 'bids_interp'):
        run_task(again, tmp_path, checkpoint_every=100)
    assert again.first == resumed
    assert [record.args[0] for record in caplog.records] == damaged
    assert_same(again.network.state_dict(), whole)


def test_a_resumed_training_keeps_its_curve(tmp_path: Path) -> None:
    """Lightning's logger deletes what a run before has logged."""
    rows = 'step,loss\n24,0.5\n'
    keep_curve(tmp_path, resumed=True)
    (tmp_path / CURVE).write_text(rows)
    keep_curve(tmp_path, resumed=True)
    (tmp_path / CURVE).write_text('step,loss\n49,0.25\n')
    assert [row['loss'] for row in read_curves(tmp_path)['.']] == [0.5, 0.25]
    keep_curve(tmp_path, resumed=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'metrics-0000.csv',
        'metrics-0001.csv',
    ]
    (tmp_path / CURVE).write_text(rows)
    keep_curve(tmp_path, resumed=False)
    assert not list(tmp_path.iterdir())


def test_a_finished_training_that_runs_again_keeps_its_curve(
    cohort: Cohort, fold: Fold, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=26)
    for _ in range(2):
        run_task(ClassifierTask(cohort, fold, recipe, SEED), tmp_path, checkpoint_every=5)
    (rows,) = read_curves(tmp_path).values()
    assert [row['step'] for row in rows] == [24]


def test_a_checkpoint_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a power cut a renamed file whose bytes were not written would be empty."""
    done = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)
        monkeypatch.setattr(
            checkpoints.os, name, lambda *given, n=name, real=real: (done.append(n), real(*given))
        )
    AtomicCheckpointIO().save_checkpoint({'step': torch.tensor(1)}, tmp_path / LAST)
    assert done == ['fsync', 'replace', 'fsync']


def test_the_last_good_checkpoint_survives_a_loss_that_is_no_number(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path
) -> None:
    class Breaks(ClassifierTask):
        def check_finite(self, loss: torch.Tensor) -> torch.Tensor:
            return super().check_finite(loss * float('nan') if self.global_step == 12 else loss)

    with pytest.raises(TrainingError, match='Breaks .*step 12') as caught:
        run_task(Breaks(cohort, fold, RECIPE, SEED), tmp_path, checkpoint_every=5)
    assert 'checkpoint' in caught.value.advice
    assert torch.load(tmp_path / LAST, weights_only=True)['global_step'] == 10
    again = ClassifierTask(cohort, fold, RECIPE, SEED)
    run_task(again, tmp_path)
    assert_same(again.network.state_dict(), whole)


@pytest.mark.parametrize('every', [8, 50])
def test_a_finished_training_is_not_repeated(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path, every: int
) -> None:
    """Neither its last steps nor, with a best state of its own, its last validation."""

    class Finished(ClassifierTask):
        def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
            raise AssertionError

    first = ClassifierTask(cohort, fold, AT_THE_END, SEED)
    run_task(first, tmp_path, checkpoint_every=every)
    assert all(torch.equal(value, whole[name]) for name, value in first.best_state.items())
    task = Finished(cohort, fold, AT_THE_END, SEED)
    run_task(task, tmp_path, checkpoint_every=every)
    assert_same(task.network.state_dict(), whole)
    assert task.best_loss == first.best_loss
    assert all(torch.equal(value, first.best_state[n]) for n, value in task.best_state.items())


def test_a_run_killed_before_its_last_validation_makes_up_for_it(
    cohort: Cohort, fold: Fold, whole, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    class Doomed(ClassifierTask):
        def finish(self) -> None:
            raise Killed

    with pytest.raises(Killed):
        run_task(Doomed(cohort, fold, AT_THE_END, SEED), tmp_path, checkpoint_every=8)
    again = ClassifierTask(cohort, fold, AT_THE_END, SEED)
    run_task(again, tmp_path, checkpoint_every=8)
    assert all(torch.equal(value, whole[name]) for name, value in again.best_state.items())


def test_progress_tells_step_loss_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        global_step, max_steps = 0, 100

    class Trainer:
        callback_metrics: ClassVar = {'loss': torch.tensor(0.25)}

    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    lines: list[str] = []
    told = ProgressLines('fold 1, classifier', lines.append)
    told.on_train_start(Trainer(), Task())
    for now[0], Task.global_step in ((30.0, 10), (61.0, 20), (90.0, 30), (122.0, 40)):
        told.on_train_batch_end(Trainer(), Task())
    assert {line.partition(':')[0] for line in lines} == {'fold 1, classifier'}
    # Step, steps, loss and minutes to go.
    numbers = [[float(n) for n in NUMBER.findall(line.partition(':')[2])] for line in lines]
    assert numbers == [[0, 100], [20, 100, 0.25, 4], [40, 100, 0.25, 3]]


def test_a_task_that_goes_on_says_so() -> None:
    class Task:
        global_step, max_steps = 50, 100

    lines: list[str] = []
    ProgressLines('fold 2', lines.append).on_train_start(None, Task())
    (line,) = lines
    assert line.startswith('fold 2: ')
    assert [int(n) for n in NUMBER.findall(line.partition(':')[2])] == [50, 100]


@pytest.mark.parametrize(
    ('size', 'task', 'wanted'),
    [(16, ClassifierTask, False), (24, ClassifierTask, True), (32, PaperSimulatorTask, False)],
)
def test_bfloat16_is_left_where_a_convolution_would_see_too_little(
    size: int, task: type, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, '_cpu_computes_bfloat16', lambda: True)
    made = task.__new__(task)
    StepTask.__init__(made)
    made.cohort = SimpleNamespace(grid=SimpleNamespace(shape=(64, size, 64)))
    assert made.mixed_precision()._enabled is wanted
    made.reduced = False
    assert made.mixed_precision()._enabled is False
    monkeypatch.setattr(engine, '_cpu_computes_bfloat16', lambda: False)
    made.reduced = True
    assert made.mixed_precision()._enabled is False


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='the name of an x86 instruction set')
def test_torch_reports_bfloat16_under_the_name_that_is_read() -> None:
    assert isinstance(torch.cpu.get_capabilities()['avx512_bf16'], bool)


@pytest.mark.parametrize('problem', [OSError(errno.ESTALE, 'Stale file handle'), MemoryError()])
def test_a_disk_that_is_away_damages_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    last = tmp_path / LAST
    for path in (last, checkpoint_before(last)):
        torch.save({'state_dict': {}}, path)

    def away(*_: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.zipfile, 'ZipFile', away)
        with pytest.raises(type(problem)):
            usable_checkpoint(last)
    assert usable_checkpoint(last) == last
    last.write_bytes(b'torn')
    assert usable_checkpoint(last) == checkpoint_before(last)
    assert last.with_suffix('.damaged').read_bytes() == b'torn'
