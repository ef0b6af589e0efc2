"""Records come back from JSON as they were, and nothing else comes through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bids_interp.errors import ImageError
from bids_interp.records import RecordError, from_plain, key, read_record, to_plain


@dataclass(frozen=True)
class Part:
    number: int
    size: float | Sequence[float] = 1.5


@dataclass(frozen=True, kw_only=True)
class Whole:
    where: Path = key('WherePath')
    parts: Mapping[str, Part]
    pair: tuple[str, int]
    many: tuple[Part, ...] = ()
    note: str | None = None
    flag: bool = False
    maybe: float | None
    free: Any = 0


WHOLE = Whole(
    where=Path('a/b'),
    parts={'x': Part(1), 'y': Part(2, [0.5, 1])},
    pair=('p', 3),
    many=(Part(7, 2),),
    maybe=None,
)
PLAIN = {
    'WherePath': 'a/b',
    'parts': {'x': {'number': 1, 'size': 1.5}, 'y': {'number': 2, 'size': [0.5, 1]}},
    'pair': ['p', 3],
    'many': [{'number': 7, 'size': 2}],
    'flag': False,
    'maybe': None,
    'free': 0,
}


def test_there_and_back() -> None:
    assert to_plain(WHOLE) == PLAIN
    assert from_plain(Whole, PLAIN) == WHOLE
    assert list(to_plain(WHOLE)) == list(PLAIN)


@pytest.mark.parametrize(
    ('changes', 'place'),
    [
        ({'WherePath': 3}, 'WherePath'),
        ({'where': 'a'}, 'where'),
        ({'parts': {'x': {}}}, 'parts.x.number'),
        ({'parts': {'x': {'number': 1, 'size': [1, '2']}}}, 'parts.x.size[1]'),
        ({'parts': {'x': {'number': True}}}, 'parts.x.number'),
        ({'parts': {'x': {'number': 1.0}}}, 'parts.x.number'),
        ({'parts': []}, 'parts'),
        ({'pair': ['p']}, 'pair'),
        ({'pair': ['p', 'q']}, 'pair[1]'),
        ({'pair': 'pq'}, 'pair'),
        ({'many': [3]}, 'many[0]'),
        ({'note': 3}, 'note'),
        ({'flag': 1}, 'flag'),
        ({'maybe': 'no'}, 'maybe'),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(RecordError) as caught:
        from_plain(Whole, PLAIN | changes)
    assert caught.value.key_path == place


def test_a_missing_key_is_named_and_an_optional_one_may_be() -> None:
    short = {name: PLAIN[name] for name in ('WherePath', 'parts', 'pair', 'maybe')}
    assert from_plain(Whole, short).many == ()
    for name in short:
        with pytest.raises(RecordError) as caught:
            from_plain(Whole, {k: v for k, v in short.items() if k != name})
        assert caught.value.key_path == name


def test_more_keys_are_ignored_where_that_is_said() -> None:
    assert from_plain(Whole, PLAIN | {'more': 1}, open_ended=True) == WHOLE
    parts = {'x': {'number': 1, 'more': 2}}
    with pytest.raises(RecordError):
        from_plain(Whole, PLAIN | {'parts': parts}, open_ended=True)


@pytest.mark.parametrize('text', ['{', '[]', '{"number": "x"}'])
def test_a_file_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / 'part.json').write_text(text)
    with pytest.raises(ImageError) as caught:
        read_record(Part, tmp_path / 'part.json', ImageError, 'Make it again.')
    assert str(tmp_path / 'part.json') in caught.value.message
    assert caught.value.advice == 'Make it again.'
    with pytest.raises(ImageError):
        read_record(Part, tmp_path / 'none.json', ImageError)
