"""Train a fold of balls in a process of its own, which may be told to die on the way.

Usage: ``python fold_in_a_process.py DIRECTORY TASK STAGE STEP``.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from bids_interp.training import fit
from bids_interp.training.engine import run_task

SEED, EVERY = 5, 8


def balls() -> Any:
    """The module beside this one."""
    spec = spec_from_file_location('balls', Path(__file__).with_name('balls.py'))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(directory: Path) -> fit.FoldResult:
    """Train a fold with all stages; checkpoints are frequent."""
    made = balls()
    cohort = made.binary_cohort()
    fit.run_task = partial(run_task, checkpoint_every=EVERY)
    try:
        return fit.train_fold(
            cohort, made.folds_of(cohort)[0], 0, made.SHORT, fit.Place(directory), seed=SEED
        )
    finally:
        fit.run_task = run_task


def die_at(task_name: str, stage: str, step: int) -> None:
    """Let a task kill its process, without any chance to tidy up, when it comes to a step."""
    task = getattr(fit, task_name)
    original = task.training_step

    def training_step(self: Any, batch: Any, batch_index: int) -> Any:
        if self.global_step == step and getattr(self, 'stage', '') == stage:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, batch_index)

    task.training_step = training_step


if __name__ == '__main__':
    die_at(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    train(Path(sys.argv[1]))
