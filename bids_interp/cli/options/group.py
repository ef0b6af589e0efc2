"""Group level options of ``bids_interp``."""

from __future__ import annotations

import click

from bids_interp.cli.params import GROUP, Option, OptionGroup, flag
from bids_interp.settings.group import MIN_PERMUTATIONS

ANALYSIS = OptionGroup('Group analysis', (GROUP,))


def group_options() -> list[Option]:
    """Return the options of the ``group`` level.

    It also uses ``--atlas``, ``--covariates``, ``--family`` and ``--labels``.
    """
    return [
        Option(
            ['--group-by'],
            aliases=['--group_by'],
            group=ANALYSIS,
            metavar='COLUMN',
            show_default='the label of the model, if the column exists',
            help='Column of participants.tsv that defines the groups. Each group is summarised, '
            'and differences between groups are tested.',
        ),
        flag(
            '--include-training',
            group=ANALYSIS,
            help='Include subjects whose model was trained on them (no fold held them out) or, '
            'with --family, on their relatives.',
        ),
        Option(
            ['--permutations'],
            group=ANALYSIS,
            type=click.IntRange(MIN_PERMUTATIONS),
            default=5000,
            help='Number of permutations per test.',
        ),
        Option(
            ['--voxelwise'],
            group=ANALYSIS,
            is_list=True,
            metavar='COLUMN...',
            show_default='none',
            help='Numeric columns for an exploratory voxel-wise GLM of the maps (max-T '
            'correction). Refused if the maps do not differ between people.',
        ),
        flag(
            '--tfce',
            group=ANALYSIS,
            help='Use threshold-free cluster enhancement in the voxel-wise GLM (slow).',
        ),
        Option(
            ['--null-models'],
            aliases=['--null_models'],
            group=ANALYSIS,
            is_list=True,
            type=click.Path(),
            metavar='DIR...',
            show_default='none',
            help='Model bundles trained on permuted labels, to test whether the pattern as a whole '
            'exceeds chance. Control over voxels is weak: valid under the complete null only, so '
            'the test does not show where.',
        ),
    ]
