"""Filters of T1w images, from the filter file of BIDS Apps."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bids_interp.errors import UsageError
from bids_interp.records import parse_json

# Queries for other apps, such as fMRIPrep: one file can serve several apps.
OTHER_QUERIES = ('bold', 'sbref', 'fmap', 'flair', 't2w', 'roi', 'dwi', 'asl', 'm0scan', 'pet')


@cache
def filter_keys() -> dict[str, str]:
    """Return the pybids entity of each key of a filter: every entity, also by its short name.

    Examples
    --------
    >>> filter_keys()['acquisition'], filter_keys()['acq'], filter_keys()['suffix']
    ('acquisition', 'acquisition', 'suffix')
    """
    keys: dict[str, str] = {}
    for config in ('bids.json', 'derivatives.json'):
        text = files('bids.layout').joinpath('config', config).read_text(encoding='utf-8')
        for entity in json.loads(text)['entities']:
            short = re.search(r'\]\+([a-z]+)-', entity['pattern'])
            keys |= {short[1]: entity['name']} if short else {}
            keys[entity['name']] = entity['name']
    return keys


def load_filters(path: Path | None) -> dict[str, Any]:
    """Read the filter of T1w images from a ``--bids-filter-file``, by pybids entities.

    ``null`` selects images without the entity, ``"*"`` images with any value of it.

    Raises
    ------
    UsageError
        If the file cannot be read, or contains an unknown query or entity.
    """
    if path is None:
        return {}
    try:
        queries = parse_json(path.read_text(encoding='utf-8-sig'))
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
    known = filter_keys()
    for key in chosen:
        if key not in known:
            close = get_close_matches(key, known, n=1, cutoff=0.3)
            hint = f' Did you mean {close[0]!r}?' if close else ''
            raise UsageError(f'{path}: unknown entity {key!r} in the query "t1w".{hint}')
        values = chosen[key] if isinstance(chosen[key], list) else [chosen[key]]
        if not all(map(_is_plain, values)):
            raise UsageError(
                f'{path}: {key!r} in the query "t1w" must be a value or a list of values.',
                'For example {"t1w": {"run": [1, 2]}}.',
            )
    return {known[key]: value for key, value in chosen.items()}


def _is_plain(value: Any) -> bool:
    """Return True for a text, a number of an index (64 bits), true, false or null."""
    if isinstance(value, int | float):
        return abs(value) < 2**63
    return value is None or isinstance(value, str)
