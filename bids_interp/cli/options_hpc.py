"""The options of ``bids_interp_tools hpc``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from bids_interp.cli.params import Memory, Option, flag

SCHEDULERS = ('slurm', 'pbs', 'torque', 'sge', 'lsf')
ENGINES = ('apptainer', 'singularity', 'docker', 'podman', 'none')
WHO, HOW, NEEDS, PLACES, JOBS = (
    'What is processed',
    'How it runs',
    'What a job asks for',
    'Folders',
    'Scripts',
)


class Duration(click.ParamType):
    """A time with its unit, in minutes.

    Examples
    --------
    >>> [Duration().convert(text, None, None) for text in ('90min', '4h', '2d', '1-02:30:00')]
    [90, 240, 2880, 1590]
    """

    name = 'TIME'

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return minutes; a bare number is refused, since schedulers differ in what it means."""
        text = str(value).strip()
        short = re.fullmatch(r'(\d+)(min|h|d)', text)
        if short:
            return max(1, int(short[1]) * {'min': 1, 'h': 60, 'd': 1440}[short[2]])
        clock = re.fullmatch(r'(?:(\d+)-)?(\d+):(\d\d):(\d\d)', text)
        if clock is None:
            self.fail(f'{value!r} is not a time such as 90min, 4h, 2d or 04:00:00.', param, ctx)
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return max(1, 1440 * days + 60 * hours + minutes + (seconds > 0))


def _option(name: str, group: str, text: str, **attrs: Any) -> Option:
    attrs.setdefault('show_default', attrs.get('default') is not None)
    return Option([name], group=group, help=text, **attrs)


def _path(name: str, group: str, text: str, **attrs: Any) -> Option:
    return _option(name, group, text, type=click.Path(path_type=Path), metavar='PATH', **attrs)


def who() -> list[Option]:
    """Return the options of who is processed."""
    return [
        _option('--participant-label', WHO, 'Only these.', multiple=True, metavar='LABEL...'),
        flag('--only-missing', group=WHO, help='Leave out participants that are finished.'),
        _option('--group/--no-group', WHO, 'A job for the group level.', default=True),
        _option('--group-options', WHO, 'Its options, in one word.', default='', metavar='TEXT'),
        _option('--train-options', WHO, 'Train first, with these options.', metavar='TEXT'),
    ]


def how() -> list[Option]:
    """Return the options of how it runs."""
    number = {'type': click.IntRange(0), 'show_default': True}
    return [
        _option('--image', HOW, 'Image of the container.', metavar='IMAGE'),
        _option('--engine', HOW, 'Runs it.', type=click.Choice(ENGINES), default='apptainer'),
        _path('--program', HOW, 'With --engine none: bids_interp; that of this environment.'),
        _option(
            '--setup', HOW, 'Shell line before, such as "module load apptainer".', multiple=True
        ),
        _option(
            '--dependency',
            HOW,
            'Whether the group job waits for the end of all participants, or for their success.',
            type=click.Choice(('afterany', 'afterok')),
            default='afterany',
        ),
        _option('--max-running', HOW, 'Tasks at once; 0: no limit.', default=0, **number),
        _option(
            '--max-array',
            HOW,
            'Tasks of one array; there are several where more are needed.',
            type=click.IntRange(1),
            default=1000,
        ),
        _option('--retries', HOW, 'Repetitions of a task that failed.', default=1, **number),
        _option(
            '--requeues', HOW, 'Times a task that was ended goes back to the queue (SLURM).',
            default=3, **number,
        ),
        _option('--grace', HOW, 'Seconds from warning to end (SLURM).', default=120, **number),
    ]  # fmt: skip


def needs() -> list[Option]:
    """Return the options of what a job asks for."""
    positive = click.IntRange(1)
    return [
        _option('--cpus', NEEDS, 'Cores of a task; else estimated.', type=positive),
        _option('--mem', NEEDS, 'Memory of a task; else estimated.', type=Memory()),
        _option('--time', NEEDS, 'Time of a task; else estimated.', type=Duration()),
        _option('--gpus', NEEDS, 'GPUs of a task.', type=click.IntRange(0), default=0),
        _option('--group-mem', NEEDS, 'Memory of the group job.', type=Memory()),
        _option('--group-time', NEEDS, 'Time of the group job.', type=Duration()),
        _option('--train-cpus', NEEDS, 'Cores of the training.', type=positive),
        _option('--train-mem', NEEDS, 'Memory of the training.', type=Memory()),
        _option('--train-time', NEEDS, 'Time of the training.', type=Duration()),
        _option('--train-gpus', NEEDS, 'GPUs of the training.', type=click.IntRange(0)),
        _option('--partition', NEEDS, 'Partition or queue.', metavar='NAME'),
        _option('--gpu-partition', NEEDS, 'The one with GPUs.', metavar='NAME'),
        _option('--account', NEEDS, 'Account or project.', metavar='NAME'),
        _option('--qos', NEEDS, 'Quality of service (SLURM).', metavar='NAME'),
        _option(
            '--parallel-environment', NEEDS, 'Of SGE, for cores of one machine.',
            default='smp', metavar='NAME',
        ),
        _option(
            '--scheduler-option', NEEDS, 'Further option of the scheduler: "--exclude=node7".',
            multiple=True, metavar='TEXT',
        ),
    ]  # fmt: skip


def places() -> list[Option]:
    """Return the options of the folders."""
    return [
        _path('--work-dir', PLACES, 'Intermediate results, on scratch; else in OUTPUT_DIR.'),
        _option(
            '--node-scratch',
            PLACES,
            "Intermediate results on the node's own disk: $TMPDIR. A task that is run again on "
            'another node starts from the beginning.',
            metavar='PATH',
        ),
        flag('--delete-work', group=PLACES, help='Delete those of a task that succeeded.'),
        _path('--templateflow', PLACES, 'Folder with templates; else those of the image.'),
        _path('--bind', PLACES, 'Further folder that links in the data lead to.', multiple=True),
    ]


def scripts() -> list[Option]:
    """Return the options of the scripts."""
    return [
        _path('--out', JOBS, 'Folder of the scripts.', default=Path('bids_interp-jobs')),
        flag('--overwrite', group=JOBS, help='Replace other scripts in it.'),
        flag('--dry-run', group=JOBS, help='Only print the scripts.'),
        flag('--submit', group=JOBS, help='Submit the jobs.'),
    ]
