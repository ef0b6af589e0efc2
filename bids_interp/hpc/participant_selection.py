"""Participant selection: those that get a job."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.errors import NothingToDoError
from bids_interp.levels.image_reports import is_done
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')


@dataclass(frozen=True)
class ParticipantSelection:
    """The participants to process.

    Parameters
    ----------
    records : tuple of T1wRecord
        Images of the participants.
    participants : tuple of str
        Labels, sorted.
    done : tuple of str
        Skipped participants, whose images are all finished.
    """

    records: tuple[T1wRecord, ...]
    participants: tuple[str, ...]
    done: tuple[str, ...] = ()


def select_participants(settings: Settings, *, only_missing: bool = False) -> ParticipantSelection:
    """Return the participants that the participant level would process.

    Parameters
    ----------
    settings : Settings
        Settings of the participant level.
    only_missing : bool
        Skip participants whose images are all finished.

    Raises
    ------
    NothingToDoError
        If no participant is left.
    InputDatasetError
        If the dataset cannot be used.
    """
    records = [record for record in collect(settings) if _is_one_line(record)]
    everybody = {record.subject for record in records}
    done: set[str] = set()
    if only_missing:
        done = everybody - {r.subject for r in records if not is_done(settings, r.prefix)}
    left = tuple(sorted(everybody - done))
    if not left:
        raise NothingToDoError(
            f'All {len(done)} participants are finished in {settings.output_dir}.',
            'To process them again, leave out --only-missing.',
        )
    kept = tuple(record for record in records if record.subject not in done)
    return ParticipantSelection(kept, left, tuple(sorted(done)))


def _is_one_line(record: T1wRecord) -> bool:
    """Tell whether a list of participants can hold the label; warn if it cannot."""
    if not record.subject.isprintable():
        logger.warning('No job is made for %r: %s', record.path.name, record.problem)
    return record.subject.isprintable()
