"""The options of ``bids_interp`` for the ``group`` level."""

from __future__ import annotations

import click

from bids_interp.cli.params import Option, flag, path_option
from bids_interp.settings_group import MIN_PERMUTATIONS

GROUP = 'Group'


def grouping() -> list[Option]:
    """Return the options of the ``group`` level; ``--covariates`` and ``--labels`` hold too."""
    return [
        Option(
            ['--group-by'],
            aliases=['--group_by'],
            group=GROUP,
            metavar='COLUMN',
            show_default="the model's own column, if there",
            help='Column of participants.tsv: maps and tables of each of its values, and the '
            'difference that is tested.',
        ),
        flag(
            '--include-training',
            group=GROUP,
            help='Also describe subjects that their models were trained with (not held out).',
        ),
        Option(
            ['--atlas'],
            group=GROUP,
            metavar='FILE|NAME',
            show_default='coarse embedded regions',
            help="Regions: an image of integers in the model's template space, or the name of an "
            'atlas in TemplateFlow.',
        ),
        path_option(
            '--atlas-labels',
            group=GROUP,
            metavar='FILE',
            help='Table (TSV) with the columns index and name of that atlas.',
        ),
        Option(
            ['--permutations'],
            group=GROUP,
            type=click.IntRange(MIN_PERMUTATIONS),
            default=5000,
            help='Draws of each permutation test.',
        ),
        Option(
            ['--voxelwise'],
            group=GROUP,
            is_list=True,
            metavar='COLUMN...',
            show_default='none',
            help='Exploratory voxel-wise GLM of the maps on these numbers (max-T).',
        ),
        flag('--tfce', group=GROUP, help='With threshold-free cluster enhancement (slow).'),
        Option(
            ['--null-models'],
            aliases=['--null_models'],
            group=GROUP,
            is_list=True,
            metavar='DIR...',
            show_default='none',
            help='Model bundles trained with permuted labels: is the pattern beyond chance?',
        ),
    ]
