"""Tab-separated tables of a dataset, without quoting, as BIDS says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from bids_interp.errors import InputDatasetError

Row = dict[str, str]

#: Cells that short rows may lack. A row of one cell in a table of many columns would grow.
MAX_LACKING = 10**7

_UTF_16 = (b'\xff\xfe', b'\xfe\xff')
_SAVE_AGAIN = 'Save it as UTF-8, for example with `iconv -f {} -t UTF-8`.'


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises
    ------
    InputDatasetError
        If the file cannot be read or has another encoding; the error names the encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputDatasetError(f'{path} cannot be read: {error}.') from error
    if content.startswith(_UTF_16):
        raise InputDatasetError(f'{path} is in UTF-16, not UTF-8.', _SAVE_AGAIN.format('UTF-16'))
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = 1 + content.count(b'\n', 0, error.start)
        raise InputDatasetError(
            f'{path} is not in UTF-8, but probably in Latin-1 (line {line} has the byte '
            f'0x{content[error.start]:02x}).',
            _SAVE_AGAIN.format('LATIN1'),
        ) from error


def read_cells(path: Path) -> list[list[str]]:
    """Read the cells of a table by lines, with the header, without blank lines.

    Quotation marks are ordinary characters. Lines end with LF, CR or both.

    Raises
    ------
    InputDatasetError
        If the file cannot be read or is not in UTF-8.
    """
    lines = re.split(r'\r\n|\r|\n', read_text(path))
    return [[cell.strip() for cell in line.split('\t')] for line in lines if line.strip()]


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a table as text; cells that a short row lacks are empty.

    Raises
    ------
    InputDatasetError
        If the file cannot be read, names a column twice, a row is longer than the header, or rows
        lack millions of cells.
    """
    header, *lines = read_cells(path) or [[]]
    twice = {name for name, count in Counter(header).items() if name and count > 1}
    if twice:
        raise InputDatasetError(
            f'{path} has more than one column {", ".join(sorted(twice))}.', 'Rename all but one.'
        )
    for number, cells in enumerate(lines, start=1):
        if any(cells[len(header) :]):
            raise InputDatasetError(
                f'Row {number} of {path} ({cells[0]}) has {len(cells)} cells, but there are '
                f'{len(header)} columns.',
                'Remove tabs from the text of its cells.',
            )
    lacking = sum(max(0, len(header) - len(cells)) for cells in lines)
    if lacking > MAX_LACKING:
        raise InputDatasetError(
            f'{path} has {len(header)} columns, but its rows lack {lacking} cells.',
            'Check that the table is complete and separated by tabs.',
        )
    padded = ([*cells, *[''] * len(header)] for cells in lines)
    return [{k: v for k, v in zip(header, cells, strict=False) if k} for cells in padded]
