"""dask plugin, which runs nodes on the workers of a dask cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bids_interp.errors import SchedulerError, WorkerLostError
from bids_interp.execution.manifest import run_recorded
from bids_interp.execution.nipype_internals import DistributedPlugin, failure
from bids_interp.execution.plugins.plugin_file import (
    JOB_CLUSTERS,
    check_dask,
    job_cluster,
    uses_tls,
)

logger = logging.getLogger('bids_interp')

#: Assumed memory of a worker in GB.
WORKER_GB = 3.0
#: Default number of jobs.
N_JOBS = 4
#: Seconds without any worker after which the run gives up; jobs may wait longer in a queue.
WORKER_SECONDS, QUEUE_SECONDS = 120.0, 24 * 3600.0
#: Seconds until refused jobs are submitted again.
RETRY_SECONDS = 60.0
#: Timeout in seconds of the connection to a scheduler.
CONNECT_SECONDS = 30.0
#: Address of the status pages of dask, which are visible only on this machine.
PAGES = '127.0.0.1:0'

# A node that killed its worker would also kill the next one; nodes start processes; and ANTs blocks
# the heartbeat of a worker.
SETTINGS = {
    'distributed.scheduler.allowed-failures': 0,
    'distributed.worker.daemon': False,
    'distributed.scheduler.worker-ttl': '60 minutes',
}


class DaskPlugin(DistributedPlugin):
    """Plugin of nipype that runs each node on a worker of dask, one node per worker.

    Parameters
    ----------
    plugin_args : dict
        Arguments in docs/plugins.md. Workers run on this machine, unless ``scheduler`` is the
        address of a running cluster, or a key of
        :data:`~bids_interp.execution.plugins.plugin_file.JOB_CLUSTERS` holds the arguments of a
        cluster of dask-jobqueue. ``nprocs``, ``mem_gb`` and ``scratch`` are the limits of this
        machine and a folder for files of the plugin.

    Raises
    ------
    UsageError
        If a package is missing, or the arguments contradict each other.
    SchedulerError
        If no cluster can be reached, or it refuses the jobs.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        check_dask(plugin_args)
        self._kind = job_cluster(plugin_args)
        patience = QUEUE_SECONDS if self._kind else WORKER_SECONDS
        self._patience = float(plugin_args.get('worker_timeout', patience))
        self._open = ExitStack()
        self._futures: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._seen = time.monotonic()
        self._asked = 0.0
        try:
            self._connect(plugin_args)
        # distributed asserts, without a message, that its event loop starts within ten seconds.
        except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
            self.close()
            message = ' '.join(str(error).split()) or 'its event loop did not start in time'
            raise SchedulerError(
                f'The dask cluster could not be started or reached: {message}.',
                'Check the --use-plugin file.',
            ) from error

    def _connect(self, arguments: Mapping[str, Any]) -> None:
        import dask

        self._open.enter_context(dask.config.set(SETTINGS))
        security = self._security(arguments)
        if 'scheduler' in arguments:
            self.cluster: Any = str(arguments['scheduler'])
        elif self._kind:
            self.n_jobs = int(arguments.get('n_workers', N_JOBS))
            self.cluster = make_job_cluster(self._kind, arguments, security)
            self._open.enter_context(self.cluster)
            self.n_jobs = submit_jobs(self.cluster, self.n_jobs)
        else:
            self.cluster = self._open.enter_context(_local_cluster(arguments, security))
        self.client = self._open.enter_context(_connected_client(self.cluster, security))

    def _security(self, arguments: Mapping[str, Any]) -> Any:
        if not uses_tls(arguments):
            return None
        if isinstance(arguments.get('tls'), Mapping):
            return make_security(arguments['tls'])
        folder = TemporaryDirectory(
            prefix='dask-tls-', dir=arguments['scratch'], ignore_cleanup_errors=True
        )
        return make_security(write_credentials(Path(self._open.enter_context(folder))))

    def submit(self, task: int, node: Any, updatehash: bool) -> None:
        """Submit a node to dask."""
        self._names[task] = node.fullname
        if not self._futures:
            self._seen = time.monotonic()
        self._futures[task] = self.client.submit(run_recorded, node, updatehash, task, pure=False)

    def result(self, task: int) -> dict[str, Any] | None:
        """Return the result of a node, or None while it waits or runs."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        future, name = self._futures[task], self._names[task]
        if not future.done():
            if self._is_deserted():
                return failure(task, WorkerLostError(f'No dask worker was left for {name}.'))
            return None
        if future.status == 'finished':
            return future.result()
        error = future.exception() if future.status == 'error' else CancelledError()
        if isinstance(error, KilledWorker | CancelledError):
            error = WorkerLostError(f'The dask worker that ran {name} was killed.')
        return failure(task, error)

    def _is_deserted(self) -> bool:
        """Replace ended jobs; tell whether there has been no worker for too long."""
        now = time.monotonic()
        if now - self._asked > 1:
            self._asked = now
            with suppress(OSError):
                if self.client.status == 'running' and self.client.ncores():
                    self._seen = now
            if self._kind and len(self.cluster.workers) < self.n_jobs:
                try:
                    self.n_jobs = submit_jobs(self.cluster, self.n_jobs)
                except RuntimeError as error:
                    logger.warning('The scheduler refuses new jobs: %s', error)
                    self._asked = now + RETRY_SECONDS
        return now - self._seen > self._patience

    def forget(self, task: int) -> None:
        """Release the result of a node."""
        self._futures.pop(task).release()

    def close(self) -> None:
        """Disconnect from the cluster, and stop it if this plugin started it."""
        self._futures.clear()
        self._open.close()


def make_security(tls: Mapping[str, Any]) -> Any:
    """Return credentials from files; client, scheduler and workers share one certificate.

    Parameters
    ----------
    tls : mapping
        Paths of PEM files: ``ca_file``, ``cert``, and ``key`` unless the certificate contains it.

    Returns
    -------
    distributed.Security
        Credentials that refuse unencrypted connections.
    """
    from distributed import Security

    roles = {
        f'tls_{role}_{part}': str(tls[part])
        for role in ('client', 'scheduler', 'worker')
        for part in ('cert', 'key')
        if part in tls
    }
    return Security(require_encryption=True, tls_ca_file=str(tls['ca_file']), **roles)


def write_credentials(folder: Path) -> dict[str, str]:
    """Create credentials for one run, in files that only their owner can read.

    Parameters
    ----------
    folder : Path
        Empty folder on a disk that the jobs share.

    Returns
    -------
    dict of str to str
        Paths, as in :func:`make_security`.
    """
    from distributed import Security

    made = Security.temporary()
    texts = {'ca_file': made.tls_ca_file, 'cert': made.tls_worker_cert, 'key': made.tls_worker_key}
    files = {name: folder / f'{name}.pem' for name in texts}
    for name, path in files.items():
        path.touch(mode=0o600)
        path.write_text(texts[name])
    return {name: str(path) for name, path in files.items()}


def _connected_client(cluster: Any, security: Any) -> Any:
    """Return a client of a cluster; one that cannot connect is closed here.

    Otherwise the garbage collector would close it, at any moment: while distributed holds the lock
    of its event loops, for which closing waits without end.
    """
    from distributed import Client

    client = Client.__new__(Client)
    try:
        Client.__init__(
            client, cluster, security=security, timeout=CONNECT_SECONDS, set_as_default=False
        )
    except BaseException:
        client.close()
        raise
    return client


def _local_cluster(arguments: Mapping[str, Any], security: Any) -> Any:
    from distributed import LocalCluster

    fitting = max(1, min(arguments['nprocs'], int(arguments['mem_gb'] / WORKER_GB)))
    return LocalCluster(
        host='127.0.0.1',
        n_workers=int(arguments.get('n_workers', fitting)),
        threads_per_worker=1,
        memory_limit=arguments.get('memory_limit', 0),
        dashboard_address=PAGES,
        worker_dashboard_address=PAGES,
        local_directory=arguments.get('scratch'),
        security=security,
        silence_logs=logging.CRITICAL,
    )


def make_job_cluster(kind: str, arguments: Mapping[str, Any], security: Any) -> Any:
    """Return a cluster of dask-jobqueue without jobs.

    Parameters
    ----------
    kind : str
        Key of :data:`~bids_interp.execution.plugins.plugin_file.JOB_CLUSTERS`.
    arguments : mapping
        Arguments of the plugin.
    security : distributed.Security, optional
        Credentials, in files on a disk that the jobs share.
    """
    import dask_jobqueue

    if security is None:
        logger.warning(
            'tls is off: anyone who can reach the dask scheduler can run programs in your name.'
        )
    given = dict(arguments[kind])
    defaults = {
        'cores': 1,
        'processes': 1,
        'memory': '4GB',
        'log_directory': str(Path(arguments['scratch'], 'dask-logs')),
    }
    # Each worker runs one node at a time, because a node changes the folder of its process.
    given['worker_extra_args'] = [
        *given.get('worker_extra_args', []), '--nthreads', '1', '--dashboard-address', PAGES,
    ]  # fmt: skip
    given['job_script_prologue'] = [
        'export DASK_DISTRIBUTED__WORKER__DAEMON=False', 'export PYTHONSAFEPATH=1',
        *given.get('job_script_prologue', []),
    ]  # fmt: skip
    given['scheduler_options'] = {'dashboard_address': PAGES, **given.get('scheduler_options', {})}
    make = getattr(dask_jobqueue, JOB_CLUSTERS[kind][0])
    return make(**{**defaults, **given}, security=security)


def submit_jobs(cluster: Any, n_jobs: int) -> int:
    """Submit jobs until a cluster has the requested number.

    Parameters
    ----------
    cluster : dask_jobqueue.JobQueueCluster
        Cluster, whose ended jobs are replaced.
    n_jobs : int
        Number of jobs.

    Returns
    -------
    int
        Number of jobs; a scheduler may accept fewer than requested.

    Raises
    ------
    RuntimeError
        If the scheduler refuses a job and none is left; the message quotes it.
    """
    from distributed.core import Status

    async def submit() -> None:
        while len(cluster.worker_spec) < n_jobs:
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster

    before, refusal = set(cluster.workers), None
    try:
        cluster.sync(submit)
    except RuntimeError as error:
        refusal = error
    for name, job in list(cluster.workers.items()):
        if not job.job_id:
            job.status = Status.failed
            del cluster.workers[name], cluster.worker_spec[name]
    if refusal and not cluster.workers:
        raise refusal
    if refusal:
        logger.warning('The scheduler accepted %d of %d jobs.', len(cluster.workers), n_jobs)
    new = [job for name, job in cluster.workers.items() if name not in before]
    if new:
        logger.info(
            'Jobs of the dask workers: %s; logs: %s.',
            ' '.join(job.job_id for job in new),
            new[0].log_directory,
        )
    return len(cluster.workers)
