"""Options of ``bids_interp_tools hpc``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.options.participant import shared_options
from bids_interp.cli.params import Memory, Option, OptionGroup, flag
from bids_interp.hpc.job import DEPENDENCIES, ENGINES

LEVELS = OptionGroup('Levels to run')
PROGRAM = OptionGroup('Container and environment')
RESOURCES = OptionGroup('Resources of a job')
QUEUE = OptionGroup('Scheduler')
FOLDERS = OptionGroup('Folders')
SCRIPTS = OptionGroup('Scripts')


class Duration(click.ParamType):
    """A time with its unit, in minutes.

    Examples
    --------
    >>> [Duration().convert(text, None, None) for text in ('90min', '4h', '2d', '1-02:30:00')]
    [90, 240, 2880, 1590]
    """

    name = 'TIME'

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return minutes; a bare number is refused, because schedulers interpret it differently."""
        text = str(value).strip()
        short = re.fullmatch(r'(\d+)(min|h|d)', text)
        if short:
            return max(1, int(short[1]) * {'min': 1, 'h': 60, 'd': 1440}[short[2]])
        clock = re.fullmatch(r'(?:(\d+)-)?(\d+):(\d\d):(\d\d)', text)
        if clock is None:
            self.fail(f'{value!r} is not a time, such as 90min, 4h, 2d or 04:00:00.', param, ctx)
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return max(1, 1440 * days + 60 * hours + minutes + (seconds > 0))


def _option(name: str, group: OptionGroup, text: str, **attrs: Any) -> Option:
    attrs.setdefault('show_default', attrs.get('default') is not None)
    return Option([name], group=group, help=text, **attrs)


def _path(name: str, group: OptionGroup, text: str, **attrs: Any) -> Option:
    attrs = {'type': click.Path(path_type=Path), 'metavar': 'PATH', **attrs}
    return _option(name, group, text, **attrs)


def hpc_options() -> list[Option]:
    """Return all options."""
    return [
        *shared_options('participant_label'),
        *_levels(),
        *_program(),
        *_resources(),
        *_queue(),
        *_folders(),
        *_scripts(),
    ]


def _levels() -> list[Option]:
    return [
        flag('--only-missing', group=LEVELS, help='Skip participants that are already finished.'),
        _option(
            '--group/--no-group', LEVELS, 'Whether to run the group level afterwards.', default=True
        ),
        _option(
            '--group-options',
            LEVELS,
            'Options of the group level, in quotes: "--group-by sex".',
            default='',
            show_default=False,
            metavar='TEXT',
        ),
        _option(
            '--train-options',
            LEVELS,
            'Run the train level first, with these options: "--label group --positive patient".',
            metavar='TEXT',
        ),
        _option(
            '--dependency',
            LEVELS,
            'When the group level starts: once all participants have ended (afterany), or only if '
            'all succeeded (afterok).',
            type=click.Choice(DEPENDENCIES),
            default='afterany',
        ),
    ]


def _program() -> list[Option]:
    return [
        _option(
            '--engine',
            PROGRAM,
            'Container engine; none runs an installed bids_interp.',
            type=click.Choice(ENGINES),
            default='apptainer',
        ),
        _option(
            '--image',
            PROGRAM,
            'Container image: a file, or a name such as docker://... Required unless --engine is '
            'none.',
            metavar='IMAGE',
        ),
        _path(
            '--program',
            PROGRAM,
            'Path of bids_interp for --engine none.',
            show_default='the one in this environment',
        ),
        _option(
            '--setup',
            PROGRAM,
            'Shell command to run first, such as "module load apptainer". Repeatable.',
            multiple=True,
            metavar='COMMAND',
        ),
    ]


def _resources() -> list[Option]:
    positive = click.IntRange(1)
    number = click.IntRange(0)
    return [
        _option(
            '--cpus', RESOURCES, 'CPUs per participant.', type=positive, show_default='estimated'
        ),
        _option(
            '--mem', RESOURCES, 'Memory per participant, with its unit: 8GB.', type=Memory(),
            show_default='estimated',
        ),
        _option(
            '--time', RESOURCES, 'Time per participant, with its unit: 90min, 4h, 04:00:00.',
            type=Duration(), show_default='estimated',
        ),
        _option('--gpus', RESOURCES, 'GPUs per participant.', type=number, default=0),
        _option(
            '--group-mem', RESOURCES, 'Memory of the group level.', type=Memory(),
            show_default='estimated',
        ),
        _option(
            '--group-time', RESOURCES, 'Time of the group level.', type=Duration(),
            show_default='estimated',
        ),
        _option(
            '--train-cpus', RESOURCES, 'CPUs of the train level.', type=positive, show_default='8'
        ),
        _option(
            '--train-mem', RESOURCES, 'Memory of the train level.', type=Memory(),
            show_default='32GiB',
        ),
        _option(
            '--train-time', RESOURCES, 'Time of the train level.', type=Duration(),
            show_default='24h',
        ),
        _option(
            '--train-gpus', RESOURCES, 'GPUs of the train level.', type=number,
            show_default='1 if --gpu-partition is given, else 0',
        ),
    ]  # fmt: skip


def _queue() -> list[Option]:
    number = click.IntRange(0)
    return [
        _option('--partition', QUEUE, 'Partition or queue.', metavar='NAME'),
        _option(
            '--gpu-partition', QUEUE, 'Partition or queue of jobs with GPUs.', metavar='NAME',
            show_default='as --partition',
        ),
        _option('--account', QUEUE, 'Account or project.', metavar='NAME'),
        _option('--qos', QUEUE, 'Quality of service (SLURM only).', metavar='NAME'),
        _option(
            '--parallel-environment', QUEUE,
            'Parallel environment for several cores on one machine (SGE only).',
            default='smp', metavar='NAME',
        ),
        _option(
            '--scheduler-option', QUEUE,
            'Further option for the scheduler, such as "--exclude=node7". Repeatable.',
            multiple=True, metavar='TEXT',
        ),
        _option(
            '--max-running', QUEUE, 'Maximum number of tasks that run at once; 0 for no limit.',
            default=0, type=number,
        ),
        _option(
            '--max-array', QUEUE,
            'Maximum number of tasks per job array; more participants are split into several.',
            default=1000, type=click.IntRange(1),
        ),
        _option(
            '--retries', QUEUE, 'Number of times a failed task is repeated at once.', default=1,
            type=number,
        ),
        _option(
            '--requeues', QUEUE,
            'Number of times a task is requeued after the scheduler has stopped it (SLURM only).',
            default=3, type=number,
        ),
        _option(
            '--grace', QUEUE, 'Seconds between the warning and the end of the time limit (SLURM '
            'only).',
            default=120, type=number,
        ),
    ]  # fmt: skip


def _folders() -> list[Option]:
    return [
        _path(
            '--work-dir',
            FOLDERS,
            'Folder of intermediate results, on a shared file system.',
            show_default='a hidden folder in OUTPUT_DIR',
        ),
        _option(
            '--node-scratch',
            FOLDERS,
            "Folder of intermediate results on the node's own disk, such as '$TMPDIR'. A task that "
            'is repeated on another node starts again from the beginning.',
            metavar='PATH',
        ),
        flag(
            '--delete-work',
            group=FOLDERS,
            help='Delete the intermediate results of each task that succeeds.',
        ),
        _path(
            '--templateflow',
            FOLDERS,
            'TemplateFlow folder.',
            show_default='the one in the image; TEMPLATEFLOW_HOME for --engine none',
        ),
        _path(
            '--bind',
            FOLDERS,
            'Further folder to make visible in the container, for example the target of symbolic '
            'links in the dataset. Repeatable.',
            multiple=True,
        ),
    ]


def _scripts() -> list[Option]:
    return [
        _path('--out', SCRIPTS, 'Folder of the scripts.', default=Path('bids_interp-jobs')),
        flag('--overwrite', group=SCRIPTS, help='Replace other scripts in that folder.'),
        flag('--dry-run', group=SCRIPTS, help='Print the scripts and write nothing.'),
        flag('--submit', group=SCRIPTS, help='Submit the jobs.'),
    ]
