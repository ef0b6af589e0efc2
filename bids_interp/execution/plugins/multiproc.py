"""nipype's MultiProc that notices workers that were killed."""

from __future__ import annotations

import fcntl
import glob
import logging
import multiprocessing as mp
import os
import shutil
import signal
import socket
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

from bids_interp.errors import WorkerLostError
from bids_interp.execution.log import quieten_nipype
from bids_interp.execution.nipype_internals import (
    ProcessPlugin,
    failure,
    pool_processes,
    run_node,
)

logger = logging.getLogger('bids_interp')

# Imported once in the process from which all workers are forked: workers start at once and share
# the memory of these modules. None of them starts a thread or touches a GPU when it is imported.
PRELOAD = ('nipype.pipeline.engine', 'niworkflows.engine', 'nibabel', 'scipy.ndimage', 'torch')

# Start of the names of the watches' folders, and the file in each that its process locks.
FOLDERS, LOCK = 'workers-', 'lock'


def start_worker(cwd: str, level: int) -> None:
    """Prepare a new worker: its folder, and how much nipype says."""
    os.chdir(cwd)
    quieten_nipype(level)
    # Ctrl-C is for the main process, which ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_main()


def _end_with_main() -> None:
    """Let the system end this worker when the main process was killed and can end nobody.

    The worker is a child of the fork server, which lives as long as its children. Only the main
    process holds the other end of a pipe of multiprocessing: the system signals that it closes.
    A thread that waits for that would come too late, since ANTs keeps all others from running.
    """
    main = mp.parent_process()
    if main is None:
        return
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    with suppress(OSError):  # a system without such signals: worth less than the worker
        fcntl.fcntl(main.sentinel, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(main.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(main.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    if not main.is_alive():  # it ended before this was set
        os._exit(1)


def run_watched(node: Any, updatehash: bool, taskid: int, pids: str) -> dict[str, Any]:
    """Run a node in a worker that first says which process it is.

    Parameters
    ----------
    node : nipype.Node
        What is run.
    updatehash : bool
        Passed on.
    taskid : int
        Number of the job.
    pids : str
        Folder for one file per job that holds the worker's process id.
    """
    path = Path(pids, str(taskid))
    path.write_text(str(os.getpid()))
    result = run_node(node, updatehash, taskid)
    path.unlink(missing_ok=True)
    return result


class WatchedMultiProcPlugin(ProcessPlugin):
    """nipype's MultiProc that does not wait for ever when a worker is killed.

    When the system kills a worker (mostly for lack of memory), the job in it fails with
    :class:`~bids_interp.errors.WorkerLostError`; jobs that only shared the pool run again.

    Parameters
    ----------
    plugin_args : dict
        Those of MultiProc, and ``scratch``: a folder for the watch's files.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args)
        self._folder = os.getcwd()
        self._context = mp.get_context('forkserver')
        self._context.set_forkserver_preload(list(PRELOAD))
        remove_left(Path(plugin_args['scratch']))
        self._pids, self._lock = _lock_folder(Path(plugin_args['scratch']))
        self._level = logging.getLogger('nipype.workflow').level
        self._processes: dict[int, Any] = {}
        self._jobs: dict[int, tuple[Any, bool]] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._lost: set[int] = set()
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=start_worker,
            initargs=(self._folder, self._level),
            mp_context=self._context,
        )

    def submit(self, task: int, node: Any, updatehash: bool) -> None:
        """Run a node in a process of the pool; see :class:`ProcessPlugin`."""
        self._jobs[task] = (node, updatehash)
        arguments = (node, updatehash, task, str(self._pids))
        try:
            future = self.pool.submit(run_watched, *arguments)
        except BrokenProcessPool:
            self.pool.shutdown(wait=False)
            self.pool = self._new_pool()
            future = self.pool.submit(run_watched, *arguments)
        self._processes.update(pool_processes(self.pool))
        future.add_done_callback(partial(self._keep, task))

    def _keep(self, task: int, future: Future) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._results[task] = future.result()
        elif isinstance(error, BrokenProcessPool):
            self._lost.add(task)
        else:
            self._results[task] = failure(task, error)

    def result(self, task: int) -> dict[str, Any] | None:
        """Return the result of a task, or None while it runs."""
        if task in self._lost:
            self._settle_lost()
        return self._results.get(task)

    def _settle_lost(self) -> None:
        """Fail the jobs whose worker was killed; run the others of the pool again."""
        time.sleep(0.2)  # until the pool has failed all its jobs
        lost, self._lost = sorted(self._lost), set()
        killed = [task for task in lost if self._was_killed(task)] or lost
        for task in lost:
            node, updatehash = self._jobs[task]
            (self._pids / str(task)).unlink(missing_ok=True)
            if task in killed:
                error = WorkerLostError(f'The process that ran {node.fullname} was killed.')
                self._results[task] = failure(task, error)
            else:
                logger.warning('%s runs again: another process was killed.', node.fullname)
                self.submit(task, node, updatehash)

    def _was_killed(self, task: int) -> bool:
        """Tell whether the worker of a job was killed (the pool ends the others by SIGTERM)."""
        try:
            pid = int((self._pids / str(task)).read_text())
        except (OSError, ValueError):
            return False  # it had not started
        process = self._processes.get(pid)
        return process is None or process.exitcode not in (None, -signal.SIGTERM)

    def forget(self, task: int) -> None:
        """Release what is kept of a task that has ended."""
        self._jobs.pop(task, None)
        self._results.pop(task, None)

    def close(self) -> None:
        """End all workers now, whatever they do."""
        processes = pool_processes(self.pool)
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.kill()
        self._lock.close()
        shutil.rmtree(self._pids, ignore_errors=True)


def _lock_folder(scratch: Path) -> tuple[Path, IO[str]]:
    """Make a folder for the watch's files that is locked as long as this process lives.

    Jobs in containers may share the scratch folder, and have the same process id. A lock is only
    trusted on the machine that made it: on some shared disks it is not seen elsewhere.
    """
    made = Path(mkdtemp(prefix='.making-', dir=scratch))
    lock = (made / LOCK).open('w')
    with suppress(OSError):  # a disk without locks
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Under this name it is locked from the beginning.
    name = made.name.replace('.making-', f'{FOLDERS}{socket.gethostname()}-')
    return made.rename(made.with_name(name)), lock


def remove_left(scratch: Path) -> None:
    """Remove the folders of watches on this machine whose main process was killed."""
    for folder in scratch.glob(f'{FOLDERS}{glob.escape(socket.gethostname())}-*'):
        # Who cannot lock it, for whatever reason, leaves it alone.
        with suppress(OSError), (folder / LOCK).open('r+') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
