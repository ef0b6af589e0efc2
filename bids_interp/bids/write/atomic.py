"""Atomic writing: readers only ever see complete files, even with concurrent writers."""

from __future__ import annotations

import errno
import filecmp
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bids.write.read_back import damage_of
from bids_interp.bids.write.temporaries import put_in_place, temporary_name
from bids_interp.errors import OutputError

#: Value of a table cell; None is written as ``n/a``.
Cell = str | float | bool | None


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Provide a temporary file that replaces ``path`` on success.

    The temporary name is unique and starts with a dot. Several processes may write the same file:
    the last one wins, and readers always see a complete file. A file with the same content is
    left unchanged.

    Parameters
    ----------
    path : path
        File to write; missing folders are created.

    Yields
    ------
    pathlib.Path
        Temporary file with the extension of ``path``.

    Raises
    ------
    OutputError
        If the disk is full or the folder is not writable.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        put_in_place(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


#: Advice when the disk is full.
FULL_ADVICE = 'The disk or the quota is full: free some space and run the same command again.'


def _explained(error: OSError, path: Path) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f'{path} cannot be written: {error.strerror}.', FULL_ADVICE)
    return OutputError(f'{path} cannot be written: {error.strerror or error}.')


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file (UTF-8) atomically; return its path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write JSON atomically; NaN and infinity become null.

    Parameters
    ----------
    path : path
        The file to write.
    content : mapping or list
        Plain types, numpy numbers and arrays, and paths.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    return write_text(path, json.dumps(to_json_types(content), indent=2, allow_nan=False) + '\n')


def to_json_types(value: Any) -> Any:
    """Convert numpy types and paths to JSON types (NaN and infinity to None).

    Examples
    --------
    >>> to_json_types({'a': np.float32(0.5), 'b': (1, float('nan'))})
    {'a': 0.5, 'b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json_types(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def write_tsv(
    path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> Path:
    """Write a BIDS table atomically.

    Parameters
    ----------
    path : path
        The file to write.
    rows : sequence of mapping
        Values by column; None and NaN become ``n/a``, booleans ``true`` and ``false``.
    columns : sequence of str, optional
        Columns in order; by default, the columns of the first row.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    ValueError
        If both rows and columns are missing.
    """
    if columns is None:
        if not rows:
            raise ValueError('A table without rows needs a list of columns.')
        columns = list(rows[0])
    lines = ['\t'.join(columns)]
    lines += ['\t'.join(_cell(row.get(column)) for column in columns) for row in rows]
    return write_text(path, '\n'.join(lines) + '\n')


def _cell(value: Any) -> str:
    value = to_json_types(value)
    if value is None or value == '':
        return 'n/a'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:.8g}'
    return str(value)


def copy_file(source: str | Path, path: str | Path) -> Path:
    """Copy a file atomically, with default permissions; return the new path.

    Raises
    ------
    OutputError
        If the copy cannot be read to its end; an earlier file at ``path`` is kept.
    """
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
        check_copy(source, temporary, path)
    return Path(path)


def check_copy(source: str | Path, written: Path, path: str | Path) -> None:
    """Read a copy to its end before it replaces the file at ``path``.

    Raises
    ------
    OutputError
        If it is damaged.
    """
    problem = damage_of(written)
    if problem:
        raise OutputError(
            f'{path} was not written, because {source} is damaged: {problem}.',
            'Run the same command again: damaged steps are repeated.',
        )


def no_map(path: str | Path) -> Path:
    """Leave a file of no bytes in the place of a map that turned out not to exist.

    nipype keeps the results of a node relative to the work directory, which may move; but only
    files, no empty names.
    """
    path = Path(path)
    path.write_bytes(b'')
    return path


def is_no_map(path: str | Path) -> bool:
    """Say whether a file stands for a map that does not exist, see :func:`no_map`."""
    return Path(path).stat().st_size == 0
