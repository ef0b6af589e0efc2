"""Command ``bids_interp_tools power``: what a study of these scans would have shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.params import Command, Option, OptionGroup, split_commas
from bids_interp.cli.tools.brains import (
    out_option,
    preparation_options,
    preparation_settings,
)

CHANGE = OptionGroup('Change')
STUDIES = OptionGroup('Studies')


def power_callback(**given: Any) -> None:
    """Measure the power."""
    from bids_interp.bench.power.studies import PowerDesign
    from bids_interp.levels.power import PowerRequest, run_power

    losses = sorted({0.0, *given['losses']})
    design = PowerDesign(
        tuple(0 - loss / 100 for loss in losses),
        tuple(sorted(set(given['n']))),
        given['repeats'],
        given['folds'],
        given['seed'],
    )
    request = PowerRequest(
        design,
        regions=given['regions'],
        absorb=given['absorb'],
        label=given['label'],
        control=given['control'],
        spacing_mm=given['resolution'],
    )
    settings = preparation_settings(given, given['bids_dir'], given['out'] / 'derivatives')
    words = ['bids_interp_tools', *sys.argv[1:]]
    click.get_current_context().exit(run_power(settings, request, words))


def _change() -> list[Option]:
    return [
        out_option(CHANGE),
        Option(
            ['--regions'],
            group=CHANGE,
            is_list=True,
            callback=split_commas,
            default=('hippocampus',),
            metavar='NAME...',
            show_default='hippocampus',
            help='Regions that lose volume, such as thalamus_left.',
        ),
        Option(
            ['--losses'],
            group=CHANGE,
            is_list=True,
            type=click.FloatRange(0, 90),
            default=(5.0, 10.0, 15.0, 20.0, 30.0),
            metavar='PERCENT...',
            show_default='5 10 15 20 30',
            help='Losses of volume. 0, which plants nothing, is always added.',
        ),
        Option(
            ['--absorb'],
            group=CHANGE,
            type=click.Choice(['ventricles', 'shell', 'csf']),
            default='ventricles',
            help='Where the volume goes.',
        ),
    ]


def _studies() -> list[Option]:
    return [
        Option(
            ['--label'],
            group=STUDIES,
            metavar='COLUMN',
            show_default='all scans are controls',
            help='Column of participants.tsv that tells who is a control.',
        ),
        Option(['--control'], group=STUDIES, metavar='VALUE', help='Value of the controls.'),
        Option(
            ['--n'],
            group=STUDIES,
            is_list=True,
            type=int,
            metavar='NUMBER...',
            show_default='a half, three quarters and all of the people',
            help='People per study, both groups together.',
        ),
        Option(
            ['--repeats'],
            group=STUDIES,
            type=click.IntRange(1),
            default=20,
            help='Number of studies for each loss and number of people.',
        ),
        Option(
            ['--folds'], group=STUDIES, type=click.IntRange(2), default=5, help='Number of folds.'
        ),
        Option(['--seed'], group=STUDIES, type=click.IntRange(0), default=0, help='Random seed.'),
        Option(
            ['--resolution'],
            group=STUDIES,
            type=float,
            metavar='MM',
            show_default='that of the default training',
            help='Voxel size.',
        ),
    ]


power = Command(
    'power',
    callback=power_callback,
    params=[
        click.Argument(['bids_dir'], metavar='BIDS_DIR', type=click.Path(path_type=Path)),
        *_change(),
        *_studies(),
        *preparation_options(),
    ],
    help='Plant losses of volume into the controls of BIDS_DIR, draw many studies, and show how '
    'often the morphometric classifier finds the change and how well the map shows it. Run it '
    'before you believe a null result.\n\nWrites DIR/power.html and DIR/power.tsv. Prepared '
    'brains are reused.',
)
