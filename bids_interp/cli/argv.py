"""argv of BIDS Apps in the order that click expects.

click requires one option per value. Users of BIDS Apps write ``--participant-label 01 02 03``,
before or after the positional arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

#: Number of values of an option that takes a list.
MANY = -1


def normalise(
    argv: Sequence[str],
    n_values: Mapping[str, int],
    n_positional: int,
    *,
    last: Collection[str] = (),
    has_rest: bool = False,
) -> list[str]:
    """Repeat list options for each of their values and move the positionals to the end.

    Parameters
    ----------
    argv : sequence of str
        Words of the command line, without the program.
    n_values : mapping of str to int
        Number of values of each option with values; ``MANY`` for a list.
    n_positional : int
        Number of positionals.
    last : collection of str
        Choices of the last positional, if any; they show where a list ends.
    has_rest : bool
        Whether the words after ``--`` belong to another program.

    Returns
    -------
    list of str
        Words in click's order.

    Examples
    --------
    >>> normalise(['--label', '01', '02', '/in', 'go', '-v'], {'--label': MANY}, 2, last=['go'])
    ['--label', '01', '--label', '02', '-v', '--', '/in', 'go']
    >>> normalise(['/in', '--label', '01', '02', '--range', '1', '2'],
    ...           {'--label': MANY, '--range': 2}, 1)
    ['--label', '01', '--label', '02', '--range', '1', '2', '--', '/in']
    """
    words = list(argv)
    end = words.index('--') if '--' in words else len(words)
    given, bare = _split(words[:end], n_values)
    rest = list(enumerate(words))[end + 1 :]
    if not has_rest:
        bare, rest = bare + rest, []
    _give_back([one for one in given if one.takes == MANY], bare, n_positional, last)
    options: list[str] = []
    for one in given:
        options += one.words()
        if not one.is_complete:
            return options  # click reports the missing value of the last option
    positionals = [word for _, word in sorted(bare) + rest]
    return [*options, '--', *positionals] if positionals else options


@dataclass
class _Given:
    """Option with its values and their positions on the command line."""

    name: str
    takes: int
    values: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.values) >= abs(self.takes)

    @property
    def is_long(self) -> bool:
        """True if the option can give back a value."""
        return len(self.values) > 1

    @property
    def is_open(self) -> bool:
        """True if the next word is a value of this option in any case."""
        return self.takes != MANY and not self.is_complete

    def words(self) -> list[str]:
        values = [value for _, value in self.values]
        if self.takes == MANY and values:
            return [word for value in values for word in (self.name, value)]
        return [self.name, *values]


def _split(
    words: Sequence[str], n_values: Mapping[str, int]
) -> tuple[list[_Given], list[tuple[int, str]]]:
    """Sort words into options with their values and bare words."""
    given: list[_Given] = []
    bare: list[tuple[int, str]] = []
    for position, word in enumerate(words):
        current = given[-1] if given else None
        if current and current.is_open:
            current.values.append((position, word))
        elif _is_option(word):
            given.append(_Given(word, n_values.get(word, 0)))
        elif current and current.takes == MANY:
            current.values.append((position, word))
        else:
            bare.append((position, word))
    return given, bare


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == '-' and not word[1].isdigit() and word[1] != '.'


def _give_back(
    lists: Sequence[_Given], bare: list[tuple[int, str]], n_positional: int, last: Collection[str]
) -> None:
    """Move positionals at the end of a list to the bare words."""
    missing = n_positional - len(bare)
    if missing > 0 and last and not any(word in last for _, word in bare):
        ends = [i for i, one in enumerate(lists) if one.is_long and one.values[-1][1] in last]
        if not ends:
            return
        lists = lists[: ends[-1] + 1]
        bare.append(lists[-1].values.pop())
        missing -= 1
    for _ in range(missing):
        long = [one for one in lists if one.is_long]
        if not long:
            return
        paths = [one for one in long if '/' in one.values[-1][1]]
        bare.append((paths or long)[-1].values.pop())
