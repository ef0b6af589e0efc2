"""Query of the T1w images of a BIDS dataset; only the requested subjects are indexed."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.entities import SOURCE_ENTITIES
from bids_interp.bids.read.description import dataset_key, read_description
from bids_interp.bids.read.filters import load_filters
from bids_interp.bids.read.precomputed import find_precomputed
from bids_interp.errors import InputDatasetError, NothingToDoError, UsageError
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids.layout import BIDSFile, BIDSLayout

logger = logging.getLogger('bids_interp')

DEFAULT_FILTER = {'datatype': 'anat', 'suffix': 'T1w', 'extension': ['.nii', '.nii.gz']}
SHOWN = 20

_LABEL = re.compile(r'[a-zA-Z0-9+]+')


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
        Precomputed native T1w image and brain mask of this image.
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


def list_subjects(bids_dir: Path) -> list[str]:
    """Return the labels of all ``sub-`` folders of a dataset, sorted."""
    return sorted(p.name[4:] for p in bids_dir.glob('sub-*') if p.is_dir() and len(p.name) > 4)


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
    layout = _index(settings, wanted)
    everything = _find(layout, DEFAULT_FILTER, wanted)
    if not everything:
        where = f'of sub-{", sub-".join(wanted)}' if wanted else ''
        raise InputDatasetError(
            f'{settings.bids_dir} has no T1w image {where}'.rstrip() + '.',
            'Expected names: sub-<label>/[ses-<label>/]anat/*_T1w.nii[.gz].',
        )
    chosen = everything
    if settings.session_label:
        chosen = [f for f in chosen if f.entities.get('session') in settings.session_label]
        if not chosen:
            sessions = sorted({str(f.entities.get('session', '(none)')) for f in everything})
            raise NothingToDoError(
                f'No T1w image has the session {", ".join(settings.session_label)}. '
                f'Available: {_shorten(sessions)}.',
                'Check --session-label.',
            )
    if filters:
        kept = {f.path for f in _find(layout, {**DEFAULT_FILTER, **filters}, wanted)}
        chosen = [f for f in chosen if f.path in kept]
        if not chosen:
            raise NothingToDoError(
                f'The filter {json.dumps(filters)} of {settings.bids_filter_file} matches none of '
                f'the {len(everything)} T1w images.',
                'Check the values of --bids-filter-file; null means "without this entity".',
            )
    records = [_record(f, key) for f in chosen]
    siblings = [_record(f, key) for f in everything]
    records = find_precomputed(_refuse_shared(records), siblings, settings.derivatives)
    return sorted(records, key=lambda record: str(record.path))


def _index(settings: Settings, wanted: list[str]) -> BIDSLayout:
    """Return a pybids layout of the anatomical files of the wanted subjects."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    # A stored index also serves later runs with other participants, so it covers all of them.
    only = [] if settings.bids_database_dir else wanted
    indexer = BIDSLayoutIndexer(
        validate=False, index_metadata=False, ignore=_ignore_patterns(settings.bids_dir, only)
    )
    database = settings.bids_database_dir
    options: dict[str, Any] = {
        'validate': False,
        'indexer': indexer,
        'database_path': database,
        'config': ['bids', 'derivatives'],  # a filter may choose by desc-
    }
    layout = BIDSLayout(settings.bids_dir, **options)
    if database is not None and _is_stale(layout, settings.bids_dir, wanted):
        layout = BIDSLayout(settings.bids_dir, **options, reset_database=True)
    return layout


def _is_stale(layout: BIDSLayout, bids_dir: Path, wanted: list[str]) -> bool:
    """Return whether a stored index is of another dataset or lacks images of these subjects."""
    if Path(str(layout.root)).resolve() != bids_dir.resolve():
        return True
    if 'desc' not in layout.get_entities():
        return True  # written by an earlier version
    indexed = {f.filename for f in layout.get(suffix='T1w', **_subject_query(wanted))}
    subjects = wanted or list_subjects(bids_dir)
    present = {
        path.name
        for label in subjects
        for pattern in ('anat/*_T1w.nii*', 'ses-*/anat/*_T1w.nii*')
        for path in (bids_dir / f'sub-{label}').glob(pattern)
    }
    return present != {name for name in indexed if '.nii' in name}


def _ignore_patterns(bids_dir: Path, wanted: Iterable[str]) -> list[re.Pattern[str]]:
    """Return patterns of paths (below the root, with leading slash) that are not indexed."""
    labels = [re.escape(label) for label in wanted]
    patterns = [
        re.compile(r'^/(?!sub-|dataset_description\.json)'),
        re.compile(r'/\.'),
        re.compile(r'^/sub-[^/]+/(ses-[^/]+/)?(?!ses-|anat)[a-z]+(/|$)'),
    ]
    if labels:
        patterns.append(re.compile(rf'^/sub-(?!(?:{"|".join(labels)})(?:/|$))'))
    return patterns


def _subject_query(wanted: list[str]) -> dict[str, Any]:
    return {'subject': wanted} if wanted else {}


def _find(layout: BIDSLayout, filters: dict[str, Any], wanted: list[str]) -> list[Any]:
    from bids.layout import Query

    special = {None: Query.NONE, '*': Query.ANY}
    query: dict[str, Any] = {}
    for key, value in filters.items():
        values = [special.get(v, v) for v in (value if isinstance(value, list) else [value])]
        query[key] = values if isinstance(value, list) else values[0]
    asked = query.pop('subject', None)
    found = layout.get(**_subject_query(wanted), **query)
    if asked is None:
        return found
    labels = [str(s).removeprefix('sub-') for s in (asked if isinstance(asked, list) else [asked])]
    return [f for f in found if f.entities['subject'] in labels]


def _record(found: BIDSFile, key: str) -> T1wRecord:
    """Return the record of a pybids file, with the labels as written in its name.

    pybids cuts a label at the first invalid character, so that several images could look alike.
    Here the label is kept whole and reported as a problem.
    """
    path = Path(found.path)
    stem = path.name.split('.')[0]
    pairs = (part.partition('-') for part in stem.split('_'))
    written = {short: label for short, _, label in pairs if label}
    folders = _folders(path)
    labels = {**written, **folders}
    labels = {short: labels[short] for short in SOURCE_ENTITIES if short in labels}
    wrong = [label for label in labels.values() if not _LABEL.fullmatch(label)]
    absent = [f'{s}-{label}' for s, label in folders.items() if f'_{s}-{label}_' not in f'_{stem}_']
    # Workflows and files are named by these entities, so they must be safe in any case.
    entities = {short: re.sub(r'[^\w+-]', '_', label) for short, label in labels.items()}
    problem = ''
    if wrong:
        problem = (
            f'{path}: the label {wrong[0]} may contain only letters and digits (BIDS). '
            'Rename it in folders, files and tables.'
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
        short, _, label = folder.name.partition('-')
        if short in ('sub', 'ses') and label:
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
