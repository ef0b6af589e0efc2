"""The choice of a nipype plugin for a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype.pipeline.plugins.base import PluginBase

from bids_interp.workflows.plugin_file import read_plugin_file

StatusCallback = Callable[[Any, str], None]


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
        YAML of ``--use-plugin``; nipype's MultiProc (watched) if not given.
    nprocs, mem_gb, n_gpu_procs : int, float, int
        Limits of MultiProc and of Dask's own workers; a plugin file's own arguments win.
    scratch : Path
        Folder for the watch's files.
    status_callback : callable
        Called with (node, 'start' | 'end' | 'exception').
    """
    name, given = read_plugin_file(plugin_file) if plugin_file else ('MultiProc', {})
    arguments: dict[str, Any] = {'status_callback': status_callback, **given}
    if name == 'MultiProc':
        from bids_interp.workflows.watched import WatchedMultiProcPlugin

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
        from bids_interp.workflows.dask_plugin import DaskPlugin

        return DaskPlugin(
            {'nprocs': nprocs, 'mem_gb': mem_gb, **arguments, 'scratch': str(scratch)}
        )
    if name == 'Linear':
        from nipype.pipeline.plugins import LinearPlugin

        return LinearPlugin(plugin_args=arguments)
    return _batch_plugin(name, arguments)


def _batch_plugin(name: str, arguments: dict[str, Any]) -> PluginBase:
    from bids_interp.workflows import schedulers
    from bids_interp.workflows.batch import BatchPlugin
    from bids_interp.workflows.batch_graph import GraphPlugin

    scheduler = getattr(schedulers, name.removesuffix('Graph'))
    kind = GraphPlugin if name.endswith('Graph') else BatchPlugin
    return kind(scheduler, arguments)
