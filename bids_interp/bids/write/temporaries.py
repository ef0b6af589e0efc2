"""Temporary names of files and folders until they are complete, and what killed processes left."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Age from which a temporary file was left by a killed process. Locks do not work on every disk, so
#: another run may be writing.
LEFT_HOURS = 2.0
_TEMPORARY = re.compile(r'\.[0-9a-f]{32}_.')


def temporary_name(path: Path) -> Path:
    """Return a unique name beside a path, with the same extension, that starts with a dot."""
    return path.with_name(f'.{uuid.uuid4().hex}_{path.name}')


def put_in_place(new: Path, path: Path) -> None:
    """Flush a complete file or folder to the disk, then give it the name ``path``.

    After a power cut, the name stands for the old or the new content, never for an empty file. A
    quota that a network disk checks late is noticed here.

    Parameters
    ----------
    new : Path
        Complete file or folder on the disk of ``path``.
    path : Path
        Final name; a file is replaced.

    Raises
    ------
    OSError
        If the disk does not take what was written.
    """
    for part in new.rglob('*') if new.is_dir() else ():
        _flush(part)
    _flush(new)
    os.replace(new, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Write a file or the entries of a folder to the disk."""
    is_folder = path.is_dir()
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if not is_folder:  # some disks cannot flush folders
            raise
    finally:
        os.close(opened)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Provide a temporary folder that replaces ``path`` on success.

    An earlier folder is moved away before it is deleted, so that nobody ever sees a part of it.

    Parameters
    ----------
    path : Path
        Folder to make; the folder that contains it must exist.
    """
    scratch, old = temporary_name(path), temporary_name(path)
    scratch.mkdir()
    try:
        yield scratch
        if path.exists():
            path.rename(old)
        try:
            put_in_place(scratch, path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        for folder in (scratch, old):
            shutil.rmtree(folder, ignore_errors=True)


def remove_temporaries(folder: Path, *, deep: bool = True, hours: float) -> None:
    """Remove the temporary files and folders that killed processes have left in a folder.

    Parameters
    ----------
    folder : Path
        Folder; it need not exist.
    deep : bool
        Search its subfolders, too.
    hours : float
        Age at least.
    """
    latest = time.time() - 3600 * hours
    for path in list(folder.rglob('.*') if deep else folder.glob('.*')):
        if not _TEMPORARY.match(path.name):
            continue
        with suppress(OSError):
            if path.stat().st_mtime > latest:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
