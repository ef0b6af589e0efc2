"""Command ``bids_interp_tools bench``, which measures how accurate the methods are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.params import Command, Option, OptionGroup, flag
from bids_interp.cli.tools.bench_options import DESIGN, names_option, read_recipe
from bids_interp.cli.tools.blobs import blobs
from bids_interp.cli.tools.brains import (
    out_option,
    preparation_options,
    preparation_settings,
)

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
        names_option(
            '--scenarios', 'Scenarios to run, from S1 to S11 (S10a and S10b).', 'set by --size'
        ),
        names_option(
            '--methods',
            'Methods to compare: all, or some of ours, otherseed, ipmi2021, difference, tbm, '
            'exact, oracle and the saliency methods of bids_interp.',
            'set by --size',
        ),
        names_option(
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
bench.add_command(blobs)
