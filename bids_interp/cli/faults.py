"""Faults that no check has foreseen: one line for the user, and a crash file."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from bids_interp.errors import BidsInterpError, UsageError, one_line
from bids_interp.version import __version__

#: Errors of a path that the user gave, which a repetition cannot fix.
_OF_PATHS = (
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
    errno.EPERM, errno.EROFS,
)  # fmt: skip


def report_error(error: BidsInterpError) -> None:
    """Write an error and its remedy to the standard error output."""
    click.echo(f'Error: {error.message}', err=True)
    if error.advice:
        click.echo(f'       {error.advice}', err=True)


@contextmanager
def faults_reported(folder: Path | None = None) -> Iterator[None]:
    """Exit with a message and a code if anything is raised that a command does not handle itself.

    Parameters
    ----------
    folder : Path, optional
        Folder of the crash file; by default the folder of temporary files.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BidsInterpError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            raise  # the reader has seen enough; click ends quietly
        click.echo(f'Error: {one_line(error)} (details: {_write_crash(error, folder)})', err=True)
        sys.exit(exit_code_of(error))


def exit_code_of(error: Exception) -> int:
    """Return the exit code of an unforeseen error: 2 for a path that cannot be used, else 1.

    Examples
    --------
    >>> exit_code_of(OSError(errno.ENAMETOOLONG, 'File name too long')), exit_code_of(KeyError())
    (2, 1)
    """
    return 2 if isinstance(error, OSError) and error.errno in _OF_PATHS else 1


def check_current_folder() -> None:
    """Refuse a current folder that was deleted.

    Raises
    ------
    UsageError
        If there is none.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f'The current folder cannot be used: {error.strerror}.', 'Change to another folder.'
        ) from error


def _write_crash(error: Exception, folder: Path | None) -> str:
    text = f'bids_interp {__version__}\n{"".join(traceback.format_exception(error))}'
    for place in (folder, None):
        with suppress(OSError):
            handle, name = tempfile.mkstemp('.txt', 'crash-bids_interp-', place)
            with open(handle, 'w', encoding='utf-8', errors='replace') as stream:
                stream.write(text)
            return name
    return 'no folder is writable'
