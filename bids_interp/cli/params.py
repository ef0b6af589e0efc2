"""Parameters of the commands: options with help groups and levels, and their types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.argv import MANY, normalise
from bids_interp.settings import LEVELS

PARTICIPANT, GROUP, TRAIN = LEVELS

_UNITS = {'K': 1e-6, 'M': 1e-3, 'G': 1.0, 'T': 1e3}
_BINARY = {unit: 1024**power / 1e9 for power, unit in enumerate('KMGT', start=1)}


@dataclass(frozen=True)
class OptionGroup:
    """Group of options in the help text.

    Parameters
    ----------
    title : str
        Heading.
    levels : tuple of str
        Levels of ``bids_interp`` that use the options, unless an option names its own.
    """

    title: str
    levels: tuple[str, ...] = LEVELS


class Memory(click.ParamType):
    """Amount of memory with its unit, in GB of 10^9 bytes.

    Examples
    --------
    >>> Memory().convert('8000MB', None, None)
    8.0
    >>> round(Memory().convert('1GiB', None, None), 3)
    1.074
    """

    name = 'SIZE'

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return GB; a number without unit is refused, because apps interpret it differently."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r'\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(i?)B?\s*', str(value), re.IGNORECASE)
        if match is None:
            self.fail(f'{value!r} is not an amount of memory, such as 8GB or 8000MB.', param, ctx)
        number, unit, binary = match.groups()
        if not unit:
            self.fail(f'{value!r} has no unit. Write {number}GB or {number}MB.', param, ctx)
        return float(number) * (_BINARY if binary else _UNITS)[unit.upper()]


class ScaledNumber(click.ParamType):
    """Number without unit for an amount of memory, for ``--mem-mb`` and ``--mem-gb``."""

    name = 'NUMBER'

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return GB."""
        try:
            return float(value) * self.factor
        except ValueError:
            self.fail(f'{value!r} is not a number.', param, ctx)


class FileOrName(click.ParamType):
    """File, or name of something else."""

    name = 'FILE|NAME'

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the value unchanged."""
        return str(value)


class NamedFolder(click.ParamType):
    """``[NAME=]PATH``; by default the name of the folder.

    Examples
    --------
    >>> NamedFolder().convert('fmriprep=/prep', None, None)
    ('fmriprep', '/prep')
    >>> NamedFolder().convert('/data/smriprep', None, None)
    ('smriprep', '/data/smriprep')
    """

    name = '[NAME=]PATH'

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Return name and path."""
        if isinstance(value, tuple):
            return value
        name, equals, path = value.partition('=')
        if equals and '/' not in name:
            return name, path
        return value.rstrip('/').rsplit('/', 1)[-1], value


class Option(click.Option):
    """Option of a help group, with spellings that the help does not list.

    Parameters
    ----------
    param_decls : sequence of str
        Spellings in the help text, and the name of the value if it differs.
    group : OptionGroup
        Group in the help text.
    levels : tuple of str, optional
        Levels that use the option; by default, the levels of the group.
    aliases : sequence of str
        Further spellings.
    is_list : bool
        Whether the option takes several values: ``--option A B C``.
    **attrs
        Arguments of :class:`click.Option`.
    """

    def __init__(
        self,
        param_decls: Sequence[str],
        *,
        group: OptionGroup,
        levels: tuple[str, ...] | None = None,
        aliases: Sequence[str] = (),
        is_list: bool = False,
        **attrs: Any,
    ) -> None:
        attrs = {'show_default': True, **attrs}
        if is_list:
            attrs['multiple'] = True
        super().__init__([*param_decls, *aliases], **attrs)
        self.group = group
        self.levels = levels or group.levels
        self.aliases = frozenset(aliases)
        self.is_list = is_list
        if isinstance(self.type, click.IntRange) and self.metavar is None:
            self.metavar = 'INTEGER'  # click's own is INTEGER RANGE

    @property
    def flag_name(self) -> str:
        """First long spelling."""
        return next(name for name in self.opts if name.startswith('--'))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of the help text, without the aliases."""
        every = self.opts
        self.opts = [name for name in every if name not in self.aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


def absolute(path: str | Path) -> Path:
    """Return an absolute path, with ``~`` expanded."""
    return Path(path).expanduser().absolute()


def path_option(*names: str, **attrs: Any) -> Option:
    """Return an option whose value is a path."""
    return Option(names, **{'type': click.Path(), 'metavar': 'PATH', **attrs})


def flag(*names: str, **attrs: Any) -> Option:
    """Return an option without a value."""
    return Option(names, is_flag=True, show_default=False, **attrs)


def split_commas(ctx: click.Context, param: click.Parameter, value: Iterable[str]) -> tuple:
    """Return the values of a list option, split at commas."""
    return tuple(part for item in value for part in item.split(',') if part)


class HelpFormatter(click.HelpFormatter):
    """Help text without line breaks inside the name of an option."""

    def write_text(self, text: str) -> None:
        """Write a paragraph."""
        super().write_text(_glued(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        """Write a list of options."""
        super().write_dl([(name, _glued(text)) for name, text in rows], *args, **kwargs)

    def getvalue(self) -> str:
        """Return the text."""
        return super().getvalue().replace(_GLUE, '-')


_GLUE = '\N{NON-BREAKING HYPHEN}'


def _glued(text: str) -> str:
    return re.sub(r'--[a-z-]+', lambda match: match[0].replace('-', _GLUE), text)


class _Context(click.Context):
    formatter_class = HelpFormatter


class Command(click.Command):
    """Command with lists as in BIDS Apps, and groups of options in its help text."""

    context_class = _Context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line after reordering it for click."""
        positionals = [param for param in self.params if isinstance(param, click.Argument)]
        single = [param for param in positionals if param.nargs == 1]
        choices = getattr(single[-1].type, 'choices', ()) if single else ()
        n_values = {
            name: MANY if getattr(param, 'is_list', False) else param.nargs
            for param in self.params
            if isinstance(param, click.Option) and not (param.is_flag or param.count)
            for name in param.opts
        }
        ordered = normalise(
            args, n_values, len(single), last=choices, has_rest=len(positionals) > len(single)
        )
        return super().parse_args(ctx, ordered)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in their groups, in order of appearance."""
        has_levels = any(param.name == 'analysis_level' for param in self.params)
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is None:
                continue
            heading = 'Help'
            if isinstance(param, Option):
                heading = param.group.title
                if has_levels:
                    heading += f' ({_level_names(param.group.levels)})'
                    if param.levels != param.group.levels:
                        record = (record[0], f'{record[1]}  [{_level_names(param.levels)} only]')
            sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=28)


def _level_names(levels: tuple[str, ...]) -> str:
    return 'all levels' if levels == LEVELS else ' and '.join(levels)
