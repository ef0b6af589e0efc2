"""Locks of subjects: two runs never work on one subject in the same folders at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from bids_interp.execution.run import Run

#: Name of a lock, by the label of the subject.
_NAME = '.lock-sub-{}'
#: Errors of a lock that another process holds; any other means a disk without locks.
_BUSY = (errno.EACCES, errno.EAGAIN)


class SubjectLocks(ExitStack):
    """Locks that this process holds until it ends, in the output and in the work directory.

    The system releases them if the process is killed. On a disk without locks nothing is held.

    Parameters
    ----------
    run : Run
        The run.
    subjects : iterable of str
        Labels.

    Attributes
    ----------
    busy : dict of str to str
        Message for the user, by the label of a subject that another run holds.
    """

    def __init__(self, run: Run, subjects: Iterable[str]) -> None:
        super().__init__()
        self.busy: dict[str, str] = {}
        for subject in sorted(set(subjects)):
            # Not in the folder of the subject, which would look like a dataset without description.
            for folder in (run.settings.output_dir / 'logs', run.work_dir):
                self._take(subject, lock_path(folder, subject), run.uuid)

    def _take(self, subject: str, path: Path, uuid: str) -> None:
        if subject in self.busy:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        stream, is_locked = _open_locked(path)
        self.enter_context(stream)
        if not is_locked:
            self.busy[subject] = (
                f'sub-{subject} is being processed by {_holder(stream)}. Wait until that run has '
                'ended, and run the same command again.'
            )
            return
        self.callback(path.unlink, missing_ok=True)
        stream.truncate(0)
        stream.write(f'process {os.getpid()} on {socket.gethostname()}, run {uuid}')
        stream.flush()


def lock_path(folder: Path, subject: str) -> Path:
    """Return the lock of a subject in a folder.

    Examples
    --------
    >>> lock_path(Path('work'), '01').as_posix()
    'work/.lock-sub-01'
    """
    return folder / _NAME.format(subject)


def holder_of(work_dir: Path) -> str:
    """Return who works in a work directory; empty if nobody holds a lock."""
    for path in sorted(work_dir.glob(_NAME.format('*'))):
        with path.open('a+', encoding='utf-8') as stream:
            if not _lock(stream):
                return _holder(stream)
    return ''


def _open_locked(path: Path) -> tuple[IO[str], bool]:
    """Open and lock a file; the other value is False if another process holds it."""
    while True:
        stream = path.open('a+', encoding='utf-8')
        if not _lock(stream):
            return stream, False
        # The process that held it before may have deleted it in the meantime.
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            return stream, True
        stream.close()


def _lock(stream: IO[str]) -> bool:
    """Lock a file; return False only if another process holds it."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or 'another run'
