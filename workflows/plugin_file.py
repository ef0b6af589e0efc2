"""The file of ``--use-plugin``: read and checked before anything heavy is imported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.device import resolve_device
from bids_interp.errors import UsageError
from bids_interp.settings import Settings

#: Files and variables that container runtimes leave behind.
CONTAINER_FILES = ('/.dockerenv', '/run/.containerenv', '/.singularity.d')
CONTAINER_VARIABLES = ('APPTAINER_CONTAINER', 'SINGULARITY_CONTAINER', 'container')

_BATCH = frozenset({
    'cpu_args', 'mem_args', 'gpu_args', 'min_mem_gb', 'template', 'max_tries', 'retry_timeout',
    'poll_seconds', 'job_finished_timeout',
})  # fmt: skip
_STEPS = _BATCH | {'max_jobs'}


@dataclass(frozen=True)
class Kind:
    """What is known of a plugin before it is made.

    Parameters
    ----------
    arguments : frozenset of str
        Keys of ``plugin_args``.
    commands : tuple of str
        Programs that must be on PATH.
    """

    arguments: frozenset[str]
    commands: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    'MultiProc': Kind(
        frozenset({
            'n_procs', 'memory_gb', 'n_gpu_procs', 'raise_insufficient', 'scheduler', 'mp_context',
            'maxtasksperchild', 'max_jobs',
        })
    ),
    'Linear': Kind(frozenset()),
    'SLURM': Kind(_STEPS | {'sbatch_args'}, ('sbatch', 'squeue', 'scancel')),
    'SLURMGraph': Kind(_BATCH | {'sbatch_args'}, ('sbatch', 'squeue', 'scancel')),
    'PBS': Kind(_STEPS | {'qsub_args'}, ('qsub', 'qstat', 'qdel')),
    'PBSGraph': Kind(_BATCH | {'qsub_args'}, ('qsub', 'qstat', 'qdel')),
    'SGE': Kind(_STEPS | {'qsub_args'}, ('qsub', 'qstat', 'qdel')),
    'SGEGraph': Kind(_BATCH | {'qsub_args'}, ('qsub', 'qstat', 'qdel')),
    'LSF': Kind(_STEPS | {'bsub_args'}, ('bsub', 'bjobs', 'bkill')),
    'Dask': Kind(
        frozenset({'scheduler', 'n_workers', 'slurm', 'worker_timeout', 'memory_limit', 'max_jobs'})
    ),
}  # fmt: skip

_REFUSED = {
    'LegacyMultiProc': 'it waits for ever when a worker is killed; take MultiProc',
    'DAGMan': 'it does not wait for its jobs',
    'Condor': 'it was never tried with this program',
    'IPython': 'it was never tried with this program; take Dask',
    'OAR': 'it was never tried with this program',
    'SomaFlow': 'it was never tried with this program',
    'Debug': 'it computes nothing',
}
_ADVICE = 'See the page "Plugins" of the documents, and the examples in boilerplate/hpc/plugins.'


def read_plugin_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return plugin and arguments of a ``--use-plugin`` file.

    Raises
    ------
    UsageError
        If it cannot be read, names no plugin that is supported, or an argument that the plugin
        does not have.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f'--use-plugin {path} cannot be read: {error}.') from error
    if not isinstance(content, dict) or not isinstance(content.get('plugin'), str):
        raise UsageError(f'--use-plugin {path} needs a line such as "plugin: SLURM".', _ADVICE)
    name = content['plugin']
    if name not in KINDS:
        why = f'not supported: {_REFUSED[name]}' if name in _REFUSED else 'unknown'
        raise UsageError(
            f'--use-plugin {path}: the plugin {name!r} is {why}. There are {", ".join(KINDS)}.',
            _ADVICE,
        )
    arguments = content.get('plugin_args') or {}
    if not isinstance(arguments, dict):
        raise UsageError(f'--use-plugin {path}: plugin_args is no list of "key: value".', _ADVICE)
    strange = sorted(set(map(str, arguments)) - KINDS[name].arguments)
    if strange:
        raise UsageError(
            f'--use-plugin {path}: {name} has no plugin_args {", ".join(strange)}; there are '
            f'{", ".join(sorted(KINDS[name].arguments)) or "none"}.',
            _ADVICE,
        )
    return name, {key: value for key, value in arguments.items() if value is not None}


def check_plugin(path: Path | None) -> None:
    """Read a ``--use-plugin`` file and look for the programs and packages that it needs.

    Raises
    ------
    UsageError
        If the file is wrong, or what the plugin needs is not there.
    """
    if path is None:
        return
    name, arguments = read_plugin_file(path)
    missing = [command for command in KINDS[name].commands if shutil.which(command) is None]
    if missing:
        where = 'in this container' if in_container() else 'on this machine'
        raise UsageError(
            f'--use-plugin {path}: {name} needs {", ".join(missing)}, not found {where}.',
            'Run it on a submit host of the cluster, or leave out --use-plugin and submit one '
            'array task per participant: `bids_interp_tools hpc slurm` writes the scripts.',
        )
    if name == 'Dask':
        check_dask(arguments)


def choose_device(settings: Settings) -> str:
    """Return the device of the networks; a GPU of other machines is taken on trust.

    Raises
    ------
    DeviceError
        If a GPU is asked for, the networks run on this machine, and it has none.
    """
    if settings.use_plugin is not None and settings.device.startswith('cuda'):
        name, arguments = read_plugin_file(settings.use_plugin)
        if KINDS[name].commands or {'scheduler', 'slurm'} & set(arguments):
            return settings.device
    return resolve_device(settings.device)


def check_dask(arguments: Mapping[str, Any]) -> None:
    """Look for the packages of dask, and for arguments that contradict each other.

    Raises
    ------
    UsageError
        If something is wrong.
    """
    from importlib.util import find_spec

    if 'scheduler' in arguments and {'n_workers', 'slurm'} & set(arguments):
        raise UsageError(
            'The plugin Dask takes either the address of a scheduler, or n_workers and slurm for '
            'a cluster of its own.',
            'Leave out one of them in the --use-plugin file.',
        )
    needed = {'distributed': 'distributed', 'dask_jobqueue': 'dask-jobqueue'}
    if 'slurm' not in arguments:
        del needed['dask_jobqueue']
    for module, package in needed.items():
        if find_spec(module) is None:
            raise UsageError(
                f'The plugin Dask needs the package {package}, which is not installed.',
                'Install it with `pip install "bids_interp[dask]"`.',
            )


def in_container(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process runs in a container, as far as one can see.

    Examples
    --------
    >>> in_container({'APPTAINER_CONTAINER': '/images/bids_interp.sif'})
    True
    """
    return any(environ.get(name) for name in CONTAINER_VARIABLES) or any(
        os.path.exists(path) for path in CONTAINER_FILES
    )
