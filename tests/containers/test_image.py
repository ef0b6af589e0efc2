"""The image: what it is, and that it runs as a stranger, read-only and without network."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MAX_BYTES = 2.5e9
#: A user whom neither the image nor this machine knows.
STRANGER = 12345
#: Seconds that one run may take; it hangs if it takes longer.
PATIENCE = 1500
# Found before torch by any Python that listens to PYTHONPATH.
POISON = "raise SystemExit('a package of the host was imported')\n"


def _binds(bids: Path, out: Path) -> list[str]:
    return ['-v', f'{bids}:/bids:ro', '-v', f'{out}:/out']


def test_size_and_labels(engine, repository: Path) -> None:
    found = engine.inspect()
    assert found['Size'] <= MAX_BYTES
    labels = found['Config']['Labels']
    version = engine.run('--version').stdout.split()[-1]
    assert labels['org.opencontainers.image.version'] == version
    assert labels['org.opencontainers.image.licenses'] == 'Apache-2.0'
    assert len(labels['org.opencontainers.image.revision']) == 40
    assert not found['Config'].get('User')


def test_nothing_of_the_build_stays(engine) -> None:
    """Neither pip's configuration of the machine that built it nor a cache."""
    done = engine.run(
        *('-c', 'ls /run/secrets /wheels /etc/pip.conf /root/.cache /src 2>/dev/null'),
        options=['--entrypoint', '/bin/sh'],
    )
    assert done.stdout.strip() == ''


@pytest.fixture(scope='module')
def explained(
    engine, heads: Path, shared_folder: Path, repository: Path, read_command
) -> tuple[Path, str]:
    """Output folder of one head by the command of the README, and what was printed."""
    out = shared_folder / 'explained'
    out.mkdir()
    os.chown(out, STRANGER, STRANGER)
    words = read_command(repository / 'README.md', 'docker', 'run')
    places = {'/data/bids:/bids:ro': f'{heads}:/bids:ro', '/data/derivatives:/out': f'{out}:/out'}
    places['$(id -u):$(id -g)'] = f'{STRANGER}:{STRANGER}'
    places['bids_interp'] = engine.image
    assert set(places) <= set(words)
    words = [engine.program, *engine.limits, *(places.get(word, word) for word in words[2:])]
    done = subprocess.run(
        words, env=engine.environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout + done.stderr


def test_the_main_job(explained: tuple[Path, str], validate) -> None:
    out, words = explained
    assert validate(out) == []
    for name in ('desc-inject100_T1w.nii.gz', 'desc-remove100_logjacobian.nii.gz'):
        file = out / 'sub-01' / 'anat' / f'sub-01_{name}'
        assert file.stat().st_size > 10_000
        assert file.stat().st_uid == STRANGER
    assert (out / 'sub-01.html').stat().st_size > 100_000
    described = json.loads((out / 'dataset_description.json').read_text())
    assert described['GeneratedBy'][0]['Container']['Tag'].startswith('bids_interp:')
    assert 'Traceback' not in words


def test_done_is_not_done_again(engine, heads: Path, explained: tuple[Path, str]) -> None:
    """A new container finds the work of the first beside the output."""
    out, _ = explained
    image = out / 'sub-01' / 'anat' / 'sub-01_desc-inject100_T1w.nii.gz'
    before = image.stat().st_mtime_ns
    done = engine.run(
        *('/bids', '/out', 'participant', '--participant-label', '01'),
        options=_binds(heads, out),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert image.stat().st_mtime_ns == before


def test_the_group_level_of_one(engine, heads: Path, explained: tuple[Path, str], validate) -> None:
    """It starts, and refuses a group of one (two and more are summarised in tests/cluster)."""
    out, _ = explained
    done = engine.run('/bids', '/out', 'group', options=_binds(heads, out))
    assert done.returncode == 4, done.stdout + done.stderr
    assert '1 of 1 ' in done.stderr
    assert validate(out) == []


def test_packages_of_the_host_are_not_seen(
    engine, heads: Path, writable: Path, shared_folder: Path
) -> None:
    poison = shared_folder / 'poison'
    poison.mkdir()
    for module in ('torch', 'click', 'nibabel', 'sitecustomize'):
        (poison / f'{module}.py').write_text(POISON)
    options = ['-v', f'{poison}:/poison:ro', '--env', 'PYTHONPATH=/poison']
    options += ['--env', 'PYTHONHOME=/poison', *_binds(heads, writable)]
    done = engine.run('/bids', '/out', 'participant', '--dry-run', options=options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '4 images would be processed' in done.stdout


def test_a_dataset_that_is_not_bound(engine, writable: Path) -> None:
    done = engine.run('/data', '/out', 'participant', options=['-v', f'{writable}:/out'])
    assert done.returncode == 4, done.stdout + done.stderr
    assert '/data' in done.stderr
    assert '-v' in done.stderr


def test_an_empty_dataset(engine, writable: Path) -> None:
    """Nothing bound at /bids: the folder of the image is empty."""
    done = engine.run('/bids', '/out', 'participant', options=['-v', f'{writable}:/out'])
    assert done.returncode == 4, done.stdout + done.stderr
    assert 'Traceback' not in done.stderr


def test_an_output_that_cannot_be_written(engine, heads: Path, writable: Path) -> None:
    for options in (
        ['-v', f'{heads}:/bids:ro', '-v', f'{writable}:/out:ro'],
        ['-v', f'{heads}:/bids:ro'],  # nothing bound: the image itself is read-only
    ):
        done = engine.run('/bids', '/out', 'participant', options=options)
        assert done.returncode == 2, done.stdout + done.stderr
        assert '/out' in done.stderr
        assert 'Traceback' not in done.stderr


def test_a_full_disk(engine, heads: Path) -> None:
    options = ['-v', f'{heads}:/bids:ro', '--tmpfs', '/out:rw,size=8m']
    done = engine.run('/bids', '/out', 'participant', options=options, user=0)
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'MB free' in done.stderr


def test_a_gpu_that_is_not_there(engine, heads: Path, writable: Path) -> None:
    done = engine.run(
        '/bids', '/out', 'participant', '--device', 'cuda', options=_binds(heads, writable)
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert 'no GPU driver' in done.stderr
    assert '--nv' in done.stderr


# Ends the worker that holds a step, as the kernel does when memory runs out. A worker that holds
# none would only be replaced: its process id is in no file of the watch.
KILL = """
import os, pathlib, signal
for file in pathlib.Path('/out/.bids_interp_work').rglob('workers-*/*'):
    words = file.read_text().strip()
    if words:
        os.kill(int(words), signal.SIGKILL)
        print(words)
"""


@contextmanager
def _started(engine, heads: Path, out: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a participant in a container; its process here, and the name of the container."""
    name = f'bids_interp-{uuid.uuid4().hex[:8]}'
    words = ['/bids', '/out', 'participant', '--participant-label', '02', '--nprocs', '1']
    options = ['--name', name, *_binds(heads, out)]
    with subprocess.Popen(
        engine.command(*words, options=options),
        env=engine.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process, name


def test_a_killed_worker(engine, heads: Path, writable: Path) -> None:
    """The run ends by itself, names what happened, and its exit code tells."""
    with _started(engine, heads, writable) as (process, name):
        killed = ''
        for _ in range(240):
            time.sleep(0.5)
            killed = engine.call('exec', name, '/opt/venv/bin/python', '-c', KILL).stdout
            if killed.strip() or process.poll() is not None:
                break
        printed = process.communicate(timeout=600)[0]
    assert killed.strip(), printed
    assert process.returncode == 1, printed
    assert 'killed' in printed
    assert not list(writable.rglob('sub-02_*.nii.gz'))


def test_stop_ends_the_run_cleanly(engine, heads: Path, writable: Path) -> None:
    """``docker stop`` ends it before the engine loses patience, and nothing is half-written."""
    with _started(engine, heads, writable) as (process, name):
        for _ in range(240):
            time.sleep(0.5)
            if (writable / 'dataset_description.json').exists() or process.poll() is not None:
                break
        engine.call('stop', '--time', '60', name)
        printed = process.communicate(timeout=90)[0]
    assert process.returncode not in (0, 137), printed
    assert not [file for file in writable.rglob('*.nii.gz') if '.bids_interp_work' not in str(file)]
