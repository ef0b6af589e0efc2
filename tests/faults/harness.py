"""Places where the program runs, and faults that happen to it there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bids_interp.bids.write.read_back import damage_of

HERE = Path(__file__).parent
HOOK = HERE / 'hook'
#: Seconds until a run must have ended, on a busy machine.
PATIENCE = 900
#: Files of the output that differ between equal runs: logs, crash files, locks.
_LOGS = re.compile(r'(^|/)(logs?|\.bids_interp_work)/')
#: Temporary names of atomic writes and what is in such folders, which no reader looks at.
_TEMPORARY = re.compile(r'(^|/)\.[0-9a-f]{32}_')


@dataclass(frozen=True)
class Trigger:
    """Fault inside of a process of the program; see ``hook/sitecustomize.py``."""

    event: str
    path: str
    action: str


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    code: int
    words: str

    def has_traceback(self) -> bool:
        """Tell whether the user saw a traceback."""
        return 'Traceback (most recent call last)' in self.words


@dataclass(frozen=True)
class Place:
    """Folders of a run, and its command.

    Parameters
    ----------
    root : Path
        Folder with ``bids``, ``out`` and ``work``.
    level : str
        Analysis level.
    options : tuple of str
        Options of the command.
    out_name : str
        Name of the output folder.
    """

    root: Path
    level: str
    options: tuple[str, ...]
    out_name: str = 'out'

    @property
    def bids(self) -> Path:
        """Input dataset."""
        return self.root / 'bids'

    @property
    def out(self) -> Path:
        """Output dataset."""
        return self.root / self.out_name

    @property
    def work(self) -> Path:
        """Work directory."""
        return self.root / 'work'

    def words(self, *more: str) -> list[str]:
        """Return the words of the command after the program's name."""
        places = ('--work-dir', str(self.work))
        return [str(self.bids), str(self.out), self.level, *self.options, *places, *more]

    def copy(self, root: Path, *, work: bool = True) -> Place:
        """Copy all folders; return the new place."""
        root.mkdir(parents=True)
        for name in ('bids', 'out', 'work') if work else ('bids', 'out'):
            source = self.root / name
            if source.is_dir():
                shutil.copytree(source, root / name, symlinks=True)
        return replace(self, root=root)

    def environ(self, trigger: Trigger | None, more: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a run, which may have a fault."""
        found = {**os.environ, **more}
        path = [str(HOOK), str(HERE.parents[1]), *os.environ.get('PYTHONPATH', '').split(':')]
        found['PYTHONPATH'] = ':'.join(part for part in path if part)
        found['TMPDIR'] = more.get('TMPDIR', str(self.root / 'tmp'))
        (self.root / 'tmp').mkdir(exist_ok=True)
        if trigger is not None:
            mark = self.root / 'happened'
            mark.unlink(missing_ok=True)
            found['BIDS_INTERP_FAULT'] = json.dumps({**vars(trigger), 'mark': str(mark)})
        return found

    def happened(self) -> bool:
        """Tell whether the fault of the last run happened."""
        return (self.root / 'happened').exists()

    def derivatives(self, *folders: str) -> dict[str, str]:
        """Return the digest of every file of the output that equal runs write equally."""
        found = {}
        for path in sorted(self.out.rglob('*')):
            name = path.relative_to(self.out).as_posix()
            if not path.is_file() or _LOGS.search(name) or _TEMPORARY.search(name):
                continue
            if not folders or name.startswith(folders):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def half_written(self) -> dict[str, str]:
        """Return the visible files of the output that cannot be read to their end."""
        found = {}
        for path in self.out.rglob('*') if self.out.is_dir() else ():
            name = path.relative_to(self.out).as_posix()
            if path.is_file() and not _LOGS.search(name) and not path.name.startswith('.'):
                problem = damage_of(path)
                if problem:
                    found[name] = problem
        return found

    def leftovers(self) -> list[str]:
        """Return the temporary files in the output."""
        names = (path.relative_to(self.out).as_posix() for path in self.out.rglob('*'))
        return [name for name in names if _TEMPORARY.search(name)]

    def age_leftovers(self) -> None:
        """Make the temporary files of a killed run as old as those that the next day finds."""
        yesterday = time.time() - 86400
        for name in self.leftovers():
            os.utime(self.out / name, (yesterday, yesterday))


class Program:
    """The program, run as a user does, or in forks of a process that has imported it."""

    def __init__(self) -> None:
        self._launcher: subprocess.Popen[str] | None = None
        self.runs = 0

    def run(
        self,
        place: Place,
        *more: str,
        trigger: Trigger | None = None,
        prefix: Sequence[str] = (),
        fresh: bool = False,
        **environment: str,
    ) -> Ended:
        """Run the program in a place.

        Parameters
        ----------
        place : Place
            Folders and command.
        *more : str
            Further options.
        trigger : Trigger, optional
            Fault inside of the program.
        prefix : sequence of str
            Words before the command, such as ``prlimit``.
        fresh : bool
            Start Python anew.
        **environment : str
            Variables.
        """
        self.runs += 1
        environ = place.environ(trigger, environment)
        log = place.root / f'log-{self.runs}.txt'
        if fresh or prefix or environment:
            code = self._start(place, prefix, more, environ, log).wait(PATIENCE)
        else:
            code = self._fork(place.words(*more), environ, log)
        return Ended(code, log.read_text(errors='replace'))

    def start(
        self, place: Place, *more: str, trigger: Trigger | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the program anew without waiting for it; return it and its output."""
        self.runs += 1
        log = place.root / f'log-{self.runs}.txt'
        return self._start(place, (), more, place.environ(trigger, {}), log), log

    @staticmethod
    def _start(
        place: Place,
        prefix: Sequence[str],
        more: Sequence[str],
        environ: dict[str, str],
        log: Path,
    ) -> subprocess.Popen[bytes]:
        program = str(Path(sys.executable).with_name('bids_interp'))
        with log.open('wb') as stream:
            return subprocess.Popen(
                [*prefix, program, *place.words(*more)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environ,
            )

    def _fork(self, words: Sequence[str], environ: dict[str, str], log: Path) -> int:
        if self._launcher is None or self._launcher.poll() is not None:
            path = f'{HERE.parents[1]}:{os.environ.get("PYTHONPATH", "")}'
            self._launcher = subprocess.Popen(
                [sys.executable, str(HERE / 'launcher.py')],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, 'PYTHONPATH': path},
            )
        request = {
            'words': words,
            'environ': environ,
            'log': str(log),
            'hook': str(HOOK / 'sitecustomize.py'),
        }
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(request) + '\n')
        self._launcher.stdin.flush()
        return int(self._launcher.stdout.readline())

    def close(self) -> None:
        """End the process that makes forks."""
        if self._launcher is not None:
            assert self._launcher.stdin is not None
            self._launcher.stdin.close()
            self._launcher.wait(60)


def processes_of(place: Place) -> list[int]:
    """Return the processes that work in a place."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            environ = (folder / 'environ').read_bytes()
            status = (folder / 'stat').read_text().rsplit(')', 1)[1].split()[0]
        except OSError:
            continue
        if f'TMPDIR={place.root / "tmp"}'.encode() in environ.split(b'\0') and status != 'Z':
            found.append(int(folder.name))
    return found


def wait_for_end(place: Place, seconds: float = 30) -> list[int]:
    """Wait until no process works in a place; return those that still do."""
    until = time.monotonic() + seconds
    while (left := processes_of(place)) and time.monotonic() < until:
        time.sleep(0.2)
    return left
