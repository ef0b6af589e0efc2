"""Manifest of the files that a step has written, by which later damage is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from traceback import format_exception
from typing import Any

from bids_interp.bids.write.atomic import write_json
from bids_interp.records import parse_json

MANIFEST = '_files.json'


def run_recorded(node: Any, updatehash: bool, taskid: int) -> dict[str, Any]:
    """Run a node as nipype's ``run_node`` does, and record the files that it leaves."""
    # nipype writes files when it is imported, so the caches must be prepared before.
    from bids_interp.execution.nipype_internals import run_node

    result = run_node(node, updatehash, taskid)
    if result['traceback'] is None:
        try:
            write_manifest(Path(node.output_dir()))
        except OSError as error:  # the disk is full: the step could not be used by a later run
            result['traceback'] = format_exception(error)
    return result


def write_manifest(folder: Path) -> Path:
    """Write size and SHA-256 of every file of a finished step into its folder."""
    return write_json(
        folder / MANIFEST, {name: _describe(folder / name) for name in _names(folder)}
    )


def damage(folder: Path) -> str:
    """Return what differs from the manifest of a step; empty if all files are as written.

    Raises
    ------
    OSError
        If a file exists, but cannot be read now.

    Examples
    --------
    >>> damage(Path('nowhere'))
    '_files.json is missing or damaged'
    """
    try:
        recorded = dict(parse_json((folder / MANIFEST).read_text(encoding='utf-8')))
    except (FileNotFoundError, ValueError, TypeError):
        return f'{MANIFEST} is missing or damaged'
    for name, described in recorded.items():
        path = folder / name
        if not path.is_file():
            return f'{name} is missing'
        # The size is compared first, because hashing takes longer.
        if path.stat().st_size != described[0] or _describe(path) != described:
            return f'{name} was changed'
    return ''


def _names(folder: Path) -> list[str]:
    """Return the files of a step, without those that only nipype uses to describe it."""
    found = (path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
    return sorted(path.as_posix() for path in found if path.parts[0][0] not in '._')


def _describe(path: Path) -> list[Any]:
    with path.open('rb') as stream:
        return [path.stat().st_size, hashlib.file_digest(stream, 'sha256').hexdigest()]
