"""Two runs at once never work on one subject in the same folders."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from bids_interp.errors import OutputError
from bids_interp.execution import locks
from bids_interp.execution.locks import ResultLocks, holder_of
from bids_interp.execution.run import Run
from bids_interp.execution.run_folders import prepare_work_dir
from bids_interp.settings import Settings

HOLD = """
import fcntl, sys
streams = [open(path, 'a+') for path in sys.argv[1:]]
for stream in streams:
    fcntl.flock(stream, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings(tmp_path / 'bids', tmp_path / 'out')
    return Run(settings, tmp_path / 'work', 'cpu', 1, 1, 4.0, 'run-1')


def locks_of(run: Run) -> list[Path]:
    folders = (run.settings.output_dir / 'logs', run.work_dir)
    return [path for folder in folders for path in folder.glob('.lock-*')]


def test_who_holds_a_subject_is_said(run: Run) -> None:
    second = replace(run, uuid='run-2')
    with ResultLocks(run, ['sub-01', 'sub-02', 'sub-01']) as one:
        assert one.busy == {}
        with ResultLocks(second, ['sub-02', 'sub-03']) as two:
            assert list(two.busy) == ['sub-02']
            assert 'run-1' in two.busy['sub-02'].message
            assert list(ResultLocks(run, ['sub-03']).busy) == ['sub-03']
    with ResultLocks(second, ['sub-01', 'sub-02', 'sub-03']) as three:
        assert three.busy == {}


@pytest.mark.parametrize('shared', ['output', 'work'])
def test_either_folder_is_enough(run: Run, tmp_path: Path, shared: str) -> None:
    other = replace(run, work_dir=tmp_path / 'other')
    if shared == 'work':
        other = replace(run, settings=run.settings.replace(output_dir=tmp_path / 'other'))
    with ResultLocks(run, ['sub-01']), ResultLocks(other, ['sub-01']) as second:
        assert list(second.busy) == ['sub-01']


def test_a_killed_run_holds_nothing(run: Run) -> None:
    with ResultLocks(run, ['sub-01']):
        paths = locks_of(run)
    assert len(paths) == 2
    assert locks_of(run) == []
    assert not list(run.settings.output_dir.glob('sub-*'))
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b'held\n'
    assert list(ResultLocks(run, ['sub-01']).busy) == ['sub-01']
    holder.kill()
    holder.communicate()
    assert locks_of(run) == paths
    with ResultLocks(run, ['sub-01']) as again:
        assert again.busy == {}
    assert locks_of(run) == []


def test_a_lock_that_its_holder_deletes_at_that_moment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that was opened is locked, but another one has its name."""
    real, deleted = fcntl.flock, []

    def lock(stream: IO[str], flags: int) -> None:
        if not deleted:
            deleted.append(Path(stream.name))
            deleted[0].unlink()
        real(stream, flags)

    monkeypatch.setattr(locks.fcntl, 'flock', lock)
    with ResultLocks(run, ['sub-01']), ResultLocks(run, ['sub-01']) as second:
        assert list(second.busy) == ['sub-01']


def test_a_disk_without_locks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object, flags: int) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(locks.fcntl, 'flock', refuse)
    with ResultLocks(run, ['sub-01']), ResultLocks(run, ['sub-01']) as second:
        assert second.busy == {}
    assert fcntl.flock is refuse


def test_a_disk_that_becomes_read_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock stays, and nobody holds it."""

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    with ResultLocks(run, ['sub-01']):
        monkeypatch.setattr(Path, 'unlink', refuse)
    monkeypatch.undo()
    assert len(locks_of(run)) == 2
    with ResultLocks(run, ['sub-01']) as again:
        assert again.busy == {}


def test_a_work_directory_in_use_is_not_emptied(run: Run) -> None:
    prepare_work_dir(run.work_dir, clean=False)
    kept = run.work_dir / 'last.ckpt'
    kept.touch()
    # As another process holds it: with a file that it opened itself.
    with (run.work_dir / locks.WORK_LOCK).open('a+') as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert f'process {os.getpid()}' in holder_of(run.work_dir)
        with pytest.raises(OutputError, match=f'process {os.getpid()}'):
            prepare_work_dir(run.work_dir, clean=True)
        assert kept.exists()
        prepare_work_dir(run.work_dir, clean=False)
    prepare_work_dir(run.work_dir, clean=True)
    assert not kept.exists()
    # It is held again, together with others, but not alone.
    with (run.work_dir / locks.WORK_LOCK).open('a+') as other:
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_many_subjects_may_have_more_locks_than_open_files(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(locks.resource, 'getrlimit', lambda _: (1024, 4096))
    monkeypatch.setattr(locks.resource, 'setrlimit', lambda _, limits: asked.append(limits))
    with ResultLocks(run, ['sub-01']):
        assert asked == []
    with ResultLocks(run, [f'sub-{number:03d}' for number in range(300)]) as many:
        assert asked == [(2 * 300 + locks._OTHER_FILES, 4096)]
        assert many.busy == {}


def test_a_lock_that_cannot_be_opened_stops_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, 'Too many open files')

    monkeypatch.setattr(locks, '_open_locked', refuse)
    with ResultLocks(run, ['sub-01', 'sub-02']) as held:
        assert held.busy == {}
