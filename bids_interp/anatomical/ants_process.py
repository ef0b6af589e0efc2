"""Surroundings of ANTs: paths that it can parse, and messages kept from the terminal."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_interp.errors import AntsError

logger = logging.getLogger('bids_interp')

#: Folders for temporary files if the path of the usual one has characters that ANTs parses.
FALLBACKS = ('/tmp', '/var/tmp', '/dev/shm')  # noqa: S108 - a new folder is made in them
#: Lines of ANTs that are kept in the debug log.
SHOWN = 10

_PLAIN_PATH = re.compile(r'[a-zA-Z0-9_./+-]+')
#: Exceptions that an image can cause: those of ITK's filters, metrics and optimisers, not those of
#: its readers and parsers.
_OF_AN_IMAGE = re.compile(r'^File: .*/Modules/(?!IO/)', re.MULTILINE)
# Standard output and error belong to the process: one thread at a time may redirect them.
_streams = threading.RLock()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Provide a temporary folder whose path ANTs does not misread.

    ANTs parses brackets, commas and spaces in the names of files, and job arrays of Torque have a
    TMPDIR such as ``/tmp/123[7].srv``.

    Raises
    ------
    AntsError
        If no folder with a plain path is writable.
    """
    places = (tempfile.gettempdir(), *FALLBACKS)
    plain = [p for p in places if _PLAIN_PATH.fullmatch(p) and os.access(p, os.W_OK | os.X_OK)]
    if not plain:
        raise AntsError(f'ANTs cannot use the folder of temporary files {places[0]}.')
    with tempfile.TemporaryDirectory(prefix='bids_interp-', dir=plain[0]) as folder:
        yield Path(folder)


class Messages:
    """Text that ANTs has written; complete when the block of :func:`captured` has ended."""

    text = ''


@contextmanager
def captured() -> Iterator[Messages]:
    """Keep everything that libraries write to standard output and error from the terminal.

    ITK warns thousands of times where an image is odd. The first lines go to the debug log.
    """
    messages = Messages()
    with _streams, tempfile.TemporaryFile() as stream:
        _flush()
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
            yield messages
        finally:
            _flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            stream.seek(0)
            messages.text = stream.read().decode('utf-8', 'replace')
    lines = [line.strip() for line in messages.text.splitlines() if line.strip()]
    for line in lines[:SHOWN]:
        logger.debug('ANTs: %s', line)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def check_ended(code: int, text: str) -> None:
    """Raise an error if antsRegistration has failed.

    Parameters
    ----------
    code : int
        Exit code.
    text : str
        Everything that it has written.

    Raises
    ------
    RuntimeError
        If its computation failed, as for images without overlap.
    AntsError
        If it failed for another reason, such as a file that it cannot write.
    """
    if code == 0:
        return
    described = re.search(r'^Description: (.*)', text, re.MULTILINE)
    reason = described[1] if described else f'exit code {code}'
    if _OF_AN_IMAGE.search(text):
        raise RuntimeError(f'antsRegistration: {reason}')
    raise AntsError(f'antsRegistration could not run ({reason}).')
