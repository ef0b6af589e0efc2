"""One fault inside of a process of the program, where the environment asks for it.

Python imports this module in every process whose ``PYTHONPATH`` has its folder. It listens to
Python's audit events, so that nothing of the program is replaced.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

VARIABLE = 'BIDS_INTERP_FAULT'
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ('open', 'os.rename', 'os.mkdir', 'os.remove', 'os.rmdir')
_SIGNALS = {'KILL': signal.SIGKILL, 'TERM': signal.SIGTERM}


class Fault:
    """Fault at the first event that matches.

    Parameters
    ----------
    event : {'write', 'replace'}
        A file is opened to write into it, or replaces another.
    path : str
        Pattern of the file's path.
    action : str
        ``KILL main``, ``TERM main``, ``KILL worker``, ``TERM worker``, ``MEMORY``; ``move``,
        ``remove``, ``fill`` or ``readonly`` with a folder; ``wait`` with a file; or ``snapshot``
        with a folder, which happens each time.
    mark : str
        File that exists once the fault has happened.
    main : int
        Process id of the program.
    """

    def __init__(self, event: str, path: str, action: str, mark: str, main: int) -> None:
        self.event, self.path, self.action = event, re.compile(path), action
        self.mark, self.main = mark, main
        self.is_done, self.count, self.readonly = False, 0, ''

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Listen to an audit event."""
        if self.readonly:
            self._refuse(event, args)
        if self.is_done:
            return
        if event == 'open' and self.event == 'write':
            path, _, flags = args
            if not (flags or 0) & _WRITING:
                return
        elif event == 'os.rename' and self.event == 'replace':
            path = args[1]
        else:
            return
        if isinstance(path, str | os.PathLike) and self.path.search(os.fspath(path)):
            self._happen()

    def _refuse(self, event: str, args: tuple[Any, ...]) -> None:
        """Refuse to write into a folder, as a disk does that an error has made read-only."""
        if event not in _CHANGES or (event == 'open' and not (args[2] or 0) & _WRITING):
            return
        for path in args[:2]:
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.readonly):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))

    def _happen(self) -> None:
        self.is_done = True
        verb, _, whom = self.action.partition(' ')
        if verb == 'snapshot':
            self.count += 1
            subprocess.run(['cp', '-al', whom, f'{whom}-{self.count:04d}'], check=True)
            self.is_done = False
            return
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return  # another process was faster
        if verb in _SIGNALS:
            os.kill(self.main if whom == 'main' else os.getpid(), _SIGNALS[verb])
            if self.main != os.getpid():
                time.sleep(60)  # until the main process, or its death, ends this one
        elif verb == 'move':
            os.rename(whom, f'{whom}-moved')
        elif verb == 'remove':
            shutil.rmtree(whom)
        elif verb == 'fill':
            fill(whom)
        elif verb == 'readonly':
            self.readonly = f'{whom}/'
        elif verb == 'wait':
            while not os.path.exists(whom):
                time.sleep(0.1)
        else:
            raise MemoryError


def fill(folder: str) -> None:
    """Leave no free byte on the disk of a folder."""
    with open(os.path.join(folder, 'filler'), 'wb', buffering=0) as stream:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue


def install() -> None:
    """Make the fault that the environment describes happen in this process, or its children."""
    described = os.environ.get(VARIABLE)
    if not described:
        return
    fault = json.loads(described)
    fault.setdefault('main', os.getpid())
    os.environ[VARIABLE] = json.dumps(fault)
    sys.addaudithook(Fault(**fault))


install()
