"""Records: dataclasses that are written to JSON and read back with every key and type checked."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bids_interp.errors import BidsInterpError

T = TypeVar('T')
#: A number that may be NaN, which JSON does not have: there it is null.
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
    """A value of a file that does not fit its record.

    Parameters
    ----------
    place : str
        Key of the value, with those around it: ``folds[0].temperature``.
    problem : str
        What is wrong with it.
    """

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f'{place}: {problem}' if place else problem)


def key(name: str, default: Any = MISSING) -> Any:
    """Field of a record that has another name in the file, such as ``FoldsUsed``."""
    return field(default=default, metadata={_KEY: name})


def to_plain(value: Any) -> Any:
    """Plain types for JSON.

    Parameters
    ----------
    value : object
        A record, or anything that holds records. Optional fields that are None are left out. A
        class with a ``to_dict`` of its own writes itself.

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
    """Undo :func:`to_plain`.

    Parameters
    ----------
    kind : type
        A record.
    plain : object
        Of JSON.
    open_ended : bool
        Keys of the outermost object that the record does not have are ignored.

    Raises
    ------
    RecordError
        Naming the key that is missing, unknown or of another type.
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
        A record.
    path : pathlib.Path
        The file.
    error, advice
        What is raised where it cannot be read, and what the user can do then.
    open_ended : bool
        See :func:`from_plain`.

    Raises
    ------
    BidsInterpError
        Of the class ``error``, naming the file and the key.
    """
    try:
        return from_plain(kind, json.loads(path.read_text('utf-8')), open_ended=open_ended)
    except (OSError, ValueError) as problem:
        raise error(f'{path} cannot be read: {problem}.', advice) from problem


def _key_of(item: Field[Any]) -> str:
    return item.metadata.get(_KEY, item.name)


@cache
def _types_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _record(kind: type[T], plain: object, place: str, open_ended: bool = False) -> T:
    if not isinstance(plain, Mapping):
        raise RecordError(place, f'an object is needed, not {_shown(plain)}')
    known = {_key_of(item): item for item in fields(kind)}  # type: ignore[arg-type]
    for name in plain:
        if name not in known and not open_ended:
            near = get_close_matches(str(name), known, n=1)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise RecordError(_inside(place, name), f'there is no such key{hint}')
    values = {}
    for name, item in known.items():
        if name in plain:
            hint = _types_of(kind)[item.name]  # type: ignore[arg-type]
            values[item.name] = _value(hint, plain[name], _inside(place, name))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise RecordError(_inside(place, name), 'this key is missing')
    try:
        return kind(**values)
    except BidsInterpError as error:
        raise RecordError(place, error.message.rstrip('.')) from error


def _value(kind: Any, plain: Any, place: str) -> Any:
    """A value of the type of a field."""
    if kind in (Any, object):
        return plain
    origin, arguments = get_origin(kind), get_args(kind)
    if kind == Measured:
        return _value(float, float('nan') if plain is None else plain, place)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, plain, place)
    if origin in (list, tuple, Sequence):
        return _sequence(origin, arguments, plain, place)
    if origin in (dict, Mapping):
        if not isinstance(plain, Mapping):
            raise RecordError(place, f'an object is needed, not {_shown(plain)}')
        return {
            name: _value(arguments[1], one, _inside(place, name)) for name, one in plain.items()
        }
    if hasattr(kind, 'from_dict'):
        return _own(kind, plain, place)
    if is_dataclass(kind):
        return _record(kind, plain, place)  # type: ignore[arg-type]
    if kind is Path and isinstance(plain, str):
        return Path(plain)
    fits = isinstance(plain, _SIMPLE.get(kind, ()))
    if not fits or (isinstance(plain, bool) and kind is not bool):
        raise RecordError(place, f'{_named(kind)} is needed, not {_shown(plain)}')
    return plain


def _one_of(kinds: tuple[Any, ...], plain: Any, place: str) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _value(kind, plain, place)
        except RecordError as error:
            errors.append(error)
    # An error inside of the value says more than that it is of no type at all.
    deepest = max(errors, key=lambda error: len(error.place))
    if deepest.place != place:
        raise deepest
    raise RecordError(place, f'{" or ".join(map(_named, kinds))} is needed, not {_shown(plain)}')


def _sequence(origin: Any, arguments: tuple[Any, ...], plain: Any, place: str) -> Any:
    if not isinstance(plain, list | tuple):
        raise RecordError(place, f'a list is needed, not {_shown(plain)}')
    kinds = [arguments[0]] * len(plain)
    if origin is tuple and Ellipsis not in arguments:
        kinds = list(arguments)
    if len(kinds) != len(plain):
        raise RecordError(place, f'{len(kinds)} values are needed, not {len(plain)}')
    made = [
        _value(kind, one, f'{place}[{index}]')
        for index, (kind, one) in enumerate(zip(kinds, plain, strict=True))
    ]
    return tuple(made) if origin is tuple else made


def _own(kind: Any, plain: Any, place: str) -> Any:
    """A value of a class that reads itself."""
    try:
        made = kind.from_dict(plain)
        known = made.to_dict()
        for name in plain:
            if name not in known:
                raise RecordError(_inside(place, name), 'there is no such key')
        return made
    except RecordError:
        raise
    except KeyError as error:
        raise RecordError(_inside(place, error.args[0]), 'this key is missing') from error
    except BidsInterpError as error:
        raise RecordError(place, error.message.rstrip('.')) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise RecordError(place, str(error).rstrip('.')) from error


def _inside(place: str, name: object) -> str:
    return f'{place}.{name}' if place else str(name)


def _named(kind: Any) -> str:
    names = {str: 'a text', bool: 'true or false', int: 'a whole number', float: 'a number'}
    names |= {type(None): 'null', dict: 'an object', Mapping: 'an object', Path: 'a path'}
    names |= dict.fromkeys((list, tuple, Sequence), 'a list')
    return names.get(get_origin(kind) or kind, getattr(kind, '__name__', str(kind)))


def _shown(plain: object) -> str:
    text = json.dumps(plain, default=str)
    return text if len(text) <= 40 else f'{text[:37]}...'
