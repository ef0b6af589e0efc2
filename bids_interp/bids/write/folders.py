"""Folders that are written to: permissions, free space, and which contains which."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bids_interp.container import bind_advice
from bids_interp.errors import OutputError


def check_writable(folder: Path, what: str, *, create: bool = True) -> None:
    """Make a folder if it is not there, and find out whether files can be written in it.

    Parameters
    ----------
    folder : Path
        The folder.
    what : str
        What it is for, used in the error.
    create : bool
        Make it; otherwise only the rights of what exists are looked at.

    Raises
    ------
    OutputError
        If it cannot be made or written to.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f'The {what} {folder} cannot be made: {existing} is not a folder.')
    if not create:
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(
                f'The {what} {folder} cannot be written to.', bind_advice(folder) or None
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b'0' * 4096)
    except OSError as error:
        raise OutputError(
            f'The {what} {folder} cannot be written to: {error.strerror or error}.',
            bind_advice(folder) or None,
        ) from error


def check_space(needs: Mapping[Path, int]) -> None:
    """Compare what is needed with what is free, per file system.

    Parameters
    ----------
    needs : dict of Path to int
        Bytes that will be written below each existing folder.

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
                'Free space, or choose other folders for the output and with --work-dir.',
            )


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path is the folder or below it, links followed.

    Examples
    --------
    >>> is_inside(Path('/data/bids/out'), Path('/data/bids'))
    True
    >>> is_inside(Path('/data/bids-out'), Path('/data/bids'))
    False
    """
    path, folder = path.resolve(), folder.resolve()
    return path == folder or folder in path.parents
