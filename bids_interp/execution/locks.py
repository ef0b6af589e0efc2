"""Locks: two runs never make one result at once, nor does one empty the folder of another."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from bids_interp.errors import BusyError
from bids_interp.execution.run import Run

logger = logging.getLogger('bids_interp')

#: Name of a lock, by that of the result.
_NAME = '.lock-{}'
#: Name of the lock of a work directory.
WORK_LOCK = '.lock'
#: Errors of a lock that another process holds; any other means a disk without locks.
_BUSY = (errno.EACCES, errno.EAGAIN)
#: Files that a run opens besides its locks.
_OTHER_FILES = 512
#: Locks of work directories that this process holds until it ends.
_HELD: dict[Path, IO[str]] = {}


class ResultLocks(ExitStack):
    """Locks that this process holds until it ends, in the output and in the work directory.

    The system releases them if the process is killed. On a disk without locks nothing is held, nor
    is what cannot be opened: the lock that another user left, or more files than are allowed.

    Parameters
    ----------
    run : Run
        The run.
    names : iterable of str
        Names of the results, such as ``sub-01``; each can be part of a file name.

    Attributes
    ----------
    busy : dict of str to BusyError
        Error for the user, by the name of a result that another run holds.
    """

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        super().__init__()
        self.busy: dict[str, BusyError] = {}
        results = sorted(set(names))
        _allow_files(2 * len(results) + _OTHER_FILES)
        for name in results:
            # Not in the folder of a subject, which would look like a dataset without description.
            for folder in (run.settings.output_dir / 'logs', run.work_dir):
                self._take(name, folder / _NAME.format(name), run.uuid)

    def check(self) -> None:
        """Raise the first error.

        Raises
        ------
        BusyError
            If another run holds a result.
        """
        for error in self.busy.values():
            raise error

    def _take(self, name: str, path: Path, uuid: str) -> None:
        if name in self.busy:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stream, is_locked = _open_locked(path)
        except OSError as error:
            logger.warning('%s cannot be locked: %s.', path, error.strerror)
            return
        self.enter_context(stream)
        if not is_locked:
            self.busy[name] = BusyError(f'{name} is being processed by {_holder(stream)}.')
            return
        self.callback(_remove, path)
        _sign(stream, f', run {uuid}')


def _remove(path: Path) -> None:
    """Remove a lock; on a disk that has become read-only it stays, and holds nobody."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def share_work_dir(work_dir: Path) -> None:
    """Hold a work directory, together with other runs, until this process ends."""
    try:
        stream = _work_lock(work_dir)
    except OSError as error:
        logger.warning('%s cannot be locked: %s.', work_dir, error.strerror)
        return
    if _lock(stream, fcntl.LOCK_SH):
        _sign(stream)


def holder_of(work_dir: Path) -> str:
    """Return who else works in a work directory; empty if nobody does.

    Then this process holds it alone until :func:`share_work_dir`.
    """
    if not (work_dir / WORK_LOCK).exists():
        return ''
    stream = _work_lock(work_dir)
    return '' if _lock(stream) else _holder(stream)


def _work_lock(work_dir: Path) -> IO[str]:
    """Return the lock of a work directory, open until this process ends."""
    place = work_dir.resolve()
    if place not in _HELD:
        _HELD[place] = (place / WORK_LOCK).open('a+', encoding='utf-8')
    return _HELD[place]


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


def _allow_files(count: int) -> None:
    """Raise the number of files that this process may open, as far as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _sign(stream: IO[str], more: str = '') -> None:
    """Write into a lock who holds it."""
    stream.truncate(0)
    stream.write(f'process {os.getpid()} on {socket.gethostname()}{more}')
    stream.flush()


def _lock(stream: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Lock a file; return False only if another process holds it."""
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read().strip() or 'another run'
