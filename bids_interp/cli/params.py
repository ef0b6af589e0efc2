"""Options that are shown in groups, and values with units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

WHAT = 'What is processed'
METHOD = 'Model and method'
MACHINE = 'Machine'
RUNNING = 'Running'
OTHER = 'Other'

_UNITS = {'': None, 'B': 1e-9, 'K': 1e-6, 'M': 1e-3, 'G': 1.0, 'T': 1e3}
_BINARY = {'K': 1024 / 1e9, 'M': 1024**2 / 1e9, 'G': 1024**3 / 1e9, 'T': 1024**4 / 1e9}


class Memory(click.ParamType):
    """An amount of memory with its unit, in GB of 10^9 bytes.

    Examples
    --------
    >>> Memory().convert('8000MB', None, None)
    8.0
    >>> round(Memory().convert('1GiB', None, None), 3)
    1.074
    """

    name = 'SIZE'

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return GB; a number without unit is refused, since apps differ in what it means."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r'\s*(\d+(?:\.\d*)?)\s*([KMGT]?)(i?)B?\s*', str(value), re.IGNORECASE)
        if match is None:
            self.fail(f'{value!r} is not an amount of memory such as 8GB or 8000MB.', param, ctx)
        number, unit, binary = match.groups()
        factor = _BINARY.get(unit.upper()) if binary else _UNITS[unit.upper()]
        if factor is None:
            self.fail(f'{value!r} has no unit: say {number}GB or {number}MB.', param, ctx)
        return float(number) * factor


class ScaledNumber(click.ParamType):
    """A bare number in a fixed unit of memory, for ``--mem-mb`` and ``--mem-gb``."""

    name = 'NUMBER'

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return GB."""
        try:
            return float(value) * self.factor
        except ValueError:
            self.fail(f'{value!r} is not a number.', param, ctx)


class Option(click.Option):
    """An option with a heading in the help text and spellings that the help does not list."""

    def __init__(
        self,
        param_decls: Sequence[str],
        *,
        group: str,
        aliases: Sequence[str] = (),
        is_list: bool = False,
        **attrs: Any,
    ) -> None:
        given = [d for d in param_decls if d.isidentifier()]
        name = given[0] if given else next(d for d in param_decls if d.startswith('--'))
        name = name.lstrip('-').split('/')[0].replace('-', '_')
        attrs.setdefault('show_default', True)
        if is_list:
            attrs.update(multiple=True, show_default=attrs['show_default'])
        decls = [d for d in param_decls if not d.isidentifier()]
        super().__init__([name, *decls, *aliases], **attrs)
        self.group = group
        self.aliases = frozenset(aliases)
        self.is_list = is_list

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of the help text, without the aliases."""
        every = self.opts
        self.opts = [name for name in every if name not in self.aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


def path_option(*names: str, **attrs: Any) -> Option:
    """Return an option that takes a file or folder."""
    return Option(names, type=click.Path(), metavar=attrs.pop('metavar', 'PATH'), **attrs)


def flag(*names: str, **attrs: Any) -> Option:
    """Return an option that is switched on."""
    return Option(names, is_flag=True, show_default=False, **attrs)


class GroupedCommand(click.Command):
    """A command whose help text shows its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section per group in order of appearance."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, 'group', 'Other'), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=28)
