"""Execution options of ``bids_interp``: the machine and the run."""

from __future__ import annotations

import click

from bids_interp.cli.params import (
    PARTICIPANT,
    TRAIN,
    Memory,
    Option,
    OptionGroup,
    ScaledNumber,
    flag,
    path_option,
)

MACHINE = OptionGroup('Resources')
RUNNING = OptionGroup('Run')
PARTS = OptionGroup('Parts of a run', (PARTICIPANT,))


def machine_options() -> list[Option]:
    """Return the options of the machine."""
    return [
        Option(
            ['--device'],
            group=MACHINE,
            levels=(PARTICIPANT, TRAIN),
            metavar='[auto|cpu|cuda|cuda:N]',
            default='auto',
            help='Device of the networks; auto uses a GPU if one is available.',
        ),
        Option(
            ['--nprocs'],
            aliases=['--nthreads', '--n-cpus', '--n_cpus', '--n-procs', '--n_procs', '--ncpus'],
            group=MACHINE,
            type=click.IntRange(1),
            show_default='all CPUs available to this job',
            help='Number of CPUs.',
        ),
        Option(
            ['--omp-nthreads'],
            aliases=['--omp_nthreads', '--ants-nthreads'],
            group=MACHINE,
            type=click.IntRange(1),
            show_default='as --nprocs, at most 8',
            help='Maximum number of threads per process.',
        ),
        Option(
            ['--mem', 'mem_gb'],
            group=MACHINE,
            type=Memory(),
            show_default='90 % of the memory available to this job',
            help='Memory of all processes together, with its unit: 8GB, 8000MB.',
        ),
        Option(
            ['--mem-mb'],
            aliases=['--mem_mb'],
            group=MACHINE,
            type=ScaledNumber(1e-3),
            help='The same in MB, without unit.',
        ),
        Option(
            ['--mem-gb', 'mem_in_gb'],
            group=MACHINE,
            aliases=['--mem_gb'],
            type=ScaledNumber(1.0),
            help='The same in GB, without unit.',
        ),
        path_option(
            '-w',
            '--work-dir',
            aliases=['--work_dir'],
            group=MACHINE,
            metavar='DIR',
            show_default='./work',
            help='Folder of intermediate results. A later run with the same folder continues '
            'where this one stopped.',
        ),
        flag(
            '--clean-workdir',
            aliases=['--clean_workdir'],
            group=MACHINE,
            help='Empty the work directory before the run.',
        ),
        flag(
            '--clean-on-success',
            group=MACHINE,
            levels=(PARTICIPANT,),
            help='Delete the intermediate results of each image as soon as it is done. A later '
            'run computes them again.',
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
            help='Record time and memory of each step (requires psutil).',
        ),
    ]


def run_options() -> list[Option]:
    """Return the options of the run."""
    return [
        flag(
            '--dry-run',
            group=RUNNING,
            help='Check the input, show what would be processed, and write nothing.',
        ),
        path_option(
            '--config-file',
            aliases=['--config_file'],
            group=RUNNING,
            metavar='FILE',
            help='TOML file with the settings of an earlier run. Options on the command line take '
            'precedence. Settings that belong to another level are ignored, with a note.',
        ),
        Option(
            ['--random-seed'],
            aliases=['--random_seed'],
            group=RUNNING,
            type=int,
            default=20210628,
            help='Random seed.',
        ),
        flag('--offline', group=RUNNING, help='Do not use the network.'),
        flag(
            '--stop-on-first-crash',
            aliases=['--stop_on_first_crash'],
            group=RUNNING,
            help='Stop at the first error. By default the other images are still processed.',
        ),
        Option(
            ['-v', '--verbose'],
            group=RUNNING,
            count=True,
            show_default=False,
            help="Log more. -vv adds nipype's messages, -vvv its debug messages.",
        ),
        flag('--notrack', group=RUNNING, help='Accepted for compatibility: nothing is tracked.'),
    ]


def output_options() -> list[Option]:
    """Return the options that rebuild or add single outputs."""
    return [
        flag(
            '--reports-only',
            group=PARTS,
            help='Only rebuild the reports from existing derivatives.',
        ),
        flag(
            '--boilerplate-only',
            aliases=['--boilerplate'],
            group=PARTS,
            help='Only write the methods text.',
        ),
        flag(
            '--md-only-boilerplate',
            group=PARTS,
            help='Write the methods text in Markdown only, without HTML.',
        ),
        flag(
            '--write-graph',
            group=PARTS,
            help='Also write the workflow graph to OUTPUT_DIR/logs.',
        ),
    ]
