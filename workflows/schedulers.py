"""What is different between SLURM, PBS, SGE and LSF: options, ids, lists of jobs."""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger('bids_interp')

#: Memory of the smallest job: Python with the libraries of a node takes this before it computes.
MIN_MEM_GB = 1.5
COMMAND_SECONDS = 60
# What schedulers say when none of the jobs asked for is left.
_NONE_LEFT = re.compile(
    r'Unknown Job|has finished|Invalid job id|No unfinished job|not found', re.I
)
# Reasons for which a SLURM job waits for ever.
_HOPELESS = re.compile(
    r'DependencyNeverSatisfied|BadConstraints|JobHoldMaxRequeue|launch.failed.requeued.held'
    r'|PartitionTimeLimit|PartitionNodeLimit|InvalidQOS|InvalidAccount|AccountNotAllowed'
    r'|QOSNotAllowed'
)


@dataclass(frozen=True)
class Scheduler:
    """How to talk to one kind of scheduler.

    Parameters
    ----------
    name : str
        For messages.
    submit, cancel : str
        Commands.
    key : str
        Name of the options in nipype's ``plugin_args``.
    cpu_args, mem_args, gpu_args : str
        Options that ask for a node's share, with ``{cpus}``, ``{mem_mb}`` (MiB),
        ``{mem_gb}`` (rounded up), ``{mem_mb_per_cpu}`` and ``{gpus}``.
    asked : mapping
        For ``cpu``, ``mem`` and ``gpu`` the pattern of options with which a user asks for the
        same thing; ours is then left out.
    job_id : str
        Pattern of the id in the output of the submit command.
    dependency : tuple of str
        Start and separator of the option that lets a job wait for others; empty if there is none.
    alone : bool
        Whether the option for CPUs is needed for a single one too.
    always : str
        Options of every job, with ``{log}`` (a file for its output) and ``{name}``.
    runner : tuple of str
        Words in front of the script.
    """

    name: str
    submit: str
    cancel: str
    key: str
    cpu_args: str
    mem_args: str
    gpu_args: str
    asked: Mapping[str, str]
    job_id: str
    dependency: tuple[str, str] = ('', '')
    alone: bool = True
    always: str = '-o {log} -e {log} -J {name}'
    runner: tuple[str, ...] = ()

    def resources(self, node: Any, arguments: Mapping[str, Any]) -> str:
        """Return the options of a node: its resources, then what the user gave.

        Parameters
        ----------
        node : nipype.Node
            Its ``n_procs``, ``mem_gb``, inputs ``use_gpu`` and ``n_devices``, and ``plugin_args``
            are read.
        arguments : mapping
            ``plugin_args`` of the ``--use-plugin`` file. ``cpu_args``, ``mem_args`` and
            ``gpu_args`` replace the patterns of this class; an empty text leaves them out.
        """
        own = (node.plugin_args or {}).get(self.key, '')
        given = f'{arguments.get(self.key) or ""} {own}'.strip()
        cpus = max(1, int(node.n_procs or 1))
        mem_gb = max(float(node.mem_gb or 0), float(arguments.get('min_mem_gb', MIN_MEM_GB)))
        mem_mb = math.ceil(mem_gb * 1e9 / 2**20)
        values = {
            'cpus': cpus,
            'gpus': getattr(node.inputs, 'n_devices', 1),
            'mem_mb': mem_mb,
            'mem_gb': math.ceil(mem_gb),
            'mem_mb_per_cpu': math.ceil(mem_mb / cpus),
        }
        wanted = {
            'cpu': self.alone or cpus > 1,
            'mem': True,
            'gpu': node.is_gpu_node(),
        }
        parts = [
            str(arguments.get(f'{kind}_args', getattr(self, f'{kind}_args'))).format(**values)
            for kind, is_wanted in wanted.items()
            if is_wanted and not re.search(self.asked[kind], f' {given}')
        ]
        return ' '.join(part for part in [*parts, given] if part)

    def active(self, ids: Iterable[str]) -> dict[str, str] | None:
        """Return the jobs that are not finished, and for each why it never will be ('' if it may).

        None if the scheduler did not answer.
        """
        user = str(os.getuid())
        commands = {
            'SLURM': ['squeue', '--noheader', f'--user={user}', '--format=%A|%T|%r'],
            'PBS': ['qstat', *ids],
            'SGE': ['qstat'],
            'LSF': ['bjobs', '-noheader', '-o', 'jobid stat'],
        }
        answer = call(commands[self.name])
        if answer is None:
            return None
        code, stdout, stderr = answer
        if code != 0 and not _NONE_LEFT.search(f'{stderr} {stdout}'):
            logger.debug('%s: %s', commands[self.name][0], stderr)
            return None
        return self._parse(stdout)

    def _parse(self, listing: str) -> dict[str, str]:
        found = {}
        for line in listing.splitlines():
            match = re.match(r'\s*(\d+)', line)
            if match is None:
                continue
            why = ''
            if self.name == 'SLURM':
                hopeless = _HOPELESS.search(line)
                why = hopeless.group() if hopeless else ''
            elif self.name in ('PBS', 'SGE'):
                state = [*line.split(), *[''] * 5][4]
                if self.name == 'PBS' and state in ('C', 'F'):
                    continue
                why = f'state {state}' if self.name == 'SGE' and 'E' in state else ''
            elif line.split()[1:2] in (['DONE'], ['EXIT']):
                continue
            found[match.group(1)] = why
        return found

    def fate(self, job: str) -> str:
        """Return what the scheduler knows of how a job ended ('' if nothing)."""
        if self.name != 'SLURM':
            return ''
        answer = call(['scontrol', '--oneliner', 'show', 'job', job])
        state = re.search(r'\bJobState=(\w+)', answer[1]) if answer else None
        return state.group(1) if state and state.group(1) != 'COMPLETED' else ''

    def cancel_jobs(self, ids: Iterable[str]) -> None:
        """Take jobs out of the queue, whatever the scheduler says to it."""
        jobs = list(ids)
        if jobs:
            call([self.cancel, *jobs])

    def wait_for(self, ids: Iterable[str]) -> str:
        """Return the option that lets a job wait for others."""
        jobs, (start, separator) = list(ids), self.dependency
        return start + separator.join(jobs) if jobs else ''


def call(command: list[str]) -> tuple[int, str, str] | None:
    """Run a short command: exit code, output, errors; None if it did not end."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug('%s: %s', shlex.join(command), error)
        return None
    return done.returncode, done.stdout, done.stderr


SLURM = Scheduler(
    'SLURM',
    'sbatch',
    'scancel',
    'sbatch_args',
    '--cpus-per-task={cpus}',
    '--mem={mem_mb}M',
    '--gres=gpu:{gpus}',
    {
        'cpu': r'\s(--cpus-per-task|-c\b|--cpus-per-gpu)',
        'mem': r'\s--mem\b|\s--mem-per-(cpu|gpu)',
        'gpu': r'\s(--gres|--gpus|-G\b)',
    },
    r'(?:Submitted batch job )?(\d+)',
    ('--kill-on-invalid-dep=yes --dependency=afterok:', ':'),
)
PBS = Scheduler(
    'PBS',
    'qsub',
    'qdel',
    'qsub_args',
    '-l ncpus={cpus}',
    '-l mem={mem_mb}mb',
    '-l ngpus={gpus}',
    {
        'cpu': r'ncpus=|nodes=|ppn=|select=',
        'mem': r'mem=|select=',
        'gpu': r'gpus=|select=',
    },
    r'(\d+)',
    ('-W depend=afterok:', ':'),
    always='-V -o {log} -j oe -N {name}',
)
SGE = Scheduler(
    'SGE',
    'qsub',
    'qdel',
    'qsub_args',
    '-pe smp {cpus}',
    '-l mem_free={mem_mb_per_cpu}M',
    '-l gpu={gpus}',
    {
        'cpu': r'\s-pe\s',
        'mem': r'h_vmem=|mem_free=|s_vmem=|h_rss=|virtual_free=',
        'gpu': r'gpus?=',
    },
    r'Your job (\d+)',
    ('-hold_jid ', ','),
    alone=False,
    always='-V -S /bin/bash -o {log} -j y -N {name}',
)
LSF = Scheduler(
    'LSF',
    'bsub',
    'bkill',
    'bsub_args',
    '-n {cpus} -R "span[hosts=1]"',
    '-M {mem_mb}MB -R "rusage[mem={mem_mb}MB]"',
    '-gpu "num={gpus}"',
    {'cpu': r'\s-n\s', 'mem': r'\s-M\s|rusage', 'gpu': r'\s-gpu\s'},
    r'<(\d+)>',
    alone=False,
    runner=('bash',),
)
