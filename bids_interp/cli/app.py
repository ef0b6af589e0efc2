"""App ``bids_interp BIDS_DIR OUTPUT_DIR {participant,group,train}``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bids_interp.cli.faults import check_current_folder, faults_reported
from bids_interp.cli.options.participant import all_options
from bids_interp.cli.params import Command, Option
from bids_interp.errors import UsageError
from bids_interp.settings import LEVELS, Settings, parse_toml
from bids_interp.version import __version__

# Function of each analysis level, which takes the settings and returns the exit code.
RUNNERS = {
    'participant': 'bids_interp.levels.participant:run_participant',
    'train': 'bids_interp.levels.train:run_train',
    'group': 'bids_interp.levels.group:run_group',
}

EPILOG = (
    "fMRIPrep's spellings of these options are accepted as well. Exit codes: 0 success, 1 some "
    'images failed, 2 wrong usage, 3 nothing to do, 4 bad input dataset, 5 bad model. '
    'For research only, not for diagnosis.'
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    with faults_reported():
        check_current_folder()
        command.main(args=list(sys.argv[1:] if argv is None else argv), prog_name='bids_interp')


def _run(ctx: click.Context, /, **values: Any) -> None:
    """Run the level with the settings."""
    logs = Path(ctx.params['output_dir'], 'logs')
    with faults_reported(logs):
        settings = read_settings(ctx)
        code = _runner(settings.analysis_level)(settings)
    ctx.exit(code)


def _runner(level: str) -> Callable[[Settings], int]:
    module, _, name = RUNNERS[level].partition(':')
    return getattr(import_module(module), name)


def given_options(ctx: click.Context) -> dict[Option, Any]:
    """Return the options on the command line and their values, in their order."""
    options = {param.name: param for param in ctx.command.params if isinstance(param, Option)}
    default = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    return {
        options[name]: value
        for name, value in ctx.params.items()
        if name in options and ctx.get_parameter_source(name) not in default
    }


def read_settings(ctx: click.Context) -> Settings:
    """Join the defaults, the settings file and the command line, which takes precedence.

    Raises
    ------
    UsageError
        If an option belongs to another level, or a value is impossible.
    """
    level = ctx.params['analysis_level']
    given = given_options(ctx)
    _refuse_other_levels(given, level)
    chosen = {str(option.name): value for option, value in given.items()}
    config_file = chosen.pop('config_file', None)
    chosen.pop('notrack', None)
    memory = [chosen.pop(name) for name in ('mem_mb', 'mem_in_gb', 'mem_gb') if name in chosen]
    if len(memory) > 1:
        raise UsageError('--mem, --mem-mb and --mem-gb exclude each other.', 'Give one of them.')
    if memory:
        chosen['mem_gb'] = memory[0]
    folders = {name: ctx.params[name] for name in ('bids_dir', 'output_dir', 'analysis_level')}
    saved = _read_config(Path(config_file).expanduser(), level) if config_file else {}
    try:
        return Settings(**{**saved, **chosen, **folders})
    except UsageError as error:
        if not saved:
            raise
        raise UsageError(
            f'{error.message} (With the settings of {config_file}.)', error.advice
        ) from error


def _refuse_other_levels(given: dict[Option, Any], level: str) -> None:
    """Refuse options that the level does not use."""
    foreign = [option for option in given if level not in option.levels]
    if foreign:
        named = ', '.join(f'{one.flag_name} ({" and ".join(one.levels)})' for one in foreign)
        raise UsageError(
            f'The {level} level does not use {named}.',
            'Remove the option, or run the level in parentheses.',
        )


def _read_config(path: Path, level: str) -> dict[str, Any]:
    """Read the settings of a level from a file; settings of other levels are ignored."""
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'--config-file {path} cannot be read: {error}.') from error
    kept = parse_toml(text, f'--config-file {path}')
    levels = {option.name: option.levels for option in all_options()}
    foreign = [key for key in kept if level not in levels.get(key, LEVELS)]
    defaults = {field.name: field.default for field in fields(Settings)}
    values = {key: kept.pop(key) for key in foreign}
    changed = [
        f'{key} ({" and ".join(levels[key])})'
        for key, value in values.items()
        if (tuple(value) if isinstance(value, list) else value) != defaults[key]
    ]
    if changed:
        named = ', '.join(changed)
        click.echo(f'Note: the {level} level ignores {named} in {path}.', err=True)
    return kept


command = Command(
    'bids_interp',
    callback=click.pass_context(_run),
    params=[
        click.Argument(['bids_dir'], metavar='BIDS_DIR'),
        click.Argument(['output_dir'], metavar='OUTPUT_DIR'),
        click.Argument(
            ['analysis_level'], type=click.Choice(LEVELS), metavar='{participant,group,train}'
        ),
        *all_options(),
    ],
    help=(
        'Show what a classifier of brain MRI has learned: images with the disease pattern '
        'injected or removed, and log-Jacobian maps of the structures that shrink or grow.\n\n'
        'BIDS_DIR is a BIDS dataset with T1w images, OUTPUT_DIR the folder of the derivatives.\n\n'
        '\b\n'
        'participant  explain each T1w image with a trained model\n'
        'group        summarise the results of the participant level and test them\n'
        'train        train a model on labelled images\n\n'
        'The title of each group of options names the levels that use them.'
    ),
    epilog=EPILOG,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
)
click.version_option(__version__, prog_name='bids_interp', message='%(prog)s %(version)s')(command)
