"""``bids_interp BIDS_DIR OUTPUT_DIR {participant,group,train}``: the BIDS App."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bids_interp.cli.argv import normalise
from bids_interp.cli.options import all_options, list_names, value_names
from bids_interp.cli.params import OTHER, GroupedCommand, Option
from bids_interp.errors import BidsInterpError, UsageError
from bids_interp.settings import LEVELS, Settings, parse_toml
from bids_interp.version import __version__

# What each analysis level runs: a function of the settings that returns the exit code.
RUNNERS = {
    'participant': 'bids_interp.workflows.running:run_participant',
    'train': 'bids_interp.workflows.training:run_train',
    'group': 'bids_interp.workflows.grouping:run_group',
}

EPILOG = (
    'Options are also understood in the spellings of fMRIPrep. Exit codes: 0 all done, 1 some '
    'image failed, 2 wrong usage, 3 nothing to do, 4 bad input dataset, 5 bad model. '
    'For research only, not for diagnosis.'
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = all_options()
    words = normalise(
        words,
        list_names(options),
        value_names(options, lambda option: option.is_list),
        LEVELS,
    )
    command.main(args=words, prog_name='bids_interp')


def _run(ctx: click.Context, /, **values: Any) -> None:
    """Build the settings and hand them to the runner of the level."""
    try:
        settings = settings_of(ctx, values)
        code = _runner(settings.analysis_level)(settings)
    except BidsInterpError as error:
        report_error(error)
        code = error.exit_code
    ctx.exit(code)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f'bids_interp {__version__}')
        ctx.exit()


def report_error(error: BidsInterpError) -> None:
    """Write an error and its remedy to the standard error output."""
    click.echo(f'Error: {error.message}', err=True)
    if error.advice:
        click.echo(f'       {error.advice}', err=True)


def _runner(level: str) -> Callable[[Settings], int]:
    if level not in RUNNERS:
        raise UsageError(
            f'The analysis level {level!r} is not part of this version.',
            f'Available: {", ".join(RUNNERS)}.',
        )
    module, _, name = RUNNERS[level].partition(':')
    return getattr(import_module(module), name)


def settings_of(ctx: click.Context, values: dict[str, Any]) -> Settings:
    """Join defaults, the settings file and the command line, which wins."""
    given = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    chosen = {name: v for name, v in values.items() if ctx.get_parameter_source(name) in given}
    config_file = chosen.pop('config_file', None)
    chosen.pop('notrack', None)
    memory = [chosen.pop(name) for name in ('mem_mb', 'mem_in_gb', 'mem_gb') if name in chosen]
    if len(memory) > 1:
        raise UsageError('Give only one of --mem, --mem-mb and --mem-gb.')
    if memory:
        chosen['mem_gb'] = memory[0]
    kept = _read_config(Path(config_file)) if config_file else {}
    return Settings(**{**kept, **chosen})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'--config-file {path} cannot be read: {error}.') from error
    return parse_toml(text, f'--config-file {path}')


command = GroupedCommand(
    'bids_interp',
    callback=click.pass_context(_run),
    params=[
        click.Argument(['bids_dir'], metavar='BIDS_DIR'),
        click.Argument(['output_dir'], metavar='OUTPUT_DIR'),
        click.Argument(
            ['analysis_level'], type=click.Choice(LEVELS), metavar='{participant,group,train}'
        ),
        *all_options(),
        Option(
            ['--version'],
            group=OTHER,
            is_flag=True,
            is_eager=True,
            expose_value=False,
            show_default=False,
            callback=_show_version,
            help='Show the version and exit.',
        ),
    ],
    help=(
        'See what a classifier of brain MRI has learned: images with the disease pattern injected '
        'or removed, and log-Jacobian maps of what shrinks and grows.\n\n'
        'BIDS_DIR is the input dataset with T1w images, OUTPUT_DIR the folder of the derivatives; '
        'participant explains each T1w image on its own, train makes a model from labelled images.'
    ),
    epilog=EPILOG,
    context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 100},
)
