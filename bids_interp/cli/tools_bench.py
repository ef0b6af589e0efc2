"""``bids_interp_tools bench``: how good is the method, measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.argv import normalise
from bids_interp.errors import UsageError

_END = 'end'
_LISTS = ('--participant-label', '--session-label', '--scenarios', '--methods', '--seeds')


class _ListCommand(click.Command):
    """A command whose lists are written as in BIDS Apps: ``--scenarios S1 S3``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat list options before click sees them."""
        takes_value = {
            name
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag
            for name in param.opts
            if name not in _LISTS
        }
        return super().parse_args(ctx, order_words(args, takes_value))


def order_words(args: Sequence[str], takes_value: Sequence[str] | set[str]) -> list[str]:
    """Bring the words of the command line into click's order.

    Examples
    --------
    >>> order_words(['--scenarios', 'S1', 'S3', 'in', '--out', 'd'], {'--out'})
    ['--scenarios', 'S1', '--scenarios', 'S3', '--out', 'd', '--', 'in']
    """
    words = list(args)
    # The ordering is made for commands that end with the name of a level.
    end = [] if words and words[-1] in takes_value else [_END]
    ordered = normalise([*words, *end], _LISTS, takes_value, end, n_positional=1 + len(end))
    return [word for word in ordered if word != _END]


@click.group()
def bench() -> None:
    """Benchmarks of the method itself."""


@bench.command(cls=_ListCommand)
@click.argument('bids_dir', metavar='BIDS_DIR', type=click.Path(path_type=Path))
@click.option(
    '--out', required=True, type=click.Path(path_type=Path), metavar='DIR', help='For the results.'
)
@click.option('--size', default='small', show_default=True, help='small (4 mm) or full (3 mm).')
@click.option('--scenarios', multiple=True, metavar='NAME', help='S1 to S8; those of the size.')
@click.option('--methods', multiple=True, metavar='NAME', help='Which methods; all of them.')
@click.option('--seeds', multiple=True, type=int, help='Repetitions; those of the size.')
@click.option('--strength', default='moderate', show_default=True, help='mild, moderate, strong.')
@click.option('--replicates', default=16, show_default=True, help='Images made of each brain.')
@click.option(
    '--anatomy',
    default=1.0,
    show_default=True,
    metavar='MM',
    help='Standard deviation of the random anatomy of each image.',
)
@click.option(
    '--explained', default=1, show_default=True, help='Explained images of each class and brain.'
)
@click.option('--resolution', type=float, metavar='MM', help="Voxel size, instead of the size's.")
@click.option('--recipe', metavar='JSON', help='Change arguments of our recipe: JSON, or a file.')
@click.option('--paper-recipe', metavar='JSON', help='The same for ipmi2021.')
@click.option('--judge-steps', type=click.IntRange(1), help='Steps of the second CNN.')
@click.option(
    '--check-sham', is_flag=True, help='Also tell sham-warped from untouched images: it must fail.'
)
@click.option('--draws', default=1000, show_default=True, help='Draws of the bootstrap.')
@click.option(
    '--participant-label', multiple=True, metavar='LABEL', help='Only these participants.'
)
@click.option('--session-label', multiple=True, metavar='LABEL', help='Only these sessions.')
@click.option(
    '--skull-strip-t1w',
    type=click.Choice(['auto', 'force', 'skip']),
    default='auto',
    show_default=True,
    help='Whether the brain has to be found in a head.',
)
@click.option('--device', default='auto', show_default=True, help='auto, cpu, cuda or cuda:N.')
@click.option('--nprocs', type=click.IntRange(1), help='CPUs used at once.')
@click.option('--work-dir', type=click.Path(path_type=Path), metavar='DIR', help='For checkpoints.')
@click.option(
    '--use-plugin',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='YAML file of a plugin.',
)
@click.option('--offline', is_flag=True, help='Never ask the network for a template.')
@click.option('--fast', is_flag=True, help='Trade accuracy of the registration for time.')
def truth(**given: Any) -> None:
    """Hold all methods against a known truth, planted into the brains of BIDS_DIR.

    The same command continues an interrupted run. Results: DIR/table.tsv and DIR/table.html.
    """
    from bids_interp.settings import Settings
    from bids_interp.workflows.benching import run_bench
    from bids_interp.workflows.benchmark import Request, choose

    benchmark = choose(
        Request(
            size=given['size'],
            scenarios=_words(given['scenarios']),
            methods=_words(given['methods']),
            seeds=tuple(given['seeds']),
            strength=given['strength'],
            replicates=given['replicates'],
            anatomy_mm=given['anatomy'],
            explained=given['explained'],
            spacing_mm=given['resolution'],
            recipe=read_recipe(given['recipe'], '--recipe'),
            paper=read_recipe(given['paper_recipe'], '--paper-recipe'),
            judge_steps=given['judge_steps'],
            draws=given['draws'],
            check_sham=given['check_sham'],
        )
    )
    settings = Settings(
        given['bids_dir'],
        given['out'] / 'derivatives',
        participant_label=_words(given['participant_label']),
        session_label=_words(given['session_label']),
        skull_strip_t1w=given['skull_strip_t1w'],
        device=given['device'],
        offline=given['offline'],
        fast=given['fast'],
        work_dir=given['work_dir'],
        nprocs=given['nprocs'],
        use_plugin=given['use_plugin'],
    )
    words = ['bids_interp_tools', *sys.argv[1:]]
    click.get_current_context().exit(run_bench(settings, benchmark, words))


def read_recipe(text: str | None, option: str) -> dict[str, Any]:
    """Read arguments of a recipe from JSON, or from a file with it.

    Raises
    ------
    UsageError
        If it is no JSON object.

    Examples
    --------
    >>> read_recipe('{"batch": 4}', '--recipe')
    {'batch': 4}
    """
    if text is None:
        return {}
    try:
        is_file = not text.lstrip().startswith('{')
        found = json.loads(Path(text).read_text(encoding='utf-8') if is_file else text)
    except (OSError, ValueError) as error:
        raise UsageError(
            f'{option} {text!r} cannot be read: {error}.', 'Give JSON or a file with it.'
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f'{option} is no JSON object.', 'Such as {"simulator_steps": 160}.')
    return found


def _words(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(label for value in values for label in value.replace(',', ' ').split())
