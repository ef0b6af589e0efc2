"""Filters of T1w images, from the filter file of BIDS Apps."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bids_interp.bids.entities import SOURCE_ENTITIES
from bids_interp.errors import UsageError

# Queries for other apps, such as fMRIPrep: one file can serve several apps.
OTHER_QUERIES = ('bold', 'sbref', 'fmap', 'flair', 't2w', 'roi', 'dwi', 'asl', 'm0scan', 'pet')
FILTER_KEYS = (
    *SOURCE_ENTITIES.values(),
    'suffix',
    'datatype',
    'extension',
    'space',
    'desc',
    'modality',
)


def load_filters(path: Path | None) -> dict[str, Any]:
    """Read the filter of T1w images from a ``--bids-filter-file``.

    ``null`` selects images without the entity, ``"*"`` images with any value of it.

    Raises
    ------
    UsageError
        If the file cannot be read, or contains an unknown query or entity.
    """
    if path is None:
        return {}
    try:
        queries = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError) as error:
        raise UsageError(f'--bids-filter-file {path} cannot be read: {error}.') from error
    if not isinstance(queries, dict) or not all(isinstance(q, dict) for q in queries.values()):
        raise UsageError(
            f'--bids-filter-file {path} must contain a JSON object of objects.',
            'For example {"t1w": {"acquisition": "mprage", "run": 1}}.',
        )
    chosen: dict[str, Any] = {}
    for name, query in queries.items():
        if name.lower() == 't1w':
            chosen = query
        elif name.lower() not in OTHER_QUERIES:
            raise UsageError(f'{path}: unknown query {name!r}; this app uses "t1w".')
    for key in chosen:
        if key not in FILTER_KEYS:
            close = get_close_matches(key, FILTER_KEYS, n=1, cutoff=0.3)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise UsageError(f'{path}: unknown entity {key!r} in the query "t1w".{hint}')
    return chosen
