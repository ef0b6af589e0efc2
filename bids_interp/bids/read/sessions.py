"""Sessions of a participant, in the order of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bids_interp.bids.read.anat_files import SUFFIXES, suffix_of
from bids_interp.bids.read.participants import is_missing
from bids_interp.bids.read.scan_files import parse_number
from bids_interp.bids.read.tsv import Row, read_rows
from bids_interp.errors import InputDatasetError


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares numbers by value and the rest as text.

    Examples
    --------
    >>> sorted(['10', '2', '1', 'b', 'a2', 'a10'], key=natural_key)
    ['1', '2', '10', 'a2', 'a10', 'b']
    """
    parts = re.findall(r'\d+|\D+', text)
    return [(0, int(part), '') if part.isdigit() else (1, 0, part) for part in parts]


def order_sessions(bids_dir: Path, subject: str, sessions: Sequence[str]) -> tuple[list[str], bool]:
    """Sort the sessions of a participant by time.

    Uses ``acq_time`` in ``sub-*_sessions.tsv``, else ``acq_time`` of the T1w images in
    ``*_scans.tsv``, else ``age`` in ``sub-*_sessions.tsv``, else the order of its rows.

    Parameters
    ----------
    bids_dir : pathlib.Path
        BIDS dataset.
    subject : str
        Label without ``sub-``.
    sessions : sequence of str
        Labels without ``ses-``.

    Returns
    -------
    list of str, bool
        Sorted sessions, and whether the dataset defines their order; otherwise they are sorted by
        name.
    """
    by_name = sorted(sessions, key=natural_key)
    folder = bids_dir / f'sub-{subject}'
    rows = {
        row.get('session_id', '').removeprefix('ses-'): row
        for row in _rows(folder / f'sub-{subject}_sessions.tsv')
    }
    listed = list(rows)
    keys = (
        {name: _time(row.get('acq_time')) for name, row in rows.items()},
        {name: _scanned(folder / f'ses-{name}', f'sub-{subject}_ses-{name}') for name in by_name},
        {name: parse_number(row.get('age')) for name, row in rows.items()},
        {name: float(listed.index(name)) for name in listed},
    )
    for key in keys:
        found = {name: value for name in by_name if (value := key.get(name)) is not None}
        if len(found) == len(by_name) == len(set(found.values())):
            return sorted(by_name, key=lambda name: found[name]), True
    return by_name, len(by_name) < 2


def _scanned(folder: Path, prefix: str) -> float | None:
    """Return the time of the first T1w image of a session."""
    times = [
        _time(row.get('acq_time'))
        for row in _rows(folder / f'{prefix}_scans.tsv')
        if suffix_of(Path(row.get('filename', ''))) in SUFFIXES
    ]
    return min((time for time in times if time is not None), default=None)


def _rows(path: Path) -> list[Row]:
    """Read the rows of an optional table."""
    try:
        return read_rows(path)
    except InputDatasetError:
        return []


def _time(text: str | None) -> float | None:
    """Convert a date and time to seconds."""
    if text is None or is_missing(text):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
