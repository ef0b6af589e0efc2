"""Command ``bids_interp_tools bench blobs``: the synthetic experiment of the paper."""

from __future__ import annotations

import sys
from typing import Any

import click

from bids_interp.cli.params import Command, Option, OptionGroup
from bids_interp.cli.tools.bench_options import DESIGN, names_option, read_recipe
from bids_interp.cli.tools.brains import out_option

RESOURCES = OptionGroup('Resources')


def blobs_callback(**given: Any) -> None:
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


def _design() -> list[Option]:
    return [
        out_option(DESIGN),
        Option(
            ['--size'],
            group=DESIGN,
            type=click.Choice(['small', 'full']),
            default='small',
            help='small: 160 images, 64 x 64 and 32 x 32 x 32 voxels, few steps of the published '
            'training. full: 400 images, 64 x 64 and 64 x 64 x 64 voxels, all published steps.',
        ),
        names_option(
            '--variants',
            'plain, xor, intensity, null; see bids_interp_tools phantom --help.',
            'all',
        ),
        names_option(
            '--dims',
            'Dimensions of the images.',
            '2 3',
            callback=None,
            type=click.IntRange(2, 3),
            metavar='NUMBER...',
        ),
        names_option(
            '--seeds',
            'Random seeds of images, split and trainings.',
            '0 1 2',
            callback=None,
            type=click.IntRange(0),
            metavar='NUMBER...',
        ),
        names_option('--methods', 'Methods, such as ours, ipmi2021, gradcam.', 'all'),
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


blobs = Command(
    'blobs',
    callback=blobs_callback,
    params=[*_design(), *_resources()],
    help='Compare all methods on made-up images of look-alike blobs, some of which are smaller '
    'in one group, as in the paper. No data are needed.\n\nWrites DIR/table.tsv, DIR/paper.md '
    'and DIR/figure.png. To continue an interrupted run, run the same command again.',
    short_help='Compare all methods on made-up images of blobs.',
)
