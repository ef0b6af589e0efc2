"""Tables of participants that are no tables, or that grow when they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.case import Bases, Case

_HEAD = b'participant_id\tgroup\n'


def _many_columns() -> bytes:
    return b'\t'.join([b'participant_id', *(b'c%d' % i for i in range(200_000))]) + b'\nsub-01\n'


def _short_rows() -> bytes:
    """Half a megabyte that would become 10^9 cells."""
    return b'\t'.join([b'participant_id', *(b'c%d' % i for i in range(20_000))]) + b'\nx' * 50_000


_TABLES: dict[str, Callable[[], bytes]] = {
    'of zeros': lambda: bytes(1000),
    'of a byte order mark': lambda: b'\xef\xbb\xbf',
    'of blank lines': lambda: b'\n' * 100_000,
    'of tabs': lambda: b'\t' * 100_000,
    'that is an image': lambda: b'\x89PNG\r\n\x1a\n' + bytes(range(256)),
    'in UTF-32': lambda: 'participant_id\tgroup\nsub-01\tx\n'.encode('utf-32-le'),
    'in UTF-8 that is not': lambda: _HEAD + b'sub-01\t\xc0\xaf\n',
    'with half a character': lambda: _HEAD + b'sub-01\t\xed\xa0\x80\n',
    'of one long line': lambda: b'x' * 20_000_000,
    'of a JSON text': lambda: b'{"participant_id": ["sub-01"]}\n',
    'of a web page': lambda: b'<!doctype html>\n<title>Log in</title>\n',
    'of a pointer to a large file': lambda: b'version https://git-lfs.github.com/spec/v1\noid x\n',
    'of rows that are shorter': _short_rows,
    'of semicolons': lambda: b'participant_id;group\nsub-01;x\n',
    'of a spreadsheet': lambda: b'PK\x03\x04' + bytes(100),
    'with a row of tabs and text': lambda: _HEAD + b'sub-01' + b'\t' * 1000 + b'x\n',
}
#: Odd, but tables.
_READ: dict[str, Callable[[], bytes]] = {
    'of many columns': _many_columns,
    'of many rows': lambda: _HEAD + b'sub-01\tx\n' * 50_000,
    'with a formula': lambda: _HEAD + b'sub-01\t=cmd|"/c calc"!A1\n',
    'with a page': lambda: _HEAD + b'sub-01\t<script>alert(1)</script>\n',
    'with a terminal sequence': lambda: _HEAD + b'sub-01\t\x1b[2J\x1b]0;x\x07\n',
    'with names that lead upwards': lambda: _HEAD + b'../../etc/passwd\tx\n',
    'with a column without a name': lambda: b'participant_id\t\t\nsub-01\ta\tb\n',
}


def _file(what: str, content: Callable[[], bytes], **expected: Any) -> Case:
    def make(folder: Path, bases: Bases) -> Path:
        path = folder / 'participants.tsv'
        path.write_bytes(content())
        return path

    return Case(f'table {what}', 'table', make, **expected)


CASES = [
    *(_file(what, content) for what, content in _TABLES.items()),
    *(_file(what, content, refused=False) for what, content in _READ.items()),
]
