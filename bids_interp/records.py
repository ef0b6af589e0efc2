"""Records: dataclasses that are written to JSON and read back with every key and type checked."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bids_interp.errors import BidsInterpError

T = TypeVar('T')
#: A number that may be NaN, which is null in JSON.
Measured = Annotated[float, 'null is NaN']
_KEY = 'key'
_SIMPLE: dict[type, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    type(None): (type(None),),
}


class RecordError(ValueError):
    """Invalid value in the file of a record.

    Parameters
    ----------
    key_path : str
        Key of the value, such as ``folds[0].temperature``.
    problem : str
        Description of the problem.
    """

    def __init__(self, key_path: str, problem: str) -> None:
        self.key_path, self.problem = key_path, problem
        super().__init__(f'{key_path}: {problem}' if key_path else problem)


def key(name: str, default: Any = MISSING) -> Any:
    """Return a field of a record with another name in the file, such as ``FoldsUsed``."""
    return field(default=default, metadata={_KEY: name})


def to_plain(value: Any) -> Any:
    """Return a record as plain types for JSON.

    Parameters
    ----------
    value : object
        Record, or a container of records. Optional fields that are None are omitted. The method
        ``to_dict`` of a class is used, if it has one.

    Examples
    --------
    >>> to_plain({'where': (Path('a'), None)})
    {'where': ['a', None]}
    """
    if hasattr(value, 'to_dict'):
        return value.to_dict()
    if is_dataclass(value):
        return {
            _key_of(item): to_plain(getattr(value, item.name))
            for item in fields(value)
            if not (item.default is None and getattr(value, item.name) is None)
        }
    if isinstance(value, Mapping):
        return {name: to_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: type[T], plain: object, *, open_ended: bool = False) -> T:
    """Return a record from plain types; the inverse of :func:`to_plain`.

    Parameters
    ----------
    kind : type
        Class of the record.
    plain : object
        Plain types from JSON.
    open_ended : bool
        Ignore unknown keys of the outermost object.

    Raises
    ------
    RecordError
        If a key is missing, unknown or of another type; the message names it.
    """
    return _record(kind, plain, '', open_ended)


def read_record(
    kind: type[T],
    path: Path,
    error: type[BidsInterpError],
    advice: str | None = None,
    *,
    open_ended: bool = False,
) -> T:
    """Read a record from a JSON file.

    Parameters
    ----------
    kind : type
        Class of the record.
    path : pathlib.Path
        JSON file.
    error, advice
        Class and advice of the error if the file cannot be read.
    open_ended : bool
        See :func:`from_plain`.

    Raises
    ------
    BidsInterpError
        If the file cannot be read; the message names the file and the key.
    """
    try:
        return from_plain(kind, parse_json(path.read_text('utf-8')), open_ended=open_ended)
    except (OSError, ValueError) as problem:
        raise error(f'{path} cannot be read: {problem}.', advice) from problem


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text of any origin.

    Raises
    ------
    ValueError
        If it is not JSON, is nested so deeply that Python gives up, or contains halves of
        characters (lone surrogates), which no file and no terminal can hold.

    Examples
    --------
    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    return content


def _key_of(item: Field[Any]) -> str:
    return item.metadata.get(_KEY, item.name)


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _record(kind: type[T], plain: object, key_path: str, open_ended: bool = False) -> T:
    if not isinstance(plain, Mapping):
        raise RecordError(key_path, f'an object is required, not {_shown(plain)}')
    expected = {_key_of(item): item for item in fields(kind)}  # type: ignore[arg-type]
    for name in plain:
        if name not in expected and not open_ended:
            near = get_close_matches(str(name), expected, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise RecordError(_inside(key_path, name), f'the key is unknown{hint}')
    values = {}
    for name, item in expected.items():
        if name in plain:
            hint = _types_of(kind)[item.name]  # type: ignore[arg-type]
            values[item.name] = _value(hint, plain[name], _inside(key_path, name))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise RecordError(_inside(key_path, name), 'the key is missing')
    try:
        return kind(**values)
    except BidsInterpError as error:
        raise RecordError(key_path, error.message.rstrip('.')) from error


def _value(kind: Any, plain: Any, key_path: str) -> Any:
    """Return a value as the type of a field."""
    if kind in (Any, object):
        return plain
    origin, arguments = get_origin(kind), get_args(kind)
    if kind == Measured:
        return _value(float, float('nan') if plain is None else plain, key_path)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, plain, key_path)
    if origin in (list, tuple, Sequence):
        return _sequence(origin, arguments, plain, key_path)
    if origin in (dict, Mapping):
        if not isinstance(plain, Mapping):
            raise RecordError(key_path, f'an object is required, not {_shown(plain)}')
        return {
            name: _value(arguments[1], one, _inside(key_path, name)) for name, one in plain.items()
        }
    if hasattr(kind, 'from_dict'):
        return _own(kind, plain, key_path)
    if is_dataclass(kind):
        return _record(kind, plain, key_path)  # type: ignore[arg-type]
    if kind is Path and isinstance(plain, str):
        return Path(plain)
    fits = isinstance(plain, _SIMPLE.get(kind, ()))
    if not fits or (isinstance(plain, bool) and kind is not bool):
        raise RecordError(key_path, f'{_named(kind)} is required, not {_shown(plain)}')
    if kind is float and abs(plain) > sys.float_info.max and isinstance(plain, int):
        raise RecordError(key_path, f'{_shown(plain)} is too large')
    return plain


def _one_of(kinds: tuple[Any, ...], plain: Any, key_path: str) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _value(kind, plain, key_path)
        except RecordError as error:
            errors.append(error)
    # An error inside the value is more specific than that no type matches.
    deepest = max(errors, key=lambda error: len(error.key_path))
    if deepest.key_path != key_path:
        raise deepest
    raise RecordError(
        key_path, f'{" or ".join(map(_named, kinds))} is required, not {_shown(plain)}'
    )


def _sequence(origin: Any, arguments: tuple[Any, ...], plain: Any, key_path: str) -> Any:
    if not isinstance(plain, list | tuple):
        raise RecordError(key_path, f'a list is required, not {_shown(plain)}')
    kinds = [arguments[0]] * len(plain)
    if origin is tuple and Ellipsis not in arguments:
        kinds = list(arguments)
    if len(kinds) != len(plain):
        raise RecordError(key_path, f'{len(kinds)} values are required, not {len(plain)}')
    made = [
        _value(kind, one, f'{key_path}[{index}]')
        for index, (kind, one) in enumerate(zip(kinds, plain, strict=True))
    ]
    return tuple(made) if origin is tuple else made


def _own(kind: Any, plain: Any, key_path: str) -> Any:
    """Return a value of a class with the method ``from_dict``."""
    try:
        made = kind.from_dict(plain)
        expected = made.to_dict()
        for name in plain:
            if name not in expected:
                raise RecordError(_inside(key_path, name), 'the key is unknown')
        return made
    except RecordError:
        raise
    except KeyError as error:
        raise RecordError(_inside(key_path, error.args[0]), 'the key is missing') from error
    except BidsInterpError as error:
        raise RecordError(key_path, error.message.rstrip('.')) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordError(key_path, str(error).rstrip('.')) from error


def _inside(key_path: str, name: object) -> str:
    return f'{key_path}.{name}' if key_path else str(name)


def _named(kind: Any) -> str:
    names = {str: 'a string', bool: 'true or false', int: 'a whole number', float: 'a number'}
    names |= {type(None): 'null', dict: 'an object', Mapping: 'an object', Path: 'a path'}
    names |= dict.fromkeys((list, tuple, Sequence), 'a list')
    return names.get(get_origin(kind) or kind, getattr(kind, '__name__', str(kind)))


def _shown(plain: object) -> str:
    text = json.dumps(plain, default=str)
    return text if len(text) <= 40 else f'{text[:37]}...'
