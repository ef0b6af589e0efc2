"""Participant tables of a dataset: ``participants.tsv`` and ``*_sessions.tsv``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.read.tsv import Row, read_rows
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.records import parse_json
from bids_interp.settings import Settings

# BIDS writes n/a; spreadsheets leave na and nan. A level named "none" is a value.
MISSING = ('', 'n/a', 'na', 'nan')
# Columns whose values are categories, even if they are written as numbers.
CATEGORIES = ('sex', 'gender', 'handedness', 'site', 'scanner', 'center', 'centre')


class ParticipantTables:
    """Tables participants.tsv and sessions.tsv of a dataset, or the table given by ``--labels``.

    Parameters
    ----------
    settings : Settings
        Settings with ``bids_dir``, and ``labels`` if another table is used.

    Raises
    ------
    InputDatasetError
        If the table is missing or cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.path = settings.labels or settings.bids_dir / 'participants.tsv'
        self.rows = read_participants(self.path)
        self.columns = list(self.rows[0])
        self._by_subject: dict[str, list[Row]] = {}
        for row in self.rows:
            label = row['participant_id'].removeprefix('sub-')
            self._by_subject.setdefault(label, []).append(row)
        self._sessions: dict[str, list[Row]] = {}
        if settings.labels is None:
            for record_file in sorted(settings.bids_dir.glob('sub-*/sub-*_sessions.tsv')):
                rows = read_rows(record_file)
                self._sessions[record_file.parent.name.removeprefix('sub-')] = rows
                self.columns += [c for c in (rows[0] if rows else {}) if c not in self.columns]

    def __contains__(self, subject: str) -> bool:
        return subject in self._by_subject

    def hint(self, subjects: Iterable[str]) -> str:
        """Return a hint if a subject has a row under another spelling; empty otherwise."""
        return look_alike(self._by_subject, subjects)

    def check_column(self, column: str, option: str) -> None:
        """Raise a UsageError if no table has the column."""
        if column in self.columns:
            return
        close = get_close_matches(column, self.columns, n=1, cutoff=0.4)
        hint = f' Did you mean {close[0]!r}?' if close else ''
        raise UsageError(
            f'{option} {column!r} is not a column of {self.path}.{hint}',
            f'Available columns: {", ".join(self.columns)}.',
        )

    def has_levels(self, column: str) -> bool:
        """Return whether the data dictionary of the table defines levels for a column."""
        try:
            content = parse_json(self.path.with_suffix('.json').read_text(encoding='utf-8-sig'))
        except (OSError, ValueError):
            return False
        entry = content.get(column) if isinstance(content, dict) else None
        return isinstance(entry, dict) and bool(entry.get('Levels'))

    def values(self, record: T1wRecord, column: str) -> list[str]:
        """Return the distinct values of a column for an image, from the session's table first."""
        own = [
            row
            for row in self._sessions.get(record.subject, [])
            if row.get('session_id', '').removeprefix('ses-') == record.session
        ]
        for rows in (own, self._of_participant(record)):
            found = _distinct(rows, column)
            if found:
                return found
        return []

    def values_of_all(self, column: str) -> dict[str, list[str]]:
        """Return the distinct values of a column over all rows of each participant, by label."""
        found: dict[str, list[str]] = {}
        for tables in (self._by_subject, self._sessions):
            for subject, rows in tables.items():
                found.setdefault(subject, []).extend(_distinct(rows, column))
        return {subject: list(dict.fromkeys(values)) for subject, values in found.items()}

    def _of_participant(self, record: T1wRecord) -> list[Row]:
        rows = self._by_subject.get(record.subject, [])
        if 'session_id' in self.columns and any(r.get('session_id') for r in rows):
            rows = [r for r in rows if r['session_id'].removeprefix('ses-') == record.session]
        return rows


def read_families(
    tables: ParticipantTables, subjects: Iterable[str], column: str | None
) -> dict[str, str]:
    """Return the family name of each participant.

    Participants that share a value are one family, also if they are linked only through other
    participants. A column that is filled for some sessions only thus splits no family. A
    participant without a value is a family of its own.

    Parameters
    ----------
    tables : ParticipantTables
        Tables of the dataset.
    subjects : iterable of str
        Labels of the participants.
    column : str, optional
        Column that identifies related images; by default each participant is a family.
    """
    if column is None:
        return {subject: subject for subject in subjects}
    values = tables.values_of_all(column)
    # Both participants and values are members; each member maps to its whole family.
    members_of: dict[str, set[str]] = {}
    for subject, own in values.items():
        joined = {f'sub-{subject}', *own}
        joined = joined.union(*(members_of.get(member, ()) for member in joined))
        members_of.update(dict.fromkeys(joined, joined))
    written = {value for own in values.values() for value in own}
    names = {subject: f'sub-{subject}' for subject in subjects}
    return {
        subject: min(members_of.get(name, set()) & written, default=name)
        for subject, name in names.items()
    }


def is_category(column: str) -> bool:
    """Return whether the values of a column are categories, even if they look like numbers.

    Parameters
    ----------
    column : str
        Name of the column; case is ignored.

    Returns
    -------
    bool
        True for the columns in ``CATEGORIES``.

    Examples
    --------
    >>> is_category('Site')
    True
    >>> is_category('age')
    False
    """
    return column.lower() in CATEGORIES


def read_participants(path: Path) -> list[Row]:
    """Read the rows of a table of participants.

    Raises
    ------
    InputDatasetError
        If the file is missing, cannot be read, or has no rows or no column participant_id.
    """
    if not path.is_file():
        raise InputDatasetError(
            f'{path} does not exist, so the labels of the participants are missing.',
            'Add participants.tsv to the dataset, or pass a table with --labels FILE.tsv.',
        )
    rows = read_rows(path)
    if not rows or 'participant_id' not in rows[0]:
        columns = f' (columns: {", ".join(rows[0])})' if rows else ''
        raise InputDatasetError(
            f'{path} has no rows or no column participant_id{columns}.',
            'Provide a tab-separated table with one row per participant.',
        )
    return rows


def look_alike(rows: Iterable[str], subjects: Iterable[str]) -> str:
    """Return a hint if a table has a row for a subject under another spelling.

    Parameters
    ----------
    rows : iterable of str
        Labels in the table.
    subjects : iterable of str
        Labels of the dataset, without ``sub-``.

    Returns
    -------
    str
        A sentence about the first such subject; empty if there is none.

    Examples
    --------
    >>> look_alike(['1', '02'], ['01', '02'])
    "The row '1' looks like sub-01: write sub-01."
    >>> look_alike(['01', '10', ''], ['01', '10', '010', '0'])
    ''
    """
    known, labels = list(rows), list(subjects)
    spelled = {_plain(row): row for row in known if _plain(row) and row not in labels}
    for subject in labels:
        row = spelled.get(_plain(subject))
        if row is not None and subject not in known:
            return f'The row {row!r} looks like sub-{subject}: write sub-{subject}.'
    return ''


def _plain(label: str) -> str:
    """Return a label without quotation marks, prefix, case, leading zeros and decimals."""
    bare = label.strip('"\' ').lower().removeprefix('sub-')
    return re.sub(r'\.0+$', '', bare).lstrip('0')


def _distinct(rows: list[Row], column: str) -> list[str]:
    """Return the distinct non-missing values of a column."""
    found = (row[column] for row in rows if column in row and not is_missing(row[column]))
    return list(dict.fromkeys(found))


def is_missing(value: str) -> bool:
    """Return whether a cell is marked as missing."""
    return value.lower() in MISSING


def as_numbers(values: Sequence[str | None]) -> np.ndarray | None:
    """Return the values (N,) as floats, NaN if missing; None if any is not a number.

    Examples
    --------
    >>> as_numbers(['1', None, '2.5'])
    array([1. , nan, 2.5])
    >>> as_numbers(['M', 'F']) is None
    True
    """
    try:
        return np.array([math.nan if v is None else float(v) for v in values])
    except ValueError:
        return None
