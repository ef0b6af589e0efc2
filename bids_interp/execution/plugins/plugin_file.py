"""Plugin file of ``--use-plugin``: its checks, and the plugin that it describes."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.container import in_container
from bids_interp.device import resolve_device
from bids_interp.errors import UsageError
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from nipype.pipeline.plugins.base import PluginBase

#: Class of dask-jobqueue, and the commands that it calls, by the key in the file.
JOB_CLUSTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    'slurm': ('SLURMCluster', ('sbatch', 'scancel')),
    'pbs': ('PBSCluster', ('qsub', 'qdel')),
    'sge': ('SGECluster', ('qsub', 'qdel')),
    'lsf': ('LSFCluster', ('bsub', 'bkill')),
}

#: Keys of ``tls`` for the user's own certificate files; the last one is optional.
TLS_FILES = ('ca_file', 'cert', 'key')

#: Allowed keys of ``plugin_args`` of each plugin.
ARGUMENTS: Mapping[str, frozenset[str]] = {
    'MultiProc': frozenset({
        'n_procs', 'memory_gb', 'n_gpu_procs', 'raise_insufficient', 'scheduler', 'mp_context',
        'maxtasksperchild', 'max_jobs',
    }),
    'Linear': frozenset(),
    'Dask': frozenset({
        'scheduler', *JOB_CLUSTERS, 'n_workers', 'tls', 'worker_timeout', 'memory_limit',
        'max_jobs',
    }),
}  # fmt: skip

#: Types of the arguments, except those that are mappings.
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ('n_procs', 'n_gpu_procs', 'n_workers', 'max_jobs', 'maxtasksperchild'), (int,)
    ),
    **dict.fromkeys(('memory_gb', 'worker_timeout'), (int, float)),
    **dict.fromkeys(('scheduler', 'mp_context'), (str,)),
    'memory_limit': (int, float, str),
    'raise_insufficient': (bool,),
}

_REFUSED = {
    'LegacyMultiProc': 'it waits forever for a killed worker; use MultiProc',
    'DAGMan': 'it does not wait for its jobs',
    'Condor': 'it has not been tested with this program',
    'IPython': 'it has not been tested with this program; use Dask',
    'OAR': 'it has not been tested with this program',
    'SomaFlow': 'it has not been tested with this program',
    'Debug': 'it computes nothing',
} | {
    f'{kind.upper()}{suffix}': f'use "plugin: Dask" with "plugin_args: {{{kind}: {{...}}}}"'
    for kind in JOB_CLUSTERS
    for suffix in ('', 'Graph')
}
_ADVICE = 'See docs/plugins.md, and the examples in bids_interp/hpc/templates/plugins.'

StatusCallback = Callable[[Any, str], None]

logger = logging.getLogger('bids_interp')

#: Semaphores that a pool of processes needs, and some more.
_SEMAPHORES = 16


def read_plugin_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of the plugin in a ``--use-plugin`` file.

    Raises
    ------
    UsageError
        If the file cannot be read, or the plugin or an argument is not supported.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f'--use-plugin {path} cannot be read: {error}.') from error
    if not isinstance(content, dict) or not isinstance(content.get('plugin'), str):
        raise UsageError(f'--use-plugin {path} needs a line such as "plugin: Dask".', _ADVICE)
    name = content['plugin']
    if name not in ARGUMENTS:
        why = f'not supported: {_REFUSED[name]}' if name in _REFUSED else 'unknown'
        raise UsageError(
            f'--use-plugin {path}: the plugin {name!r} is {why}. '
            f'Supported plugins are {", ".join(ARGUMENTS)}.',
            _ADVICE,
        )
    arguments = content.get('plugin_args') or {}
    if not isinstance(arguments, dict):
        raise UsageError(
            f'--use-plugin {path}: plugin_args must contain lines "key: value".', _ADVICE
        )
    unknown = sorted(set(map(str, arguments)) - ARGUMENTS[name])
    if unknown:
        raise UsageError(
            f'--use-plugin {path}: {name} does not support the plugin_args {", ".join(unknown)}. '
            f'It supports {", ".join(sorted(ARGUMENTS[name])) or "none"}.',
            _ADVICE,
        )
    given = {key: value for key, value in arguments.items() if value is not None}
    for key, value in given.items():
        _check_value(path, key, value)
    return name, given


def _check_value(path: Path, key: str, value: Any) -> None:
    kinds = _KINDS.get(key)
    is_bool = isinstance(value, bool) and bool not in (kinds or ())
    if kinds and (not isinstance(value, kinds) or is_bool):
        raise UsageError(
            f'--use-plugin {path}: {key} must be {" or ".join(kind.__name__ for kind in kinds)}, '
            f'not {type(value).__name__}.',
            _ADVICE,
        )
    if isinstance(value, int | float) and not is_bool and not 0 <= value < math.inf:
        raise UsageError(f'--use-plugin {path}: {key} must not be {value}.', _ADVICE)


def check_plugin(path: Path | None) -> None:
    """Check a ``--use-plugin`` file, and the programs and packages that it needs.

    Raises
    ------
    UsageError
        If the file is invalid, or a program or package is missing.
    """
    if path is None:
        return
    name, arguments = read_plugin_file(path)
    if name == 'Dask':
        try:
            check_dask(arguments)
        except UsageError as error:
            raise UsageError(f'--use-plugin {path}: {error.message}', error.advice) from error


def choose_device(settings: Settings) -> str:
    """Return the device of the networks; a GPU on another machine is not checked.

    Raises
    ------
    DeviceError
        If a GPU was requested and the networks run on this machine, which has none.
    """
    if settings.use_plugin is not None and settings.device.startswith('cuda'):
        name, arguments = read_plugin_file(settings.use_plugin)
        if name == 'Dask' and (job_cluster(arguments) or 'scheduler' in arguments):
            return settings.device
    return resolve_device(settings.device)


def job_cluster(arguments: Mapping[str, Any]) -> str | None:
    """Return the scheduler whose jobs are the dask workers, if any."""
    return next((kind for kind in JOB_CLUSTERS if kind in arguments), None)


def check_dask(arguments: Mapping[str, Any]) -> None:
    """Check the arguments of the Dask plugin, and what it needs.

    Raises
    ------
    UsageError
        If arguments contradict each other, or a package, command or file is missing.
    """
    kind = job_cluster(arguments)
    sources = [key for key in ('scheduler', *JOB_CLUSTERS) if key in arguments]
    if len(sources) > 1 or ('scheduler' in arguments and 'n_workers' in arguments):
        raise UsageError(
            'The Dask plugin requires either the address of a scheduler, or workers of its own '
            f'(n_workers, and at most one of {", ".join(JOB_CLUSTERS)}).',
            'Remove one of them from the --use-plugin file.',
        )
    _check_tls(arguments)
    needed = {'distributed': 'distributed'}
    if kind:
        needed['dask_jobqueue'] = 'dask-jobqueue'
    if uses_tls(arguments) and not isinstance(arguments.get('tls'), Mapping):
        needed['cryptography'] = 'cryptography'
    for module, package in needed.items():
        if find_spec(module) is None:
            raise UsageError(
                f'The Dask plugin requires the package {package}, which is not installed.',
                'Install it with `pip install "bids_interp[dask]"`.',
            )
    if kind:
        _check_job_cluster(kind, arguments[kind])


def uses_tls(arguments: Mapping[str, Any]) -> bool:
    """Tell whether dask encrypts its connections, by default only with jobs."""
    return bool(arguments.get('tls', job_cluster(arguments) is not None))


def _check_tls(arguments: Mapping[str, Any]) -> None:
    tls = arguments.get('tls', False)
    if isinstance(tls, bool):
        if tls and 'scheduler' in arguments:
            raise UsageError(
                'A running scheduler does not accept new credentials.',
                f'Give its files in the --use-plugin file: tls: {{{", ".join(TLS_FILES)}}}.',
            )
        return
    if not isinstance(tls, Mapping) or not set(TLS_FILES[:2]) <= set(tls) <= set(TLS_FILES):
        raise UsageError(
            f'tls must be true, false, or the PEM files {", ".join(TLS_FILES)}.', _ADVICE
        )
    for name, path in tls.items():
        if not isinstance(path, str) or not os.access(path, os.R_OK):
            raise UsageError(f'The file {path} (tls: {name}) cannot be read.', _ADVICE)


def _check_job_cluster(kind: str, given: Any) -> None:
    """Check the commands of a scheduler and the network interface that dask listens on."""
    missing = [name for name in JOB_CLUSTERS[kind][1] if shutil.which(name) is None]
    if missing:
        where = 'in this container' if in_container() else 'on this machine'
        raise UsageError(
            f'{kind.upper()} requires {", ".join(missing)}, which was not found {where}.',
            'Run the command on a submit host of the cluster, or remove --use-plugin and submit '
            'one array task per participant (`bids_interp_tools hpc slurm` writes the scripts).',
        )
    if not isinstance(given, Mapping):
        raise UsageError(f'{kind} must contain arguments of {JOB_CLUSTERS[kind][0]}.', _ADVICE)
    options = given.get('scheduler_options') or {}
    name = options.get('interface', given.get('interface'))
    interfaces = [interface for _, interface in socket.if_nameindex()]
    if name not in interfaces and 'host' not in options:
        raise UsageError(
            f'{kind} requires the network interface through which jobs reach this machine, one of '
            f'{", ".join(interfaces)}{f", not {name}" if name else ""}.',
            f'For example: "{kind}: {{interface: {interfaces[-1]}}}" in the --use-plugin file.',
        )


def has_semaphores() -> bool:
    """Tell whether processes can be pooled, which takes a few semaphores in /dev/shm."""
    context = multiprocessing.get_context('spawn')
    try:
        _ = [context.Lock() for _ in range(_SEMAPHORES)]  # all at the same time
    except OSError:
        return False
    return True


def make_plugin(
    plugin_file: Path | None,
    *,
    nprocs: int,
    mem_gb: float,
    n_gpu_procs: int,
    scratch: Path,
    status_callback: StatusCallback,
) -> PluginBase:
    """Return the plugin of a run.

    Parameters
    ----------
    plugin_file : Path, optional
        YAML file of ``--use-plugin``; MultiProc by default.
    nprocs, mem_gb, n_gpu_procs : int, float, int
        Limits of MultiProc and of dask workers on this machine; arguments in the plugin file take
        precedence.
    scratch : Path
        Folder for files of the plugin.
    status_callback : callable
        Function that is called with (node, 'start' | 'end' | 'exception').
    """
    name, given = read_plugin_file(plugin_file) if plugin_file else ('MultiProc', {})
    arguments: dict[str, Any] = {'status_callback': status_callback, **given}
    if name == 'MultiProc' and not has_semaphores():
        logger.warning(
            'The system gives no semaphores (/dev/shm is full or read-only), so the steps run one '
            'after the other.'
        )
        name, arguments = 'Linear', {'status_callback': status_callback}
    if name == 'MultiProc':
        from bids_interp.execution.plugins.multiproc import WatchedMultiProcPlugin

        limits = {
            'n_procs': nprocs,
            'memory_gb': mem_gb,
            'n_gpu_procs': n_gpu_procs,
            'raise_insufficient': False,
            'scheduler': 'tsort',
            'mp_context': 'forkserver',
        }
        return WatchedMultiProcPlugin({**limits, **arguments, 'scratch': str(scratch)})
    if name == 'Dask':
        from bids_interp.execution.plugins.dask import DaskPlugin

        return DaskPlugin(
            {'nprocs': nprocs, 'mem_gb': mem_gb, **arguments, 'scratch': str(scratch)}
        )
    from bids_interp.execution.plugins.serial import SerialPlugin

    return SerialPlugin(arguments)
