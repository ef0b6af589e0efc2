"""The options of ``bids_interp`` on where and how it runs."""

from __future__ import annotations

import click

from bids_interp.cli.params import (
    MACHINE,
    OTHER,
    RUNNING,
    Memory,
    Option,
    ScaledNumber,
    flag,
    path_option,
)


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
        path_option(
            '-w',
            '--work-dir',
            aliases=['--work_dir'],
            group=MACHINE,
            metavar='DIR',
            show_default='./work',
            help='Intermediate results; a second run with it continues where the first ended.',
        ),
        flag(
            '--clean-workdir',
            aliases=['--clean_workdir'],
            group=MACHINE,
            help='Empty the work directory before the run.',
        ),
        path_option(
            '--use-plugin',
            aliases=['--nipype-plugin-file', '--use_plugin'],
            group=MACHINE,
            metavar='FILE',
            help='YAML file with plugin (MultiProc, Linear or Dask) and plugin_args.',
        ),
        flag(
            '--resource-monitor',
            aliases=['--resource_monitor'],
            group=MACHINE,
            help='Record time and memory of every step (needs psutil).',
        ),
    ]


def running() -> list[Option]:
    """Return the options of the run."""
    return [
        path_option(
            '--config-file',
            aliases=['--config_file'],
            group=RUNNING,
            metavar='FILE',
            help='Settings of an earlier run (TOML); options of the command line win.',
        ),
        flag('--dry-run', group=RUNNING, help='Only show what would be processed, and how.'),
        flag('--write-graph', group=RUNNING, help='Write the workflow as a graph into logs/.'),
        flag('--reports-only', group=RUNNING, help='Only make the reports, of what is there.'),
        flag(
            '--boilerplate-only',
            aliases=['--boilerplate'],
            group=RUNNING,
            help='Only write the methods text.',
        ),
        flag(
            '--md-only-boilerplate',
            group=RUNNING,
            help='Write the methods text as Markdown only (no HTML).',
        ),
        flag(
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
        flag('--notrack', group=OTHER, help='Nothing: there is no telemetry to switch off.'),
    ]
