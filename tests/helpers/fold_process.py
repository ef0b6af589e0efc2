"""Train a fold of balls in a process of its own, which may be told to die on the way.

Usage: ``python -m helpers.fold_process DIRECTORY TASK STAGE STEP``.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bids_interp.training import fold as fit
from bids_interp.training.loop.engine import run_task
from helpers.balls import SHORT, binary_cohort, folds_of

SEED, EVERY = 5, 8


def train(directory: Path) -> fit.FoldResult:
    """Train a fold with all stages; checkpoints are frequent."""
    cohort = binary_cohort()
    fit.run_task = partial(run_task, checkpoint_every=EVERY)
    try:
        return fit.train_fold(
            cohort, folds_of(cohort)[0], 0, SHORT, fit.FoldWorkspace(directory), seed=SEED
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
