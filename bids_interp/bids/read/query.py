"""Which T1w images a BIDS dataset holds; only the requested subjects are looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.entities import SOURCE_ENTITIES
from bids_interp.bids.read.filters import load_filters
from bids_interp.bids.read.precomputed import find_precomputed
from bids_interp.container import bind_advice
from bids_interp.errors import InputDatasetError, NothingToDoError, UsageError
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids.layout import BIDSFile, BIDSLayout

DEFAULT_FILTER = {'datatype': 'anat', 'suffix': 'T1w', 'extension': ['.nii', '.nii.gz']}
SHOWN = 20

_LABEL = re.compile(r'[a-zA-Z0-9+]+')


@dataclass(frozen=True)
class T1wRecord:
    """One T1w image of the input dataset, to be processed on its own.

    Parameters
    ----------
    path : Path
        The image.
    subject, session : str
        Labels without prefix, of the folders; `session` may be None.
    entities : dict
        Entities as in the file name, in its order: ``{'sub': '01', 'run': '1'}``.
    dataset_key : str
        DOI or name of the dataset, under which model bundles know their training data.
    derivative_t1w, derivative_mask : Path, optional
        Precomputed native T1w image and brain mask of this very image.
    problem : str
        Why its outputs could not be told from those of another image; it is refused then.
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
        """The file name without suffix.

        Examples
        --------
        >>> entities = {'sub': '01', 'ses': 'a', 'run': '1'}
        >>> T1wRecord(Path('x'), '01', 'a', entities).prefix
        'sub-01_ses-a_run-1'
        """
        return '_'.join(f'{key}-{value}' for key, value in self.entities.items())


def read_description(bids_dir: Path) -> dict[str, Any]:
    """Return ``dataset_description.json`` of a dataset.

    Raises
    ------
    InputDatasetError
        If the folder or the file is missing or is no valid description.
    """
    if not bids_dir.is_dir():
        raise InputDatasetError(
            f'The input dataset {bids_dir} is not a folder.', bind_advice(bids_dir) or None
        )
    path = bids_dir / 'dataset_description.json'
    if not path.is_file():
        raise InputDatasetError(
            f'{bids_dir} is not a BIDS dataset: it has no dataset_description.json.',
            'Give the root of a BIDS dataset as the first argument; the file needs at least '
            '{"Name": "...", "BIDSVersion": "1.10.0"}. ' + bind_advice(bids_dir),
        )
    try:
        description = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError) as error:
        raise InputDatasetError(f'{path} cannot be read as JSON: {error}.') from error
    if not isinstance(description, dict):
        raise InputDatasetError(f'{path} must hold a JSON object.')
    if not isinstance(description.get('Name'), str) or 'BIDSVersion' not in description:
        raise InputDatasetError(
            f'{path} lacks the required Name or BIDSVersion.', 'Add both to the file.'
        )
    return description


def dataset_key(description: dict[str, Any]) -> str:
    """Return the DOI of a dataset, or its name where it has none.

    Examples
    --------
    >>> dataset_key({'Name': 'study', 'DatasetDOI': 'doi:10.1/x'})
    'doi:10.1/x'
    """
    return str(description.get('DatasetDOI') or description.get('Name') or '')


def list_subjects(bids_dir: Path) -> list[str]:
    """Return the labels of all ``sub-`` folders of a dataset, sorted."""
    return sorted(p.name[4:] for p in bids_dir.glob('sub-*') if p.is_dir() and len(p.name) > 4)


def missing_subjects(settings: Settings) -> list[str]:
    """Return the requested labels that the dataset does not have.

    Raises
    ------
    NothingToDoError
        If none of the requested labels is there.
    UsageError
        If one is missing and ``--fail-on-missing`` was given.
    InputDatasetError
        If the dataset has no subject at all.
    """
    known = list_subjects(settings.bids_dir)
    if not known:
        raise InputDatasetError(f'{settings.bids_dir} has no folder sub-<label>.')
    missing = [label for label in settings.participant_label if label not in known]
    if not missing:
        return []
    message = (
        f'{settings.bids_dir} has no participant {", ".join(missing)}. It has {_shorten(known)}.'
    )
    if len(missing) == len(settings.participant_label):
        raise NothingToDoError(message, 'Check --participant-label.')
    if settings.fail_on_missing:
        raise UsageError(message, 'Check --participant-label.')
    return missing


def collect(settings: Settings) -> list[T1wRecord]:
    """Return every T1w image that the settings select, each on its own.

    Images that cannot be told apart by their names come with a problem, and are to be refused.

    Raises
    ------
    InputDatasetError
        If the input is not a BIDS dataset, or holds no T1w image.
    NothingToDoError
        If labels, sessions or the filter select nothing.
    UsageError
        If the filter file or a derivatives folder is wrong.
    """
    description = read_description(settings.bids_dir)
    missing = missing_subjects(settings)
    wanted = [label for label in settings.participant_label if label not in missing]
    filters = load_filters(settings.bids_filter_file)
    key = dataset_key(description)
    layout = _index(settings, wanted)
    everything = _find(layout, DEFAULT_FILTER, wanted)
    if not everything:
        where = f'of sub-{", sub-".join(wanted)}' if wanted else ''
        raise InputDatasetError(
            f'{settings.bids_dir} holds no T1w image {where}'.rstrip() + '.',
            'T1w images are looked for as sub-<label>/[ses-<label>/]anat/*_T1w.nii[.gz].',
        )
    chosen = everything
    if settings.session_label:
        chosen = [f for f in chosen if f.entities.get('session') in settings.session_label]
        if not chosen:
            sessions = sorted({str(f.entities.get('session', '(none)')) for f in everything})
            raise NothingToDoError(
                f'No T1w image has the session {", ".join(settings.session_label)}. '
                f'There is {_shorten(sessions)}.',
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

    # An index that is kept serves later runs with other participants, so it holds all.
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
    """Tell whether a kept index is of another dataset or lacks images of wanted subjects."""
    if Path(str(layout.root)).resolve() != bids_dir.resolve():
        return True
    if 'desc' not in layout.get_entities():
        return True  # of an earlier version
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
    """Return patterns (of the path below the root, with leading slash) not to be indexed."""
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
    """Return the record of a pybids file, with labels as they are written in its name.

    pybids cuts a label at the first character that is not allowed, so that several images would
    seem to be one; here it is kept whole, and told.
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
    # Names of workflows and files are made of them, whatever the folders are called.
    entities = {short: re.sub(r'[^\w+-]', '_', label) for short, label in labels.items()}
    problem = ''
    if wrong:
        problem = (
            f'{path}: the label {wrong[0]} may hold only letters and digits (BIDS). '
            'Rename it in folders, files and tables.'
        )
    elif absent:
        problem = (
            f'{path} lies in {absent[0]}, but its name has no {absent[0]}. '
            'Rename the file or the folder.'
        )
    if absent:
        # It must not be taken for the image that belongs there.
        entities['misplaced'] = re.sub(r'[\W_]', '', stem)
    return T1wRecord(path, labels['sub'], labels.get('ses'), entities, key, problem=problem)


def _folders(path: Path) -> dict[str, str]:
    """Return the labels of the participant's and the session's folder that a file lies in.

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
    """Give images a problem whose outputs would have the same names.

    Not all entities are kept by the outputs, and ``.nii`` and ``.nii.gz`` are one image to them.
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
                f'{", ".join(others)} and {last} would {"all" if others[1:] else "both"} be '
                f'written as {prefix}. Rename or remove all but one of them, or choose one with '
                '--bids-filter-file.'
            )
    return [replace(r, problem=r.problem or problems.get(r.prefix, '')) for r in records]


def _shorten(labels: list[str]) -> str:
    shown = ', '.join(labels[:SHOWN])
    return shown if len(labels) <= SHOWN else f'{shown} and {len(labels) - SHOWN} more'
