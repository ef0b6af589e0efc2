"""Command ``bids_interp_tools bench``, which measures how accurate the methods are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.params import Command, Option, OptionGroup, flag, split_commas
from bids_interp.cli.tools.blobs import blobs_command
from bids_interp.cli.tools.brains import (
    out_option,
    preparation_options,
    preparation_settings,
)
from bids_interp.errors import UsageError
from bids_interp.records import parse_json

DESIGN = OptionGroup('Design of the benchmark')
TRAINING = OptionGroup('Training')


@click.group()
def bench() -> None:
    """Measure how accurate the methods are."""


def truth_callback(**given: Any) -> None:
    """Run the benchmark."""
    from bids_interp.bench.design import BenchRequest, make_benchmark
    from bids_interp.levels.bench import run_bench

    benchmark = make_benchmark(
        BenchRequest(
            size=given['size'],
            scenarios=given['scenarios'],
            methods=given['methods'],
            seeds=given['seeds'],
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
    settings = preparation_settings(given, given['bids_dir'], given['out'] / 'derivatives')
    words = ['bids_interp_tools', *sys.argv[1:]]
    click.get_current_context().exit(run_bench(settings, benchmark, words))


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


def _list(name: str, text: str, default: str, **attrs: Any) -> Option:
    return Option(
        [name], group=DESIGN, is_list=True, help=text, show_default=default,
        **{'metavar': 'NAME...', 'callback': split_commas, **attrs},
    )  # fmt: skip


def _design() -> list[Option]:
    return [
        out_option(DESIGN),
        Option(
            ['--size'],
            group=DESIGN,
            type=click.Choice(['small', 'full']),
            default='small',
            help='small: all scenarios with seed 0, some with seeds 0 to 2, 4 mm. full: all '
            'scenarios and methods with 5 seeds, 3 mm.',
        ),
        _list('--scenarios', 'Scenarios to run, from S1 to S11 (S10a and S10b).', 'set by --size'),
        _list(
            '--methods',
            'Methods to compare: all, or some of ours, otherseed, ipmi2021, difference, tbm, '
            'exact, oracle and the saliency methods of bids_interp.',
            'set by --size',
        ),
        _list(
            '--seeds',
            'Random seeds; each scenario is repeated with each.',
            'set by --size',
            type=int,
            metavar='NUMBER...',
            callback=None,
        ),
        Option(
            ['--strength'],
            group=DESIGN,
            type=click.Choice(['mild', 'moderate', 'strong']),
            default='moderate',
            help='Strength of the planted volume changes.',
        ),
        Option(['--replicates'], group=DESIGN, default=16, help='Number of images per brain.'),
        Option(
            ['--anatomy'],
            group=DESIGN,
            default=1.0,
            metavar='MM',
            help='Standard deviation of the random anatomical variation of each image.',
        ),
        Option(
            ['--explained'],
            group=DESIGN,
            default=1,
            help='Number of images to explain per class and brain.',
        ),
        Option(['--draws'], group=DESIGN, default=1000, help='Number of bootstrap samples.'),
        flag(
            '--check-sham',
            group=DESIGN,
            help='Also train a classifier to tell sham-warped from untouched images. It should '
            'fail.',
        ),
    ]


def _training() -> list[Option]:
    return [
        Option(
            ['--resolution'],
            group=TRAINING,
            type=float,
            metavar='MM',
            show_default='set by --size',
            help='Voxel size.',
        ),
        Option(
            ['--recipe'],
            group=TRAINING,
            metavar='JSON',
            help='JSON object, or file with one, that changes our recipe: '
            '{"simulator_steps": 160}.',
        ),
        Option(
            ['--paper-recipe'],
            group=TRAINING,
            metavar='JSON',
            help='The same for the recipe of ipmi2021.',
        ),
        Option(
            ['--judge-steps'],
            group=TRAINING,
            type=click.IntRange(0),
            show_default='set by --size',
            help='Training steps of the independent classifier that judges the simulations; 0 for '
            'none.',
        ),
    ]


bench.add_command(
    Command(
        'truth',
        callback=truth_callback,
        params=[
            click.Argument(['bids_dir'], metavar='BIDS_DIR', type=click.Path(path_type=Path)),
            *_design(),
            *_training(),
            *preparation_options('family'),
        ],
        help='Compare all methods with a known ground truth: volume changes planted into the '
        'brains of BIDS_DIR.\n\nWrites DIR/table.tsv and DIR/table.html. To continue an '
        'interrupted run, run the same command again.',
        short_help='Compare all methods with a known ground truth.',
    )
)
bench.add_command(blobs_command(read_recipe))
