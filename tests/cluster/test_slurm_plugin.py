"""``--use-plugin``: each step of a run as a job of a real SLURM."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

QUICK = {'poll_seconds': 1, 'job_finished_timeout': 5, 'retry_timeout': 0}


@pytest.fixture(scope='module')
def bids(slurm, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stripped made-up brain."""
    folder = tmp_path_factory.mktemp('data') / 'bids'
    made = slurm.call(program, 'phantom', folder, '--n', '1', '--stripped', '--spacing', '3')
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def run(slurm, bids: Path, site: Path, tiny_bundle):
    """Run the participant level with a plugin; work and output stay between calls."""

    def call(plugin: str, **arguments) -> subprocess.CompletedProcess[str]:
        file = site / 'plugin.yml'
        file.write_text(yaml.safe_dump({'plugin': plugin, 'plugin_args': {**QUICK, **arguments}}))
        program = Path(sys.executable).with_name('bids_interp')
        return slurm.call(
            *(program, bids, site / 'out', 'participant', '--model', tiny_bundle.path),
            *('--work-dir', site / 'work', '--use-plugin', file, '--offline'),
            *('--nprocs', '2', '--omp-nthreads', '1', '--doses', '1'),
            LOGNAME='',
        )

    return call


def _jobs(slurm) -> int:
    """The number of the last job that SLURM knows."""
    shown = slurm.call('scontrol', 'show', 'job', '--oneliner').stdout
    return max((int(line.split()[0].partition('=')[2]) for line in shown.splitlines()
                if line.startswith('JobId=')), default=0)  # fmt: skip


@pytest.mark.parametrize('plugin', ['SLURM', 'SLURMGraph'])
def test_every_step_is_a_job(slurm, run, site: Path, plugin: str) -> None:
    before = _jobs(slurm)
    done = run(plugin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'The image is done.' in done.stdout
    assert (site / 'out' / 'sub-01.html').is_file()
    assert list((site / 'out').rglob('*_desc-inject100_logjacobian.nii.gz'))
    jobs = _jobs(slurm) - before
    assert jobs >= 8
    shown = slurm.call('scontrol', 'show', 'job', '--oneliner').stdout
    # realise_native asks for 2.5 GB = 2385 MiB.
    assert 'MinMemoryNode=2385M' in shown
    again = run(plugin)
    assert again.returncode == 0, again.stdout + again.stderr
    # Only what is always looked at again: three sinks of files, figures and the report.
    assert _jobs(slurm) - before - jobs <= 5


@pytest.mark.parametrize(
    ('plugin', 'options', 'said'),
    [
        ('SLURM', '--partition=nope', 'invalid partition'),
        ('SLURMGraph', '--mem=900G', 'not available'),
    ],
)
def test_a_refusal_is_told(run, plugin: str, options: str, said: str) -> None:
    done = run(plugin, sbatch_args=options)
    assert done.returncode == 1
    assert 'SLURM refused the job of' in done.stdout
    assert said in done.stdout
    assert '--use-plugin' in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr


@pytest.mark.parametrize('plugin', ['SLURM', 'SLURMGraph'])
def test_a_cancelled_job_is_told(slurm, run, plugin: str) -> None:
    before, ended = _jobs(slurm), threading.Event()

    def queued(*options: str) -> list[str]:
        shown = slurm.call('squeue', '-h', '-o', '%A', *options).stdout.split()
        return [job for job in shown if int(job) > before]

    def cancel() -> None:
        while not ended.is_set():
            running = queued('-t', 'R')
            if running:
                slurm.call('scancel', '--signal=KILL', '--full', running[0])
                slurm.call('scancel', running[0])
                return
            time.sleep(0.2)

    thread = threading.Thread(target=cancel)
    thread.start()
    done = run(plugin)
    ended.set()
    thread.join()
    assert done.returncode == 1, done.stdout
    assert 'ended without a result' in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr
    assert queued() == []
