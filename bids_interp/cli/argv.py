"""Lists on the command line, the way BIDS Apps are called.

click wants one option per value; users of BIDS Apps write ``--participant-label 01 02 03``, before
or after the positional arguments. The words are put in click's order before click sees them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


def normalise(
    argv: Sequence[str],
    lists: Collection[str],
    takes_value: Collection[str],
    levels: Collection[str],
    n_positional: int = 3,
) -> list[str]:
    """Repeat list options for each of their values and move the positionals to the end.

    Parameters
    ----------
    argv : sequence of str
        Words of the command line, without the program.
    lists : collection of str
        Options that take one or more values.
    takes_value : collection of str
        Other options that take exactly one value.
    levels : collection of str
        What the last positional may be; tells where a list before the positionals ends.
    n_positional : int
        How many positionals there must be.

    Returns
    -------
    list of str
        Words that click understands.

    Examples
    --------
    >>> normalise(['--label', '01', '02', '/bids', '/out', 'go', '-v'], ['--label'], [], ['go'])
    ['--label', '01', '--label', '02', '-v', '--', '/bids', '/out', 'go']
    >>> normalise(['/bids', '/out', 'go', '--label', '01', '02'], ['--label'], [], ['go'])
    ['--label', '01', '--label', '02', '--', '/bids', '/out', 'go']
    """
    options, runs, positionals = _split(argv, lists, takes_value)
    _give_back(runs, positionals, levels, n_positional)
    words: list[str] = []
    for item in options:
        if isinstance(item, _Run):
            if not item.values:
                return [*words, item.option]  # click says that its value is missing
            for _, value in item.values:
                words += [item.option, value]
        else:
            words.append(item)
    ordered = [word for _, word in sorted(positionals)]
    return [*words, '--', *ordered] if ordered else words


class _Run:
    """A list option and the words that follow it, each with its place in the command line."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.values: list[tuple[int, str]] = []


def _split(
    argv: Sequence[str], lists: Collection[str], takes_value: Collection[str]
) -> tuple[list[str | _Run], list[_Run], list[tuple[int, str]]]:
    """Sort words into options (with runs of list values in place) and bare words."""
    options: list[str | _Run] = []
    runs: list[_Run] = []
    bare: list[tuple[int, str]] = []
    current: _Run | None = None
    value_next = False
    for place, word in enumerate(argv):
        if word == '--':
            bare += list(enumerate(argv))[place + 1 :]
            break
        if value_next:
            options.append(word)
            value_next = False
        elif word in lists:
            current = _Run(word)
            runs.append(current)
            options.append(current)
        elif _is_option(word):
            current = None
            options.append(word)
            value_next = word in takes_value
        elif current is not None:
            current.values.append((place, word))
        else:
            bare.append((place, word))
    return options, runs, bare


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == '-' and not word[1].isdigit() and word[1] != '.'


def _give_back(
    runs: list[_Run],
    positionals: list[tuple[int, str]],
    levels: Collection[str],
    n_positional: int,
) -> None:
    """Take the positionals that are missing from the tails of the lists that swallowed them."""
    missing = n_positional - len(positionals)
    if missing <= 0:
        return
    last = next((i for i in reversed(range(len(runs))) if _ends_with(runs[i], levels)), None)
    if last is None and runs and any(word in levels for _, word in positionals):
        last = len(runs) - 1  # the level stands by itself; folders were swallowed before it
    if last is None:
        return
    if _ends_with(runs[last], levels):
        positionals.append(runs[last].values.pop())
        missing -= 1
    while missing > 0:
        long = [run for run in runs[: last + 1] if len(run.values) > 1]
        paths = [run for run in long if '/' in run.values[-1][1]]
        if not long:
            return
        positionals.append((paths or long)[-1].values.pop())
        missing -= 1


def _ends_with(run: _Run, levels: Collection[str]) -> bool:
    return len(run.values) > 1 and run.values[-1][1] in levels
