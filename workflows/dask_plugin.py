"""Nodes on the workers of a dask cluster: here, anywhere, or as jobs of SLURM."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from nipype.pipeline.plugins.base import DistributedPluginBase
from nipype.pipeline.plugins.multiproc import run_node

from bids_interp.errors import SchedulerError, WorkerLostError
from bids_interp.workflows.plugin_file import check_dask
from bids_interp.workflows.watched import CrashesAnyway, failure

logger = logging.getLogger('bids_interp')

#: Memory that a worker is thought to need.
WORKER_GB = 3.0
#: Seconds without any worker after which the jobs are given up.
WORKER_SECONDS = 120.0
#: Seconds to reach a scheduler.
CONNECT_SECONDS = 30.0


class DaskPlugin(CrashesAnyway, DistributedPluginBase):
    """Run each node on a worker of dask, one node per worker and thread.

    Parameters
    ----------
    plugin_args : dict
        One of ``scheduler`` (address of a cluster that runs), ``slurm`` (arguments of
        ``dask_jobqueue.SLURMCluster``) and neither (workers on this machine); ``n_workers``;
        ``memory_limit`` of a worker on this machine, at which dask ends it; ``worker_timeout``
        in seconds. ``nprocs``, ``mem_gb`` and ``scratch`` are what this machine allows.

    Raises
    ------
    UsageError
        If dask is not installed or the arguments do not fit together.
    SchedulerError
        If no cluster can be reached.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        check_dask(plugin_args)
        self._patience = float(plugin_args.get('worker_timeout', WORKER_SECONDS))
        self._open = ExitStack()
        self._futures: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._next = 0
        self._seen = time.monotonic()
        self._asked = 0.0
        try:
            self.client = self._connect(plugin_args)
        except (OSError, ValueError, TypeError) as error:
            self._open.close()
            raise SchedulerError(
                f'No dask cluster: {error}.', 'Look at the --use-plugin file.'
            ) from error

    def _connect(self, arguments: Mapping[str, Any]) -> Any:
        import dask
        from distributed import Client, LocalCluster

        # A node that ended its worker would end the next one too; nodes start processes.
        quiet = {
            'distributed.scheduler.allowed-failures': 0,
            'distributed.worker.daemon': False,
            'distributed.scheduler.worker-ttl': '60 minutes',
        }
        self._open.enter_context(dask.config.set(quiet))
        if 'scheduler' in arguments:
            cluster: Any = str(arguments['scheduler'])
        elif 'slurm' in arguments:
            cluster = self._open.enter_context(_slurm_cluster(arguments['slurm']))
            cluster.scale(int(arguments.get('n_workers', 4)))
        else:
            fitting = max(1, min(arguments['nprocs'], int(arguments['mem_gb'] / WORKER_GB)))
            cluster = LocalCluster(
                n_workers=int(arguments.get('n_workers', fitting)),
                threads_per_worker=1,
                memory_limit=arguments.get('memory_limit', 0),
                dashboard_address=None,
                local_directory=arguments.get('scratch'),
                silence_logs=logging.CRITICAL,
            )
            self._open.enter_context(cluster)
        return self._open.enter_context(
            Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        )

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._next += 1
        self._names[self._next] = node.fullname
        if not self._futures:
            self._seen = time.monotonic()
        self._futures[self._next] = self.client.submit(
            run_node, node, updatehash, self._next, pure=False
        )
        return self._next

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        future, name = self._futures[taskid], self._names[taskid]
        if not future.done():
            if self._is_deserted():
                return failure(taskid, WorkerLostError(f'No worker of dask was left for {name}.'))
            return None
        if future.status == 'finished':
            return future.result()
        error = future.exception() if future.status == 'error' else CancelledError()
        if isinstance(error, KilledWorker | CancelledError):
            error = WorkerLostError(f'The worker of dask that ran {name} was killed.')
        return failure(taskid, error)

    def _is_deserted(self) -> bool:
        """Tell whether there has been no worker for too long."""
        now = time.monotonic()
        if now - self._asked > 1:
            self._asked = now
            # Without a scheduler there is nobody to ask for workers.
            with suppress(OSError):
                if self.client.status == 'running' and self.client.ncores():
                    self._seen = now
        return now - self._seen > self._patience

    def _clear_task(self, taskid: int) -> None:
        self._futures.pop(taskid).release()

    def close(self) -> None:
        """Leave the cluster; end it where it is our own."""
        self._futures.clear()
        self._open.close()


def _slurm_cluster(arguments: Mapping[str, Any]) -> Any:
    from dask_jobqueue import SLURMCluster

    # One node at a time in each worker, which changes the folder of its process.
    return SLURMCluster(**{'cores': 1, 'processes': 1, 'memory': '4GB', **arguments})
