"""Log of a run, on the terminal and in a file."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

NAME = 'bids_interp'
NIPYPE = ('nipype', 'nipype.workflow', 'nipype.interface', 'nipype.utils')
_FORMAT = logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S')


def start_logging(verbose: int) -> logging.Logger:
    """Return the logger of a run.

    Parameters
    ----------
    verbose : int
        0: progress; 1: detailed progress; 2: messages of nipype; 3: debug messages of nipype.
    """
    logger = logging.getLogger(NAME)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    terminal = logging.StreamHandler(sys.stdout)
    terminal.setFormatter(_FORMAT)
    logger.addHandler(terminal)
    return logger


class _File(logging.FileHandler):
    """Log file that ignores a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def add_log_file(path: Path) -> None:
    """Also write the messages to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path, encoding='utf-8')
    handler.setFormatter(_FORMAT)
    logging.getLogger(NAME).addHandler(handler)


def nipype_level(verbose: int) -> int:
    """Return the level of nipype's loggers; its errors are reported by this package.

    Examples
    --------
    >>> nipype_level(0) > nipype_level(2)
    True
    """
    if verbose >= 3:
        return logging.DEBUG
    return logging.INFO if verbose == 2 else logging.CRITICAL


def quieten_nipype(level: int) -> None:
    """Set the level of nipype's loggers in this process."""
    for name in NIPYPE:
        logging.getLogger(name).setLevel(level)
