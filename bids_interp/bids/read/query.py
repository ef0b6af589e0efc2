"""Query of the T1w images of a BIDS dataset."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_interp.bids.entities import LABEL, SOURCE_ENTITIES
from bids_interp.bids.read.anat_files import (
    SUFFIXES,
    Ignored,
    anat_files,
    list_subjects,
    suffix_of,
)
from bids_interp.bids.read.description import dataset_key, read_description
from bids_interp.bids.read.filters import load_filters
from bids_interp.bids.read.precomputed import find_precomputed
from bids_interp.constants import SEGMENTATIONS
from bids_interp.errors import InputDatasetError, NothingToDoError, UsageError
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')

SHOWN = 20


@dataclass(frozen=True)
class T1wRecord:
    """One T1w image of the input dataset; each image is processed separately.

    Parameters
    ----------
    path : Path
        The image.
    subject, session : str
        Labels of the folders, without prefix; `session` may be None.
    entities : dict
        Entities in the order of the file name: ``{'sub': '01', 'run': '1'}``.
    dataset_key : str
        DOI or name of the dataset, by which model bundles identify their training data.
    derivative_t1w, derivative_mask : Path, optional
        Precomputed native T1w image, and a brain mask in the same world, of this image.
    segmentation : Path, optional
        Label image of the regions of this image, by the tool that ``--atlas`` names.
    derivative_notes : tuple of str
        What the derivatives of other tools lack for this image.
    problem : str
        Reason why the image is refused, such as a name clash with another image; empty if valid.
    """

    path: Path
    subject: str
    session: str | None
    entities: dict[str, str] = field(hash=False)
    dataset_key: str = ''
    derivative_t1w: Path | None = None
    derivative_mask: Path | None = None
    segmentation: Path | None = None
    derivative_notes: tuple[str, ...] = ()
    problem: str = ''

    @property
    def prefix(self) -> str:
        """Return the file name without suffix.

        Examples
        --------
        >>> entities = {'sub': '01', 'ses': 'a', 'run': '1'}
        >>> T1wRecord(Path('x'), '01', 'a', entities).prefix
        'sub-01_ses-a_run-1'
        """
        return '_'.join(f'{key}-{value}' for key, value in self.entities.items())

    @property
    def suffix(self) -> str:
        """Return the BIDS suffix of the image."""
        return suffix_of(self.path)


def missing_subjects(settings: Settings) -> list[str]:
    """Return the requested labels that are missing from the dataset.

    Raises
    ------
    NothingToDoError
        If the dataset has none of the requested labels.
    UsageError
        If one is missing and ``--fail-on-missing`` is set.
    InputDatasetError
        If the dataset has no subjects.
    """
    existing = list_subjects(settings.bids_dir)
    if not existing:
        raise InputDatasetError(f'{settings.bids_dir} has no folder sub-<label>.')
    missing = [label for label in settings.participant_label if label not in existing]
    if not missing:
        return []
    message = (
        f'{settings.bids_dir} has no participant {", ".join(missing)}. '
        f'Available: {_shorten(existing)}.'
    )
    if len(missing) == len(settings.participant_label):
        raise NothingToDoError(message, 'Check --participant-label.')
    if settings.fail_on_missing:
        raise UsageError(message, 'Check --participant-label.')
    return missing


def collect(settings: Settings) -> list[T1wRecord]:
    """Return a record of every T1w image that the settings select.

    Images whose outputs would have the same name get a `problem` and must be refused.

    Raises
    ------
    InputDatasetError
        If the input is not a BIDS dataset or has no T1w image.
    NothingToDoError
        If labels, sessions or filter select no image.
    UsageError
        If the filter file or a derivatives folder is invalid.
    """
    description = read_description(settings.bids_dir)
    if 'BIDSVersion' not in description:
        logger.warning('%s/dataset_description.json lacks BIDSVersion.', settings.bids_dir)
    missing = missing_subjects(settings)
    wanted = [label for label in settings.participant_label if label not in missing]
    filters = load_filters(settings.bids_filter_file)
    key = dataset_key(description)
    ignored = Ignored(settings.bids_dir)
    everything = [
        record
        for subject in wanted or list_subjects(settings.bids_dir)
        for record in anat_records(ignored, subject, filters, key)
    ]
    if not everything:
        where = f'of sub-{", sub-".join(wanted)}' if wanted else ''
        raise InputDatasetError(
            f'{settings.bids_dir} has no T1w image {where}'.rstrip() + '.',
            'Expected names: sub-<label>/[ses-<label>/]anat/*_T1w.nii[.gz].',
        )
    chosen = _of_sessions(everything, settings.session_label)
    if filters or settings.bids_database_dir:
        chosen = _filtered(chosen, filters, settings, wanted)
    # A derivative of a T1w image also fits the entities of the T2w image beside it.
    kinds = {record.suffix for record in chosen}
    siblings = [record for record in everything if record.suffix in kinds]
    segmentation = settings.atlas if settings.atlas in SEGMENTATIONS else None
    records = find_precomputed(_refuse_shared(chosen), siblings, settings.derivatives, segmentation)
    return sorted(records, key=lambda record: str(record.path))


def anat_records(
    ignored: Ignored, subject: str, filters: Mapping[str, Any] | None = None, key: str = ''
) -> list[T1wRecord]:
    """Return the images of a participant that a filter may select.

    Unless the filter names ``part`` or ``suffix``, these are the magnitude images with the suffix
    T1w, or UNIT1 in a session without T1w.

    Parameters
    ----------
    ignored : Ignored
        Files that the dataset ignores.
    subject : str
        Label without ``sub-``.
    filters : mapping, optional
        Filter by pybids entity.
    key : str
        Key of the dataset.
    """
    named = filters or {}
    paths = ignored.kept(anat_files(ignored.root, subject))
    records = [_record(path, key) for path in paths]
    if 'part' not in named:
        records = [r for r in records if r.entities.get('part', 'mag') == 'mag']
    if 'suffix' in named:
        return records
    with_t1w = {record.session for record in records if record.suffix == SUFFIXES[0]}
    usual = {True: SUFFIXES[:1], False: SUFFIXES}
    return [r for r in records if r.suffix in usual[r.session in with_t1w]]


def _of_sessions(records: list[T1wRecord], sessions: Sequence[str]) -> list[T1wRecord]:
    """Return the images of the requested sessions; all without a request."""
    chosen = [r for r in records if not sessions or r.session in sessions]
    if not chosen:
        found = sorted({record.session or '(none)' for record in records})
        raise NothingToDoError(
            f'No T1w image has the session {", ".join(sessions)}. Available: {_shorten(found)}.',
            'Check --session-label.',
        )
    return chosen


def _filtered(
    records: list[T1wRecord], filters: dict[str, Any], settings: Settings, wanted: Sequence[str]
) -> list[T1wRecord]:
    """Return the images that the filter selects; those in misnamed folders stay, to be refused."""
    from bids_interp.bids.read.index import find, open_index

    layout = open_index(settings, wanted)
    if not filters:
        return records
    kept = {settings.bids_dir / path for path in find(layout, filters)}
    chosen = [r for r in records if r.path in kept or _misnamed(_folders(r.path).values())]
    if not any(record.path in kept for record in chosen):
        raise NothingToDoError(
            f'The filter {json.dumps(filters)} of {settings.bids_filter_file} matches none of '
            f'the {len(records)} images.',
            'Check the values of --bids-filter-file; null means "without this entity".',
        )
    return chosen


def _misnamed(labels: Iterable[str]) -> list[str]:
    """Return the labels that BIDS does not allow."""
    return [label for label in labels if not LABEL.fullmatch(label)]


def _record(path: Path, key: str) -> T1wRecord:
    """Return the record of an image, with the labels as written in its name and folders.

    Labels that BIDS does not allow are kept whole and reported as a problem.
    """
    stem = path.name.split('.nii')[0]
    pairs = (part.partition('-') for part in stem.split('_'))
    written = {short: label for short, dash, label in pairs if dash}
    folders = _folders(path)
    labels = {**written, **folders}
    labels = {short: labels[short] for short in SOURCE_ENTITIES if short in labels}
    wrong = _misnamed(labels.values())
    absent = [f'{s}-{label}' for s, label in folders.items() if f'_{s}-{label}_' not in f'_{stem}_']
    # Workflows and files are named by these entities, so they must be safe in any case.
    entities = {short: re.sub(r'[^\w+-]', '_', label) for short, label in labels.items()}
    problem = ''
    if wrong:
        problem = (
            f'{path}: the label {wrong[0] or "(empty)"} may contain only letters and digits '
            '(BIDS). Rename it in folders, files and tables.'
        )
    elif absent:
        problem = (
            f'{path} is in the folder {absent[0]}, but its name does not contain {absent[0]}. '
            'Rename the file or the folder.'
        )
    if absent:
        # Keeps the file from being confused with the image that belongs in this folder.
        entities['misplaced'] = re.sub(r'[\W_]', '', stem)
    return T1wRecord(path, labels['sub'], labels.get('ses'), entities, key, problem=problem)


def _folders(path: Path) -> dict[str, str]:
    """Return the labels of the participant and session folders that contain a file.

    Examples
    --------
    >>> _folders(Path('/bids/sub-01/ses-a/anat/sub-01_T1w.nii'))
    {'ses': 'a', 'sub': '01'}
    """
    labels: dict[str, str] = {}
    for folder in path.parents:
        short, dash, label = folder.name.partition('-')
        if short in ('sub', 'ses') and dash:
            labels[short] = label
        if short == 'sub':
            break
    return labels


def _refuse_shared(records: list[T1wRecord]) -> list[T1wRecord]:
    """Mark images whose outputs would have the same names.

    Outputs do not keep all entities, nor the difference between ``.nii`` and ``.nii.gz``.
    """
    by_prefix: dict[str, list[T1wRecord]] = {}
    for record in records:
        if not record.problem:
            by_prefix.setdefault(record.prefix, []).append(record)
    problems = {}
    for prefix, sharing in by_prefix.items():
        if len(sharing) > 1:
            *others, last = sorted(str(record.path) for record in sharing)
            problems[prefix] = (
                f'The outputs of {", ".join(others)} and {last} would all be named {prefix}. '
                'Rename or remove all but one of them, or select one with --bids-filter-file.'
            )
    return [replace(r, problem=r.problem or problems.get(r.prefix, '')) for r in records]


def _shorten(labels: list[str]) -> str:
    shown = ', '.join(labels[:SHOWN])
    return shown if len(labels) <= SHOWN else f'{shown} and {len(labels) - SHOWN} more'
