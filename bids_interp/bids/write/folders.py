"""Folders for output: permissions, free space and nesting."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bids_interp.container import bind_advice
from bids_interp.errors import OutputError


def check_writable(folder: Path, what: str, *, create: bool = True) -> None:
    """Create a folder if needed, and check that files can be written in it.

    Parameters
    ----------
    folder : Path
        Folder to check.
    what : str
        Purpose of the folder, used in the error.
    create : bool
        Create the folder; otherwise only check the permissions of the existing parent.

    Raises
    ------
    OutputError
        If the folder cannot be created or is not writable.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f'The {what} {folder} cannot be created: {existing} is not a folder.')
    if not create:
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(f'The {what} {folder} is not writable.', bind_advice(folder) or None)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b'0' * 4096)
    except OSError as error:
        raise OutputError(
            f'The {what} {folder} is not writable: {error.strerror or error}.',
            bind_advice(folder) or None,
        ) from error


def check_space(needs: Mapping[Path, int]) -> None:
    """Check that each file system has enough free space.

    Parameters
    ----------
    needs : dict of Path to int
        Bytes to be written below each existing folder.

    Raises
    ------
    OutputError
        If a file system has too little free space.
    """
    by_device: dict[int, int] = {}
    for folder, size in needs.items():
        device = folder.stat().st_dev
        by_device[device] = by_device.get(device, 0) + size
        free = shutil.disk_usage(folder).free
        if free < by_device[device]:
            raise OutputError(
                f'{folder} has {free / 1e6:.0f} MB free; '
                f'about {by_device[device] / 1e6:.0f} MB are needed.',
                'Free some space, or choose other folders for the output and --work-dir.',
            )


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether a path is the folder or inside it, after resolving links.

    Examples
    --------
    >>> is_inside(Path('/data/bids/out'), Path('/data/bids'))
    True
    >>> is_inside(Path('/data/bids-out'), Path('/data/bids'))
    False
    """
    path, folder = path.resolve(), folder.resolve()
    return path == folder or folder in path.parents
