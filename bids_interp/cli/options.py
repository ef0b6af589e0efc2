"""The options of ``bids_interp``: fMRIPrep's spellings where it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from bids_interp.cli.options_group import grouping
from bids_interp.cli.options_run import machine, other, running
from bids_interp.cli.options_train import training
from bids_interp.cli.params import METHOD, WHAT, Option, flag, path_option
from bids_interp.settings import SALIENCY_METHODS


def split_commas(ctx: click.Context, param: click.Parameter, value: Iterable[str]) -> tuple:
    """Return the values of a list option, also where commas separate them."""
    return tuple(part for item in value for part in item.split(',') if part)


def read_doses(ctx: click.Context, param: click.Parameter, value: Iterable[str]) -> tuple:
    """Return doses as numbers."""
    try:
        return tuple(float(part) for part in split_commas(ctx, param, value))
    except ValueError as error:
        raise click.BadParameter(f'{error}; doses are numbers in (0, 1].') from error


def read_derivatives(ctx: click.Context, param: click.Parameter, value: Iterable[str]) -> tuple:
    """Return (name, path) pairs of ``[name=]PATH``; the name defaults to the folder's own.

    Examples
    --------
    >>> read_derivatives(None, None, ['fmriprep=/prep', '/data/smriprep'])
    (('fmriprep', '/prep'), ('smriprep', '/data/smriprep'))
    """
    pairs = []
    for item in value:
        name, equals, path = item.partition('=')
        if not equals or '/' in name:
            path = item
            name = item.rstrip('/').rsplit('/', 1)[-1]
        pairs.append((name, path))
    return tuple(pairs)


def selection() -> list[Option]:
    """Return the options that choose images."""
    return [
        Option(
            ['--participant-label'],
            aliases=[
                '--participant_label',
                '--subject-label',
                '--participant-labels',
                '--participant_labels',
            ],
            group=WHAT,
            is_list=True,
            metavar='LABEL...',
            callback=split_commas,
            show_default='all',
            help='Participants, with or without sub-, separated by spaces or commas.',
        ),
        Option(
            ['--session-label'],
            aliases=['--session_label', '--session-id'],
            group=WHAT,
            is_list=True,
            metavar='LABEL...',
            callback=split_commas,
            show_default='all',
            help='Sessions, with or without ses-. Every T1w image is processed on its own.',
        ),
        Option(
            ['--fail-on-missing/--skip-missing'],
            group=WHAT,
            default=False,
            show_default='skip',
            help='End before computing if a participant is not there, or do the others '
            '(and end with exit code 1).',
        ),
        path_option(
            '--bids-filter-file',
            aliases=['--bids_filter_file'],
            group=WHAT,
            metavar='FILE',
            help='JSON with pybids filters: {"t1w": {"acquisition": "mprage", "run": null}}; '
            'null means "without", "*" means "with any".',
        ),
        path_option(
            '--bids-database-dir',
            aliases=['--bids_database_dir'],
            group=WHAT,
            metavar='DIR',
            help='Keep the index of the input dataset here and use it again.',
        ),
        flag(
            '--skip-bids-validation',
            aliases=['--skip_bids_validation'],
            group=WHAT,
            help='Do not check the input dataset with the BIDS validator.',
        ),
        Option(
            ['-d', '--derivatives'],
            group=WHAT,
            is_list=True,
            metavar='[NAME=]PATH...',
            callback=read_derivatives,
            show_default='none',
            help="Folders with fMRIPrep's or sMRIPrep's desc-preproc_T1w and desc-brain_mask, "
            'used instead of making them.',
        ),
    ]


def method() -> list[Option]:
    """Return the options of model and method."""
    return [
        path_option(
            '--model',
            group=METHOD,
            metavar='DIR',
            show_default='the only model under OUTPUT_DIR/models, else $BIDS_INTERP_MODEL, '
            'else the demonstration model',
            help='Model bundle.',
        ),
        Option(
            ['--contrast'],
            group=METHOD,
            metavar='A-B',
            show_default='the first',
            help='Of a model of several classes: the pair to explain, as its card names it.',
        ),
        Option(
            ['--skull-strip-t1w'],
            aliases=['--skull_strip_t1w', '--skull-strip-mode'],
            group=METHOD,
            type=click.Choice(['auto', 'force', 'skip']),
            default='auto',
            help='Extract the brain: unless the image is stripped already, always, or never.',
        ),
        Option(
            ['--template'],
            aliases=['--skull-strip-template', '--skull_strip_template'],
            group=METHOD,
            metavar='NAME',
            show_default='the first of OASIS30ANTs, MNI152NLin2009cAsym and MNI152NLin6Asym that '
            'lies in TEMPLATEFLOW_HOME, else the embedded one, MNI152NLin2009aSym',
            help='TemplateFlow name of the whole-head template for brain extraction.',
        ),
        Option(
            ['--output-spaces'],
            aliases=['--output_spaces'],
            group=METHOD,
            is_list=True,
            metavar='SPACE...',
            callback=split_commas,
            default=('T1w', 'template'),
            help="Spaces of simulated images and maps: T1w (native) and template (the model's, "
            'at 1 mm; also by its own name).',
        ),
        Option(
            ['--dose', 'doses'],
            aliases=['--doses'],
            group=METHOD,
            is_list=True,
            metavar='NUMBER...',
            callback=read_doses,
            default=('1.0',),
            help='Doses in (0, 1] at which images are written; each is injected and removed.',
        ),
        Option(
            ['--saliency'],
            group=METHOD,
            is_list=True,
            metavar='METHOD...|all',
            callback=split_commas,
            show_default='none',
            help='Saliency maps of the same classifier to write and show beside ours: '
            f'{", ".join(SALIENCY_METHODS)}. What does not apply to the model is skipped and said.',
        ),
        Option(
            ['--random-seed'],
            aliases=['--random_seed'],
            group=METHOD,
            type=int,
            default=20210628,
            help='Seed of everything random.',
        ),
        flag(
            '--fast',
            aliases=['--sloppy'],
            group=METHOD,
            help='Coarser registration, not reproducible to the last digit: for trying out.',
        ),
        flag('--offline', group=METHOD, help='Never touch the network.'),
    ]


def all_options() -> list[Option]:
    """Return every option of ``bids_interp``."""
    return [*selection(), *method(), *training(), *grouping(), *machine(), *running(), *other()]


def list_names(options: Iterable[Option]) -> list[str]:
    """Return every spelling of the options that take several values."""
    return [name for option in options if option.is_list for name in option.opts]


def value_names(options: Iterable[click.Option], skip: Callable[[Any], bool]) -> list[str]:
    """Return every spelling of the options that take one value, but those to skip."""
    return [
        name
        for option in options
        if not (option.is_flag or option.count or skip(option))
        for name in option.opts
    ]
