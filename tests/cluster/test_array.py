"""The scripts of ``bids_interp_tools hpc slurm`` under a real SLURM."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SUBJECTS = 4


@pytest.fixture
def bids(slurm, program: Path, site: Path) -> Path:
    """Four stripped made-up brains."""
    folder = site / 'bids'
    made = slurm.call(
        *(program, 'phantom', folder, '--n', str(SUBJECTS)), *('--stripped', '--spacing', '3')
    )
    assert made.returncode == 0, made.stderr
    return folder


def _submit(slurm, program: Path, bids: Path, out: Path, *words: str, **environ: str) -> dict:
    """Write and submit the scripts; number of the job of each script."""
    scripts = out.with_name('jobs')
    done = slurm.call(
        *(program, 'hpc', 'slurm', bids, out, '--out', scripts, '--submit', '--cpus', '1'),
        *words,
        **environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r'^submitted (\S+) (\d+)', done.stdout, re.MULTILINE))


def _logs(out: Path) -> str:
    files = sorted(out.with_name('jobs').rglob('*.log')) + sorted(
        out.with_name('jobs').rglob('*.out')
    )
    return '\n'.join(f'== {file}\n{file.read_text()}' for file in files)


def _assert_explained(out: Path, labels: list[str]) -> None:
    for label in labels:
        folder = out / f'sub-{label}' / 'anat'
        assert (folder / f'sub-{label}_desc-inject100_logjacobian.nii.gz').is_file(), _logs(out)
        assert (out / f'sub-{label}.html').is_file()


def test_array_and_group_job(slurm, program: Path, bids: Path, site: Path) -> None:
    """Four subjects at once into one output folder, one of them damaged; the group job behind."""
    damaged = next((bids / 'sub-04').rglob('*_T1w.nii.gz'))
    damaged.write_bytes(damaged.read_bytes()[:2000])
    out = site / 'out'
    jobs = _submit(slurm, program, bids, out, '--engine', 'none', '--retries', '0')
    assert len(jobs) == 2, jobs
    slurm.wait(list(jobs.values()))
    _assert_explained(out, ['01', '02', '03'])
    array, group = sorted(jobs.values(), key=int)
    states = slurm.states(array)
    assert sorted(states) == [('COMPLETED', '0:0')] * 3 + [('FAILED', '4:0')], _logs(out)
    assert slurm.states(group) == [('COMPLETED', '0:0')], _logs(out)
    report = next((out / 'group').glob('*/report.html'))
    assert report.stat().st_size > 100_000
    assert 'damaged' in _logs(out)


def test_in_an_apptainer_image(
    slurm, program: Path, bids: Path, site: Path, repository: Path
) -> None:
    """The same in a container, for two subjects."""
    folder = os.environ.get('BIDS_INTERP_CONTAINER_CACHE') or repository / 'build' / 'containers'
    image = Path(folder, 'bids_interp.sif')
    if not image.is_file():
        pytest.skip('no Apptainer image: `make test-container` makes one where it can')
    out = site / 'out'
    environ = {'PATH': f'{folder}:{slurm.environ.get("PATH", os.environ["PATH"])}'}
    environ['APPTAINER_AS'] = 'root'
    words = ['--image', str(image), '--participant-label', '01', '02']
    jobs = _submit(slurm, program, bids, out, *words, **environ)
    slurm.wait(list(jobs.values()))
    _assert_explained(out, ['01', '02'])
    for job in jobs.values():
        assert set(slurm.states(job)) == {('COMPLETED', '0:0')}, _logs(out)


def test_a_killed_task(slurm, program: Path, bids: Path, site: Path) -> None:
    """SIGKILL to the workers of a task: it fails with a word, and the others go on."""
    out = site / 'out'
    words = ['--engine', 'none', '--retries', '0', '--participant-label', '01', '--no-group']
    (job,) = _submit(slurm, program, bids, out, *words).values()
    killed = []
    for _ in range(600):
        # A worker that had not begun is replaced once, so one blow may not be enough.
        killed += _kill_workers(str(out))
        if not slurm.call('squeue', '-h', '-j', job).stdout.strip():
            break
        time.sleep(0.2)
    assert killed, _logs(out)
    slurm.wait([job])
    assert slurm.states(job) == [('FAILED', '1:0')], _logs(out)
    assert 'killed' in _logs(out)
    assert 'Traceback' not in _logs(out)


def test_preemption(slurm, program: Path, bids: Path, site: Path) -> None:
    """A task that is ended goes back to the queue, and finishes when it comes up again."""
    out = site / 'out'
    words = ['--engine', 'none', '--participant-label', '02', '--no-group', '--grace', '60']
    (job,) = _submit(slurm, program, bids, out, *words).values()
    for _ in range(600):
        if (out / 'dataset_description.json').exists():
            break
        time.sleep(0.2)
    # What SLURM sends before the time limit and before a preemption, to the script alone.
    ended = slurm.call('scancel', '--signal=TERM', '--batch', job)
    assert ended.returncode == 0, ended.stderr
    for _ in range(300):
        if 'goes back to the queue' in _logs(out):
            break
        time.sleep(0.2)
    assert 'goes back to the queue' in _logs(out)
    for _ in range(300):
        shown = slurm.call('scontrol', 'show', 'job', '--oneliner', job).stdout
        if 'Restarts=1' in shown and 'ended with exit code' in _logs(out):
            break
        time.sleep(0.2)
    assert 'Restarts=1' in shown, _logs(out)
    # SLURM holds it for two minutes, until the first start is surely buried.
    slurm.wait([job])
    _assert_explained(out, ['02'])
    assert slurm.states(job) == [('COMPLETED', '0:0')], _logs(out)


def test_a_refusal_of_the_scheduler(slurm, program: Path, bids: Path, site: Path) -> None:
    done = slurm.call(
        *(program, 'hpc', 'slurm', bids, site / 'out', '--engine', 'none', '--submit'),
        *('--out', site / 'jobs', '--partition', 'nowhere'),
    )
    assert done.returncode != 0
    assert 'partition' in done.stderr
    assert 'Traceback' not in done.stderr


def _kill_workers(words: str) -> list[int]:
    """Kill the workers of a run that has these words in its command line."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            line = (folder / 'cmdline').read_bytes().replace(b'\0', b' ').decode()
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
        except (OSError, ValueError):
            continue
        parents[int(folder.name)], lines[int(folder.name)] = parent, line
    killed = []
    for pid, line in lines.items():
        server = parents.get(pid, 0)
        is_worker = 'forkserver' in line and 'forkserver' in lines.get(server, '')
        if is_worker and words in lines.get(parents.get(server, 0), ''):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed
