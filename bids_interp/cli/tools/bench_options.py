"""Options that the benchmarks share, and their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bids_interp.cli.params import Option, OptionGroup, split_commas
from bids_interp.errors import UsageError
from bids_interp.records import parse_json

DESIGN = OptionGroup('Design of the benchmark')


def names_option(name: str, text: str, default: str, **attrs: Any) -> Option:
    """Return an option with several values, names by default."""
    return Option(
        [name], group=DESIGN, is_list=True, help=text, show_default=default,
        **{'metavar': 'NAME...', 'callback': split_commas, **attrs},
    )  # fmt: skip


def read_recipe(text: str | None, option: str) -> dict[str, Any]:
    """Return the arguments of a recipe from JSON, or from a JSON file.

    Raises
    ------
    UsageError
        If it is not a JSON object.

    Examples
    --------
    >>> read_recipe('{"batch": 4}', '--recipe')
    {'batch': 4}
    """
    if text is None:
        return {}
    try:
        is_file = not text.lstrip().startswith('{')
        found = parse_json(Path(text).read_text(encoding='utf-8') if is_file else text)
    except (OSError, ValueError) as error:
        raise UsageError(
            f'{option} {text!r} cannot be read: {error}.', 'Give JSON or a file with it.'
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f'{option} is not a JSON object.', 'Such as {"simulator_steps": 160}.')
    return found
