"""A process that is killed for good, three times, and the result that comes in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_interp.training.loop.engine import LAST
from helpers.fold_process import train

pytestmark = pytest.mark.slow

#: Task, stage and step, and the step of the checkpoint that is then left of it.
MOMENTS = [
    ('ClassifierTask', '', 19, 16),
    ('SimulatorTask', 'template', 13, 8),
    ('SimulatorTask', 'residual', 25, 24),
]


def killed(directory: Path, task: str, stage: str, step: int) -> int:
    words = [sys.executable, '-m', 'helpers.fold_process', str(directory), task, stage, str(step)]
    environ = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environ, capture_output=True, timeout=300, check=False)
    return done.returncode


def newest_checkpoint(directory: Path) -> dict:
    newest = max(directory.rglob(LAST), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(newest, weights_only=True)


def test_killed_three_times_and_the_same_to_the_bit(tmp_path: Path) -> None:
    for task, stage, step, kept in MOMENTS:
        assert killed(tmp_path / 'killed', task, stage, step) == -signal.SIGKILL
        assert newest_checkpoint(tmp_path / 'killed')['global_step'] == kept
    assert not list((tmp_path / 'killed').rglob('*.partial'))
    resumed = train(tmp_path / 'killed')
    whole = train(tmp_path / 'whole')
    for part in ('classifier', 'simulator'):
        weights, others = getattr(resumed.trained, part), getattr(whole.trained, part)
        assert weights.keys() == others.keys()
        for name, value in weights.items():
            assert torch.equal(value, others[name]), name
    assert resumed.trained.metrics == whole.trained.metrics
    assert resumed.trained.temperature == whole.trained.temperature
    assert resumed.trained.intercept == whole.trained.intercept
    assert resumed.trained.class_gap == whole.trained.class_gap
    assert np.array_equal(resumed.test_outputs, whole.test_outputs)
    assert all(np.array_equal(value, whole.maps[n]) for n, value in resumed.maps.items())
    # There is something to be lost: the residual has moved.
    assert resumed.trained.simulator['residual.leave.weight'].abs().max() > 0
