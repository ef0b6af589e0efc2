"""Writing so that nobody ever sees half a file, whoever else writes at the same time."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.errors import OutputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its place when all went well.

    The temporary name starts with a dot and is unique, so several processes may write the same
    file; the last one wins and readers see a whole file at any time. A file that would not
    change is left as it is.

    Parameters
    ----------
    path : path
        The file to write; missing folders are made.

    Yields
    ------
    pathlib.Path
        Where to write. It keeps the extension of ``path``.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f'.{uuid.uuid4().hex}_{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


#: Advice where no byte is free.
FULL_ADVICE = 'The disk or the quota is full: free some space and run the same command again.'


def _explained(error: OSError, path: Path) -> OutputError:
    if isinstance(error, OutputError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f'{path} cannot be written: {error.strerror}.', FULL_ADVICE)
    return OutputError(f'{path} cannot be written: {error.strerror or error}.')


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file (UTF-8) atomically; returns its path."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
    return Path(path)


def write_json(path: str | Path, content: Any) -> Path:
    """Write JSON atomically; numbers that JSON does not have become null.

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
    return write_text(path, json.dumps(plain(content), indent=2, allow_nan=False) + '\n')


def plain(value: Any) -> Any:
    """Turn numpy types and paths into what JSON can hold (NaN and infinity into None).

    Examples
    --------
    >>> plain({'a': np.float32(0.5), 'b': (1, float('nan'))})
    {'a': 0.5, 'b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
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
        One mapping from column to value per row; None and NaN become ``n/a``, booleans
        ``true`` and ``false``.
    columns : sequence of str, optional
        Order of the columns; that of the first row by default.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    ValueError
        If there is neither a row nor a list of columns.
    """
    if columns is None:
        if not rows:
            raise ValueError('A table without rows needs its columns named.')
        columns = list(rows[0])
    lines = ['\t'.join(columns)]
    lines += ['\t'.join(_cell(row.get(column)) for column in columns) for row in rows]
    return write_text(path, '\n'.join(lines) + '\n')


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None or value == '':
        return 'n/a'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'{value:.8g}'
    return str(value)


def copy_file(source: str | Path, path: str | Path) -> Path:
    """Copy a file atomically with the usual rights of a new file; returns the new path."""
    with atomic(path) as temporary:
        shutil.copyfile(source, temporary)
    return Path(path)


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
