"""Tests under a real SLURM. ``make test-slurm`` runs them; anywhere else they are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import slurm as cluster

#: Seconds until jobs of these tests must have ended.
PATIENCE = 1800
#: States of a job that has not ended yet.
MOVING = {'PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING', 'SUSPENDED', 'REQUEUED'}


@dataclass(frozen=True)
class Slurm:
    """A SLURM that accepts jobs."""

    environ: dict[str, str]

    def call(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the environment of SLURM, `more` added to it."""
        environ = {**os.environ, **self.environ, **more}
        command = [*map(str, words)]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    def wait(self, jobs: Sequence[str]) -> None:
        """Wait until all jobs have ended, whether well or not."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            states = [state for job in jobs for state, _ in self.states(job)]
            if states and not set(states) & MOVING:
                return
            time.sleep(1)
        raise AssertionError(self.call('squeue').stdout)

    def states(self, job: str) -> list[tuple[str, str]]:
        """State and exit code of a job, or of every task of an array."""
        shown = self.call('scontrol', 'show', 'job', '--oneliner', job).stdout
        found = []
        for line in shown.splitlines():
            fields = dict(word.split('=', 1) for word in line.split() if '=' in word)
            found.append((fields['JobState'], fields['ExitCode']))
        return found


@pytest.fixture(scope='session')
def slurm() -> Iterator[Slurm]:
    """The SLURM of ``make test-slurm``, or one of our own."""
    if os.environ.get('BIDS_INTERP_SLURM') != '1':
        pytest.skip('no SLURM to test: `make test-slurm` starts one and runs these tests')
    if os.environ.get('SLURM_CONF'):
        yield Slurm({})
        return
    folder = Path('/tmp') / f'slurm-{uuid.uuid4().hex[:8]}'
    try:
        yield Slurm(cluster.start(folder))
    finally:
        cluster.stop(folder)


@pytest.fixture(scope='session')
def program() -> Path:
    """The tools' command of this environment."""
    return Path(sys.executable).with_name('bids_interp_tools')


@pytest.fixture
def site() -> Iterator[Path]:
    """A folder that every user and every node sees."""
    folder = Path('/tmp') / f'bids_interp-{uuid.uuid4().hex[:8]}'
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    subprocess.run(['rm', '-rf', str(folder)])
