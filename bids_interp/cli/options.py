"""The options of ``bids_interp``: fMRIPrep's spellings where it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from bids_interp.cli.params import Memory, Option, ScaledNumber

WHAT = 'What is processed'
METHOD = 'Model and method'
MACHINE = 'Machine'
RUNNING = 'Running'
OTHER = 'Other'


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


def _path(*names: str, **attrs: Any) -> Option:
    return Option(names, type=click.Path(), metavar=attrs.pop('metavar', 'PATH'), **attrs)


def _flag(*names: str, **attrs: Any) -> Option:
    return Option(names, is_flag=True, show_default=False, **attrs)


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
        _path(
            '--bids-filter-file',
            aliases=['--bids_filter_file'],
            group=WHAT,
            metavar='FILE',
            help='JSON with pybids filters: {"t1w": {"acquisition": "mprage", "run": null}}; '
            'null means "without", "*" means "with any".',
        ),
        _path(
            '--bids-database-dir',
            aliases=['--bids_database_dir'],
            group=WHAT,
            metavar='DIR',
            help='Keep the index of the input dataset here and use it again.',
        ),
        _flag(
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
        _path(
            '--model',
            group=METHOD,
            metavar='DIR',
            show_default='the only model under OUTPUT_DIR/models, else $BIDS_INTERP_MODEL, '
            'else the demonstration model',
            help='Model bundle.',
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
            show_default='the embedded one',
            help='TemplateFlow name of the whole-head template for brain extraction, for example '
            'MNI152NLin6Asym.',
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
            ['--random-seed'],
            aliases=['--random_seed'],
            group=METHOD,
            type=int,
            default=20210628,
            help='Seed of everything random.',
        ),
        _flag(
            '--fast',
            aliases=['--sloppy'],
            group=METHOD,
            help='Coarser registration, not reproducible to the last digit: for trying out.',
        ),
        _flag('--offline', group=METHOD, help='Never touch the network.'),
    ]


def machine() -> list[Option]:
    """Return the options of the machine."""
    return [
        Option(
            ['--device'],
            group=MACHINE,
            metavar='[auto|cpu|cuda|cuda:N]',
            default='auto',
            help='Where the networks run; auto takes a GPU if there is one.',
        ),
        Option(
            ['--nprocs'],
            aliases=['--nthreads', '--n-cpus', '--n_cpus', '--n-procs', '--n_procs', '--ncpus'],
            group=MACHINE,
            type=click.IntRange(1),
            show_default="the CPUs of this job's limits",
            help='CPUs used at once.',
        ),
        Option(
            ['--omp-nthreads'],
            aliases=['--omp_nthreads', '--ants-nthreads'],
            group=MACHINE,
            type=click.IntRange(1),
            show_default='as --nprocs, at most 8',
            help='Threads of one process.',
        ),
        Option(
            ['--mem', 'mem_gb'],
            group=MACHINE,
            type=Memory(),
            show_default="90 % of this job's limit",
            help='Memory for all processes, with unit: 8GB, 8000MB.',
        ),
        Option(
            ['--mem-mb'],
            aliases=['--mem_mb'],
            group=MACHINE,
            type=ScaledNumber(1e-3),
            help='The same in MB.',
        ),
        Option(
            ['--mem-gb', 'mem_in_gb'],
            group=MACHINE,
            aliases=['--mem_gb'],
            type=ScaledNumber(1.0),
            help='The same in GB.',
        ),
        _path(
            '-w',
            '--work-dir',
            aliases=['--work_dir'],
            group=MACHINE,
            metavar='DIR',
            show_default='./work',
            help='Intermediate results; a second run with it continues where the first ended.',
        ),
        _flag(
            '--clean-workdir',
            aliases=['--clean_workdir'],
            group=MACHINE,
            help='Empty the work directory before the run.',
        ),
        _path(
            '--use-plugin',
            aliases=['--nipype-plugin-file', '--use_plugin'],
            group=MACHINE,
            metavar='FILE',
            help='YAML file with plugin and plugin_args of nipype, for example for SLURM.',
        ),
        _flag(
            '--resource-monitor',
            aliases=['--resource_monitor'],
            group=MACHINE,
            help='Record time and memory of every step (needs psutil).',
        ),
    ]


def running() -> list[Option]:
    """Return the options of the run."""
    return [
        _path(
            '--config-file',
            aliases=['--config_file'],
            group=RUNNING,
            metavar='FILE',
            help='Settings of an earlier run (TOML); options of the command line win.',
        ),
        _flag('--dry-run', group=RUNNING, help='Only show what would be processed, and how.'),
        _flag('--write-graph', group=RUNNING, help='Write the workflow as a graph into logs/.'),
        _flag('--reports-only', group=RUNNING, help='Only make the reports, of what is there.'),
        _flag(
            '--boilerplate-only',
            aliases=['--boilerplate'],
            group=RUNNING,
            help='Only write the methods text.',
        ),
        _flag(
            '--md-only-boilerplate',
            group=RUNNING,
            help='Write the methods text as Markdown only (no HTML).',
        ),
        _flag(
            '--stop-on-first-crash',
            aliases=['--stop_on_first_crash'],
            group=RUNNING,
            help='End at the first error; the others are otherwise finished.',
        ),
    ]


def other() -> list[Option]:
    """Return what remains."""
    return [
        Option(
            ['-v', '--verbose'],
            group=OTHER,
            count=True,
            show_default=False,
            help="Say more; -vv adds nipype's own messages, -vvv its debugging.",
        ),
        _flag('--notrack', group=OTHER, help='Nothing: there is no telemetry to switch off.'),
    ]


def all_options() -> list[Option]:
    """Return every option of ``bids_interp``."""
    return [*selection(), *method(), *machine(), *running(), *other()]


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
