"""Outcome of each image and of a run, which determines its last message and its exit code."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bids_interp.errors import InputDatasetError, WorkerLostError

DONE, FAILED, EXCLUDED = 'done', 'failed', 'excluded'
FULL_DISK = (
    'The disk is full (no space left on device). Free space or choose other folders for the output '
    'and with --work-dir, and run the same command again; finished work is kept.'
)
#: Free bytes of a disk below which a missing result is attributed to a full disk.
NEARLY_FULL = 10_000_000
_OWN_ERROR = re.compile(
    r'^\s*bids_interp\.errors\.(\w+): (.*(?:\n(?!\s*\n|\S*Error\b|When ).*)*)', re.M
)
_ANY_ERROR = re.compile(r'^\s*([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)): ?(.*)$', re.M)
# Message of nipype if a step wrote no result; the actual error precedes it.
_NO_RESULT = re.compile(r'FileNotFoundError: (.*)/result_\w+\.pklz$', re.M)


@dataclass
class Outcome:
    """Outcome of an image, or of a participant without an image.

    Parameters
    ----------
    name : str
        Prefix of the image's outputs, or ``sub-<label>``.
    status : {'done', 'failed', 'excluded'}
        Status; excluded images were not processed, because of a problem found before the run.
    problem : str
        Message for the user; empty if done.
    step : str
        Name of the failed node.
    crash_file : Path, optional
        File with traceback and inputs of that node.
    report : Path, optional
        HTML report.
    """

    name: str
    status: str = DONE
    problem: str = ''
    step: str = ''
    crash_file: Path | None = None
    report: Path | None = None

    @property
    def failure(self) -> str:
        """Continuation of a sentence that ends with 'failed': step, problem and crash file."""
        step = f' in {self.step}' if self.step else ''
        details = f' Details: {self.crash_file}.' if self.crash_file else ''
        return f'{step}: {self.problem}{details}'


@dataclass
class RunOutcome:
    """Outcomes of all images of a run.

    Parameters
    ----------
    outcomes : list of Outcome
        Outcome of each image, in the order of the preflight table.
    interrupted : bool
        Whether the run was stopped early.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False

    def of(self, status: str) -> list[Outcome]:
        """Return the outcomes with a status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if all images are done, 4 if no image was usable, else 1.

        Examples
        --------
        >>> RunOutcome([Outcome('sub-01'), Outcome('sub-02', FAILED, 'broke')]).exit_code
        1
        """
        if self.interrupted or self.of(FAILED):
            return 1
        if self.of(EXCLUDED):
            return 1 if self.of(DONE) else InputDatasetError.exit_code
        return 0

    def lines(self) -> list[str]:
        """Return the lines of the last message of the run."""
        done, total = len(self.of(DONE)), len(self.outcomes)
        if self.exit_code == 0:
            head = f'All {total} images are done.' if total != 1 else 'The image is done.'
        else:
            head = f'{done} of {total} images are done; exit code {self.exit_code}.'
        lines = [head]
        for outcome in self.outcomes:
            if outcome.status != DONE:
                where = f' in {outcome.step}' if outcome.step else ''
                lines.append(f'  {outcome.name}: {outcome.status}{where}: {outcome.problem}')
                if outcome.crash_file:
                    lines.append(f'    details: {outcome.crash_file}')
        if self.interrupted:
            lines.append('  The run was stopped early. Run the same command again to continue.')
        reports = [str(o.report) for o in self.outcomes if o.report is not None]
        if reports:
            lines += ['Reports:', *(f'  {path}' for path in reports)]
        return lines

    def log(self, logger: logging.Logger) -> None:
        """Log the last message of the run."""
        level = logging.INFO if self.exit_code == 0 else logging.ERROR
        for line in self.lines():
            logger.log(level, '%s', line)


def read_error(traceback: str | Iterable[str]) -> str:
    """Return the error in a traceback as one line for the user.

    Parameters
    ----------
    traceback : str or iterable of str
        Traceback of nipype, possibly nested.

    Examples
    --------
    >>> read_error('Traceback ...' + chr(10) + 'bids_interp.errors.ImageError: x.nii is empty.')
    'x.nii is empty.'
    >>> read_error('Traceback ...' + chr(10) + 'ValueError: bad')
    'ValueError: bad'
    """
    text = traceback if isinstance(traceback, str) else ''.join(traceback)
    own = _OWN_ERROR.findall(text)
    if own:
        return _one_line(own[-1][1])
    if 'No space left on device' in text or 'Errno 28]' in text:
        return FULL_DISK
    if 'MemoryError' in text or 'DefaultCPUAllocator: can' in text:
        return f'Not enough memory. {WorkerLostError.default_advice}'
    found = _ANY_ERROR.findall(text)
    found = [
        (kind, message)
        for kind, message in found
        if 'NodeExecutionError' not in kind and not _NO_RESULT.search(f'{kind}: {message}')
    ]
    if found:
        kind, message = found[-1]
        return _one_line(f'{kind.rsplit(".", 1)[-1]}: {message}')
    missing = _NO_RESULT.search(text)
    if missing:
        return _no_result(Path(missing[1]))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else 'unknown error'


def without_message(folder: Path) -> str:
    """Return the problem of a step whose crash file is missing or empty.

    Parameters
    ----------
    folder : Path
        Folder of its crash file.
    """
    if _is_full(folder):
        return FULL_DISK
    return 'The step stopped without an error message (it was probably killed).'


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < NEARLY_FULL


def _no_result(folder: Path) -> str:
    if _is_full(folder):
        return FULL_DISK
    return f'The step wrote no result to {folder}. Run the same command again.'


def _one_line(text: str) -> str:
    return ' '.join(text.split())
