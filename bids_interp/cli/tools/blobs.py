"""Command ``bids_interp_tools bench blobs``: the synthetic experiment of the paper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.params import Command, Option, OptionGroup, split_commas

DESIGN = OptionGroup('Design of the benchmark')
RESOURCES = OptionGroup('Resources')


def blobs_command(read_recipe: Callable[[str | None, str], dict[str, Any]]) -> Command:
    """Return the command.

    Parameters
    ----------
    read_recipe : callable
        Reader of a recipe and of the name of its option, shared with ``bench truth``.
    """

    def callback(**given: Any) -> None:
        """Run the benchmark."""
        from bids_interp.bench.blobs.blob_design import make_blob_benchmark
        from bids_interp.levels.blobs import run_blobs

        benchmark = make_blob_benchmark(
            given['size'],
            variants=given['variants'],
            dimensions=given['dims'],
            seeds=given['seeds'],
            n=given['n'],
            draws=given['draws'],
            methods=given['methods'],
            paper=read_recipe(given['paper_recipe'], '--paper-recipe'),
        )
        code = run_blobs(
            given['out'],
            benchmark,
            nprocs=given['nprocs'],
            device=given['device'],
            command=['bids_interp_tools', *sys.argv[1:]],
        )
        click.get_current_context().exit(code)

    return Command(
        'blobs',
        callback=callback,
        params=[*_design(), *_resources()],
        help='Compare all methods on made-up images of look-alike blobs, some of which are smaller '
        'in one group, as in the paper. No data are needed.\n\nWrites DIR/table.tsv, DIR/paper.md '
        'and DIR/figure.png. To continue an interrupted run, run the same command again.',
        short_help='Compare all methods on made-up images of blobs.',
    )


def _names(name: str, metavar: str, text: str, **more: Any) -> Option:
    settings: dict[str, Any] = {'is_list': True, 'default': (), 'callback': split_commas, **more}
    return Option([name], group=DESIGN, metavar=metavar, help=text, **settings)


def _design() -> list[Option]:
    return [
        Option(
            ['--out'],
            group=DESIGN,
            required=True,
            type=click.Path(path_type=Path),
            metavar='DIR',
            help='Folder of the results.',
        ),
        Option(
            ['--size'],
            group=DESIGN,
            type=click.Choice(['small', 'full']),
            default='small',
            help='small: 160 images, 64 x 64 and 32 x 32 x 32 voxels, few steps of the published '
            'training. full: 400 images, 64 x 64 and 64 x 64 x 64 voxels, all published steps.',
        ),
        _names(
            '--variants',
            'NAME...',
            'plain, xor, intensity, null; see bids_interp_tools phantom --help.',
            show_default='all',
        ),
        _names(
            '--dims',
            'NUMBER...',
            'Dimensions of the images.',
            callback=None,
            type=click.IntRange(2, 3),
            show_default='2 3',
        ),
        _names(
            '--seeds',
            'NUMBER...',
            'Random seeds of images, split and trainings.',
            callback=None,
            type=click.IntRange(0),
            show_default='0 1 2',
        ),
        _names(
            '--methods', 'NAME...', 'Methods, such as ours, ipmi2021, gradcam.', show_default='all'
        ),
        Option(
            ['--n'],
            group=DESIGN,
            type=int,
            metavar='NUMBER',
            show_default='set by --size',
            help='Images of each variant.',
        ),
        Option(
            ['--draws'],
            group=DESIGN,
            type=click.IntRange(1),
            default=1000,
            help='Number of bootstrap samples.',
        ),
        Option(
            ['--paper-recipe'],
            group=DESIGN,
            metavar='JSON',
            help='JSON object, or file with one, that changes the recipe of ipmi2021: '
            '{"simulator_steps": 100}.',
        ),
    ]


def _resources() -> list[Option]:
    return [
        Option(
            ['--nprocs'],
            group=RESOURCES,
            type=click.IntRange(1),
            metavar='NUMBER',
            show_default='all CPUs available to this job, 1 on a GPU',
            help='Number of variants at a time, each on one CPU.',
        ),
        Option(
            ['--device'],
            group=RESOURCES,
            default='auto',
            metavar='NAME',
            help='auto, cpu, cuda or cuda:N.',
        ),
    ]
