"""Index of a BIDS dataset by pybids, which knows the entities that a filter may name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.entities import LABEL
from bids_interp.bids.read.anat_files import IMAGES, anat_files, list_subjects
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

#: Files that a filter selects from, unless it names these entities itself.
DEFAULT_FILTER: dict[str, Any] = {'datatype': 'anat', 'extension': list(IMAGES)}

#: Files of the index: only these levels, so that no link can make it endless.
_INDEXED = r'/(dataset_description\.json|sub-[^/]*(/ses-[^/]*)?(/anat(/[^./][^/]*)?)?)'


def open_index(settings: Settings, wanted: Sequence[str]) -> BIDSLayout:
    """Return a pybids layout of the anatomical files of the wanted subjects (all by default)."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    database = settings.bids_database_dir
    # A stored index also serves later runs with other participants, so it covers all of them.
    labels = [] if database else [re.escape(label) for label in wanted]
    others = [re.compile(rf'^/sub-(?!(?:{"|".join(labels)})(?:/|$))')] if labels else []
    indexer = BIDSLayoutIndexer(
        validate=False, index_metadata=False, ignore=[re.compile(rf'^(?!{_INDEXED}$)'), *others]
    )
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


def find(layout: BIDSLayout, filters: dict[str, Any]) -> set[Path]:
    """Return the images that a filter selects, relative to the root of the dataset.

    Parameters
    ----------
    layout : BIDSLayout
        Index of the dataset.
    filters : dict
        Values by pybids entity. None selects images without the entity, ``'*'`` with any value.
    """
    from bids.layout import Query

    special = {None: Query.NONE, '*': Query.ANY}
    query: dict[str, Any] = {}
    for key, value in {**DEFAULT_FILTER, **filters}.items():
        values = [special.get(v, v) for v in (value if isinstance(value, list) else [value])]
        query[key] = values if isinstance(value, list) else values[0]
    for key, prefix in (('subject', 'sub-'), ('session', 'ses-')):
        if key in query:
            values = query[key] if isinstance(query[key], list) else [query[key]]
            query[key] = [v.removeprefix(prefix) if isinstance(v, str) else v for v in values]
    return {Path(found.path).relative_to(str(layout.root)) for found in layout.get(**query)}


def _is_stale(layout: BIDSLayout, bids_dir: Path, wanted: Sequence[str]) -> bool:
    """Return whether a stored index is of another dataset or lacks images of these subjects."""
    if Path(str(layout.root)).resolve() != bids_dir.resolve():
        return True
    if 'desc' not in layout.get_entities():
        return True  # written by an earlier version
    subjects = [s for s in wanted or list_subjects(bids_dir) if LABEL.fullmatch(s)]
    files = layout.get(**DEFAULT_FILTER, subject=subjects)
    present = {path.name for subject in subjects for path in anat_files(bids_dir, subject)}
    return present != {file.filename for file in files}
