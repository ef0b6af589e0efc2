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

JOBS = {'interface': 'lo', 'cores': 1, 'memory': '4GB', 'walltime': '00:20:00'}


# A workflow whose step takes long.
SMALL = """
import sys
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_interp.errors import WorkerLostError
from bids_interp.settings import Settings
from bids_interp.execution.run import Run, send_crashes
from bids_interp.execution.execute import configure_nipype, run_nodes


def take_long(path):
    import time
    from pathlib import Path

    Path(path).touch()
    time.sleep(600)


site = Path(sys.argv[1])
(site / 'work').mkdir()
settings = Settings(site / 'bids', site / 'out', use_plugin=site / 'plugin.yml')
run = Run(settings, site / 'work', 'cpu', 1, 1, 4.0, 'run')
configure_nipype(run)
workflow = pe.Workflow('small_wf', base_dir=str(site / 'work'))
step = pe.Node(niu.Function(function=take_long), name='step')
step.inputs.path = str(site / 'begun')
workflow.add_nodes([step])
send_crashes(workflow, site / 'crashes')
outcome = run_nodes(run, workflow, site / 'crashes')
lost = 'WorkerLostError' if WorkerLostError.default_advice in outcome.problem else ''
print(outcome.status, outcome.step, lost)
"""


@pytest.fixture(scope='module')
def bids(slurm, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One stripped made-up brain."""
    folder = tmp_path_factory.mktemp('data') / 'bids'
    made = slurm.call(program, 'phantom', folder, '--n', '1', '--stripped', '--spacing', '3')
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def run(slurm, bids: Path, site: Path, tiny_bundle):
    """Run the participant level on jobs of SLURM; work and output stay between calls."""

    def call(**changes) -> subprocess.CompletedProcess[str]:
        file = site / 'plugin.yml'
        arguments = {'n_workers': 2, 'slurm': {**JOBS, **changes}}
        file.write_text(yaml.safe_dump({'plugin': 'Dask', 'plugin_args': arguments}))
        program = Path(sys.executable).with_name('bids_interp')
        return slurm.call(
            *(program, bids, site / 'out', 'participant', '--model', tiny_bundle.path),
            *('--work-dir', site / 'work', '--use-plugin', file, '--offline'),
            *('--nprocs', '2', '--omp-nthreads', '1', '--doses', '1', '--fast'),
            LOGNAME='',
        )

    return call


def _jobs(slurm, known: frozenset[str] = frozenset()) -> list[dict[str, str]]:
    """Jobs that SLURM remembers, which are not all there were, without those of some ids."""
    shown = slurm.call('scontrol', 'show', 'job', '--oneliner').stdout
    lines = (line for line in shown.splitlines() if line.startswith('JobId='))
    jobs = [dict(word.split('=', 1) for word in line.split() if '=' in word) for line in lines]
    return [job for job in jobs if job['JobId'] not in known]


def _ids(slurm) -> frozenset[str]:
    return frozenset(job['JobId'] for job in _jobs(slurm))


def _ended(slurm, jobs: list[dict[str, str]]) -> list[str]:
    """States of jobs after all of them have ended."""
    slurm.wait([job['JobId'] for job in jobs])
    return [state for job in jobs for state, _ in slurm.states(job['JobId'])]


def test_steps_run_on_workers_in_jobs(slurm, run, site: Path) -> None:
    before = _ids(slurm)
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / 'out' / 'sub-01.html').is_file()
    assert list((site / 'out').rglob('*_desc-inject100_logjacobian.nii.gz'))
    jobs = _jobs(slurm, before)
    assert len(jobs) == 2
    # dask-jobqueue writes 4GB as SLURM counts it.
    assert {job['MinMemoryNode'] for job in jobs} == {'4G'}
    # The workers are cancelled when the last step is done, and their keys are gone.
    assert set(_ended(slurm, jobs)) == {'CANCELLED'}
    assert not list((site / 'work').glob('dask-tls-*'))
    logs = ''.join(path.read_text() for path in (site / 'work' / 'dask-logs').iterdir())
    assert 'tls://127.0.0.1' in logs
    assert 'tcp://' not in logs
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'queue': 'nope'}, 'invalid partition'),
        ({'memory': '900GB'}, 'not available'),
    ],
)
def test_a_refusal_is_told(run, changes: dict, said: str) -> None:
    done = run(**changes)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert '--use-plugin' in done.stdout + done.stderr
    assert 'Traceback' not in done.stdout + done.stderr


@pytest.mark.parametrize('signal', ['KILL', 'TERM'])
def test_a_job_that_ends_early_fails_its_step(slurm, site: Path, signal: str) -> None:
    """KILL is what a lack of memory brings; TERM comes at the time limit and from scancel."""
    before, ended = _ids(slurm), threading.Event()

    def end() -> None:
        while not ended.is_set():
            if (site / 'begun').exists():
                (job,) = _jobs(slurm, before)
                slurm.call('scancel', f'--signal={signal}', '--full', job['JobId'])
                return
            time.sleep(0.2)

    (site / 'plugin.yml').write_text(
        yaml.safe_dump({'plugin': 'Dask', 'plugin_args': {'n_workers': 1, 'slurm': JOBS}})
    )
    (site / 'small.py').write_text(SMALL)
    thread = threading.Thread(target=end)
    thread.start()
    done = slurm.call(sys.executable, site / 'small.py', site)
    ended.set()
    thread.join()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'failed step WorkerLostError'
    jobs = _jobs(slurm, before)
    assert not {'RUNNING', 'PENDING'} & set(_ended(slurm, jobs))
