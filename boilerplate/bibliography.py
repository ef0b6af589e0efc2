"""Bibliography of the methods text, read from the packaged BibTeX file."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

BIBLIOGRAPHY = Path(__file__).with_name('references.bib')

_ENTRY = re.compile(r'@\w+\{([^,\s]+),(.*?)\n\}', re.DOTALL)
_FIELD = re.compile(r'^\s*(\w+)\s*=\s*\{(.*?)\},?\s*$', re.MULTILINE)


@cache
def references() -> dict[str, dict[str, str]]:
    """Read all references.

    Returns
    -------
    dict
        Fields in lower case without BibTeX braces, by key.

    Examples
    --------
    >>> references()['n4']['year']
    '2010'
    """
    text = BIBLIOGRAPHY.read_text(encoding='utf-8')
    return {
        key: {name.lower(): re.sub(r'[{}]', '', value) for name, value in _FIELD.findall(body)}
        for key, body in _ENTRY.findall(text)
    }


def short_citation(key: str) -> str:
    """Return author and year as cited in a text.

    Examples
    --------
    >>> short_citation('n4')
    'Tustison et al., 2010'
    >>> short_citation('missing')
    'missing'
    """
    entry = references().get(key)
    if entry is None:
        return key
    names = [name.split(',')[0].strip() for name in entry.get('author', key).split(' and ')]
    if 'others' in names:
        names = [names[0], '', '']
    many = {1: names[0], 2: ' and '.join(names)}.get(len(names), f'{names[0]} et al.')
    return f'{many}, {entry["year"]}' if 'year' in entry else many


def full_reference(key: str) -> str:
    """Return one reference as plain text."""
    entry = references()[key]
    names = [name for name in entry.get('author', '').split(' and ') if name != 'others']
    shown = '; '.join(names[:5]) + ('; et al.' if len(names) > 5 else '')
    source = entry.get('journal') or entry.get('booktitle') or entry.get('howpublished') or ''
    volume = f' {entry["volume"]}' if 'volume' in entry else ''
    pages = f': {entry["pages"].replace("--", "-")}' if 'pages' in entry else ''
    year = f' ({entry["year"]})' if 'year' in entry else ''
    doi = f' doi:{entry["doi"]}' if 'doi' in entry else ''
    shown = f'{shown}{year}' if year else shown.rstrip('.')
    return f'{shown}. {entry.get("title", key)}. {source}{volume}{pages}.{doi}'.strip()
