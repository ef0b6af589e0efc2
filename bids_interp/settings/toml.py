"""TOML of the settings: one line per setting, and a table of the derivatives."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bids_interp.errors import UsageError

#: A key such as ``a.b.c`` of 64 parts; :mod:`tomllib` needs minutes for some thousands.
_LONG_KEY = re.compile(r'(\.[^.=\n]{1,64}){64}')


def write_toml(values: Mapping[str, Any], derivatives: Collection[tuple[str, Path]]) -> str:
    """Return settings as TOML, without those that are None.

    Examples
    --------
    >>> print(write_toml({'doses': (0.5, 1), 'model': None}, [('prep', Path('/prep'))]), end='')
    doses = [0.5, 1]
    <BLANKLINE>
    [derivatives]
    "prep" = "/prep"
    """
    lines = [f'{name} = {_value(value)}' for name, value in values.items() if value is not None]
    if derivatives:
        lines += ['', '[derivatives]']
        lines += [f'{_quote(name)} = {_quote(str(path))}' for name, path in derivatives]
    return '\n'.join(lines) + '\n'


def read_toml(text: str, names: Collection[str], source: str) -> dict[str, Any]:
    """Return the settings in a TOML text.

    Parameters
    ----------
    text : str
        Content of a settings file.
    names : collection of str
        Allowed keys.
    source : str
        Name of the text in errors.

    Raises
    ------
    UsageError
        If the text is not TOML, or a key is not a setting.
    """
    if _LONG_KEY.search(text):
        raise UsageError(f'{source} has a key of too many parts.')
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f'{source} is not valid TOML: {error}.') from error
    for key in values:
        if key not in names:
            close = get_close_matches(key, names, n=1)
            hint = f' Did you mean {close[0]}?' if close else ''
            raise UsageError(f'{source} has the unknown key {key!r}.{hint}')
    return values


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return '[' + ', '.join(_value(item) for item in value) + ']'
    return _quote(str(value))


def _quote(text: str) -> str:
    escaped = text.replace('\\', '\\\\').replace('"', '\\"')
    escaped = ''.join(c if c >= ' ' and c != '\x7f' else f'\\u{ord(c):04x}' for c in escaped)
    return f'"{escaped}"'
