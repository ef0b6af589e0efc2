"""Brains that the tools prepare: options of the preparation, and the settings made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp.cli.options.participant import shared_options
from bids_interp.cli.params import Option, OptionGroup

if TYPE_CHECKING:
    from bids_interp.settings import Settings

#: Settings that every tool shares which prepares brains, in the order of its help.
SHARED = (
    'participant_label',
    'session_label',
    'family',
    'skull_strip_t1w',
    'fast',
    'offline',
    'device',
    'nprocs',
    'work_dir',
    'use_plugin',
)


def preparation_options(*left_out: str) -> list[Option]:
    """Return the options of the preparation of brains, without some settings."""
    return shared_options(*(name for name in SHARED if name not in left_out))


def preparation_settings(given: Mapping[str, Any], bids_dir: Path, output_dir: Path) -> Settings:
    """Return the settings of the options that were given."""
    from bids_interp.settings import Settings

    return Settings(bids_dir, output_dir, **{n: given[n] for n in SHARED if n in given})


def out_option(group: OptionGroup) -> Option:
    """Return the option of the folder of the results."""
    return Option(
        ['--out'],
        group=group,
        required=True,
        type=click.Path(path_type=Path),
        metavar='DIR',
        help='Folder of the results.',
    )
