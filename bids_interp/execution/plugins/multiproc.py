"""MultiProc plugin of nipype that notices killed workers."""

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
from bids_interp.execution.manifest import run_recorded
from bids_interp.execution.nipype_internals import (
    ProcessPlugin,
    failure,
    pool_processes,
)

logger = logging.getLogger('bids_interp')

# Imported once in the process from which all workers are forked, so that workers start fast and
# share the memory of these modules. Importing them starts no thread and uses no GPU.
PRELOAD = ('nipype.pipeline.engine', 'niworkflows.engine', 'nibabel', 'scipy.ndimage', 'torch')

# Prefix of the folders of the plugin's files, and the file in each that its process locks.
FOLDERS, LOCK = 'workers-', 'lock'


def start_worker(cwd: str, level: int) -> None:
    """Prepare a new worker: its folder, log level and signals."""
    os.chdir(cwd)
    quieten_nipype(level)
    # Ctrl-C is handled by the main process, which ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_main()


def _end_with_main() -> None:
    """Make the system end this worker if the main process is killed.

    The worker is a child of the fork server, which lives as long as its children. The main process
    holds the other end of a pipe of multiprocessing, and the system signals when it is closed. A
    thread could not wait for that, because ANTs blocks all other threads.
    """
    main = mp.parent_process()
    if main is None:
        return
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    with suppress(OSError):  # some systems have no such signals
        fcntl.fcntl(main.sentinel, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(main.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(main.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
    if not main.is_alive():  # it ended before the signal was set
        os._exit(1)


def run_watched(node: Any, updatehash: bool, taskid: int, pids: str) -> dict[str, Any]:
    """Run a node in a worker that first writes its process id.

    Parameters
    ----------
    node : nipype.Node
        Node to run.
    updatehash : bool
        Argument of nipype.
    taskid : int
        Number of the task.
    pids : str
        Folder with one file per task, which contains the process id of the worker.
    """
    path = Path(pids, str(taskid))
    path.write_text(str(os.getpid()))
    result = run_recorded(node, updatehash, taskid)
    path.unlink(missing_ok=True)
    return result


class WatchedMultiProcPlugin(ProcessPlugin):
    """MultiProc plugin of nipype that does not wait forever for a killed worker.

    When the system kills a worker (usually for lack of memory), its task fails with
    :class:`~bids_interp.errors.WorkerLostError`; the other tasks of the pool run again. The pool
    ends its workers by SIGTERM, so if this signal comes from outside, the task is not known: all of
    them run again once.

    Parameters
    ----------
    plugin_args : dict
        Arguments of MultiProc, and ``scratch``: a folder for files of the plugin.
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
        self._repeated: set[int] = set()
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
        """Fail the tasks whose worker was killed; run the other tasks of the pool again."""
        time.sleep(0.2)  # until the pool has failed all its tasks
        lost, self._lost = sorted(self._lost), set()
        killed = {task for task in lost if self._was_killed(task)}
        if not killed:
            # One of them was ended by SIGTERM, which may have been sent by a watch on memory.
            killed = self._repeated.intersection(lost)
            self._repeated.update(lost)
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
        """Tell whether the worker of a task was killed (the pool ends the others by SIGTERM)."""
        try:
            pid = int((self._pids / str(task)).read_text())
        except (OSError, ValueError):
            return False  # it had not started
        process = self._processes.get(pid)
        return process is None or process.exitcode not in (None, -signal.SIGTERM)

    def forget(self, task: int) -> None:
        """Release the data of a task that has ended."""
        self._jobs.pop(task, None)
        self._results.pop(task, None)

    def close(self) -> None:
        """Kill all workers."""
        processes = pool_processes(self.pool)
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.kill()
        self._lock.close()
        shutil.rmtree(self._pids, ignore_errors=True)


def _lock_folder(scratch: Path) -> tuple[Path, IO[str]]:
    """Create a folder for files of the plugin that is locked as long as this process lives.

    Jobs in containers may share the scratch folder and have the same process id. A lock is trusted
    only on the machine that made it, because some shared disks do not show it elsewhere.
    """
    made = Path(mkdtemp(prefix='.making-', dir=scratch))
    lock = (made / LOCK).open('w')
    with suppress(OSError):  # a disk without locks
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # A folder with the final name is always locked.
    name = made.name.replace('.making-', f'{FOLDERS}{socket.gethostname()}-')
    return made.rename(made.with_name(name)), lock


def remove_left(scratch: Path) -> None:
    """Remove the folders of plugins on this machine whose main process was killed."""
    for folder in scratch.glob(f'{FOLDERS}{glob.escape(socket.gethostname())}-*'):
        # A folder that cannot be locked, for whatever reason, is kept.
        with suppress(OSError), (folder / LOCK).open('r+') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
