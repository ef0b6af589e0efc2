"""Errors of bids_interp, each class with its exit code and its advice."""

from __future__ import annotations

import errno
from typing import Any


class BidsInterpError(Exception):
    """Base class of all errors that the user can fix.

    Parameters
    ----------
    message : str
        Description of the problem, with the name of the file.
    advice : str, optional
        Remedy; the advice of the class by default.

    Attributes
    ----------
    exit_code : int
        Exit code of a command that is stopped by this error.
    """

    exit_code: int = 1
    default_advice: str = ''

    def __init__(self, message: str, advice: str | None = None) -> None:
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        super().__init__(message)

    def __str__(self) -> str:
        return f'{self.message} {self.advice}'.strip()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Workers send errors to the main process.
        return type(self), (self.message, self.advice)


class UsageError(BidsInterpError, ValueError):
    """Invalid command line or configuration file."""

    exit_code = 2
    default_advice = 'See `bids_interp --help`.'


class NothingToDoError(BidsInterpError):
    """Valid but empty selection."""

    exit_code = 3
    default_advice = 'Check --participant-label, --session-label and --bids-filter-file.'


class InputDatasetError(BidsInterpError):
    """Unusable input dataset."""

    exit_code = 4
    default_advice = 'Check that the first argument is the root of a BIDS dataset.'


class OutputError(BidsInterpError, OSError):
    """Output or work directory that cannot be written."""

    exit_code = 2
    default_advice = 'Choose a writable directory with enough free space.'


class ImageError(InputDatasetError, ValueError):
    """Unusable image; the other images are processed."""

    exit_code = 1
    default_advice = 'Repair or exclude this file.'


class TemplateError(BidsInterpError):
    """Template that is not available."""

    exit_code = 2
    default_advice = (
        'Download the template once with a network connection, set TEMPLATEFLOW_HOME, '
        'or remove --template to use the embedded one.'
    )


class DeviceError(BidsInterpError):
    """Requested device that is not available."""

    exit_code = 2
    default_advice = 'Use --device auto or --device cpu.'


class ModelError(BidsInterpError):
    """Model bundle that is missing, damaged or unsuitable."""

    exit_code = 5
    default_advice = (
        'Check --model. `bids_interp_tools model verify DIR` lists the problems of a model.'
    )


class TrainingError(BidsInterpError):
    """Training that is impossible or has failed."""

    exit_code = 1


class BusyError(BidsInterpError):
    """Result that another run is making."""

    exit_code = 1
    default_advice = 'Wait until that run has ended, and run the same command again.'


class WorkerLostError(BidsInterpError):
    """Worker process that was killed."""

    exit_code = 1
    default_advice = (
        'This is usually due to the memory limit. Lower --nprocs, raise --mem or the limit of the '
        'job, and run the same command again; finished work is kept.'
    )


class AntsError(BidsInterpError):
    """ANTs that cannot run, whatever the image."""

    exit_code = 1
    default_advice = (
        'This is not a fault of the image. Set TMPDIR to a folder with free space whose path has '
        'only letters, digits, hyphens and underscores, and run the same command again.'
    )


class SchedulerError(BidsInterpError):
    """Scheduler that cannot be reached or refuses the jobs."""

    exit_code = 1
    default_advice = (
        'Change the options in the --use-plugin file to values that the cluster allows, and run '
        'the same command again; finished work is kept.'
    )


def one_line(error: BaseException) -> str:
    """Return kind and message of an error in one line.

    Examples
    --------
    >>> one_line(ValueError('first    second'))
    'ValueError: first second'
    """
    return ' '.join(f'{type(error).__name__}: {error}'.split())


def is_unavailable(error: BaseException) -> bool:
    """Return True for an error of the disk or of rights, which does not mean a damaged file.

    Examples
    --------
    >>> is_unavailable(OSError(errno.ESTALE, 'stale')), is_unavailable(EOFError())
    (True, False)
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
