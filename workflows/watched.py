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
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

from bids_interp.errors import WorkerLostError
from bids_interp.workflows.logs import quieten_nipype

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


class CrashesAnyway:
    """Lets a run go on when the file about a crash cannot be written (the disk is full).

    Goes before a plugin of nipype among the bases; the node keeps its traceback.
    """

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        try:
            return super()._report_crash(node, result=result)  # type: ignore[misc]
        except OSError as error:
            logger.error('No file about the failure of %s can be written: %s', node, error)
            return ''


class WatchedMultiProcPlugin(CrashesAnyway, MultiProcPlugin):
    """nipype's MultiProc that does not wait for ever when a worker is killed.

    When the system kills a worker (mostly for lack of memory), the job in it fails with
    :class:`~bids_interp.errors.WorkerLostError`; jobs that only shared the pool run again.

    Parameters
    ----------
    plugin_args : dict
        Those of MultiProc, and ``scratch``: a folder for the watch's files.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        # nipype's pool is not used: it has started no process yet.
        self.pool: ProcessPoolExecutor
        self.pool.shutdown(wait=False)
        self._context = mp.get_context('forkserver')
        self._context.set_forkserver_preload(list(PRELOAD))
        remove_left(Path(plugin_args['scratch']))
        self._pids, self._lock = _lock_folder(Path(plugin_args['scratch']))
        self._level = logging.getLogger('nipype.workflow').level
        self._processes: dict[int, Any] = {}
        self._jobs: dict[int, tuple[Any, bool]] = {}
        self._lost: set[int] = set()
        self.pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=start_worker,
            initargs=(self._cwd, self._level),
            mp_context=self._context,
        )

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        self._jobs[self._taskid] = (node, updatehash)
        self._submit(self._taskid)
        return self._taskid

    def _submit(self, taskid: int) -> None:
        node, updatehash = self._jobs[taskid]
        arguments = (node, updatehash, taskid, str(self._pids))
        try:
            future = self.pool.submit(run_watched, *arguments)
        except BrokenProcessPool:
            self.pool.shutdown(wait=False)
            self.pool = self._new_pool()
            future = self.pool.submit(run_watched, *arguments)
        future.taskid = taskid  # type: ignore[attr-defined]
        self._processes.update(self.pool._processes or {})
        self._task_obj[taskid] = future
        future.add_done_callback(self._async_callback)

    def _async_callback(self, args: Future) -> None:
        taskid = args.taskid  # type: ignore[attr-defined]
        if args.cancelled():
            return
        error = args.exception()
        if error is None:
            self._taskresult[taskid] = args.result()
        elif isinstance(error, BrokenProcessPool):
            self._lost.add(taskid)
        else:
            self._taskresult[taskid] = failure(taskid, error)

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        if taskid in self._lost:
            self._settle_lost()
        return self._taskresult.get(taskid)

    def _settle_lost(self) -> None:
        """Fail the jobs whose worker was killed; run the others of the pool again."""
        time.sleep(0.2)  # until the pool has failed all its jobs
        lost, self._lost = sorted(self._lost), set()
        killed = [taskid for taskid in lost if self._was_killed(taskid)] or lost
        for taskid in lost:
            node = self._jobs[taskid][0]
            (self._pids / str(taskid)).unlink(missing_ok=True)
            if taskid in killed:
                error = WorkerLostError(f'The process that ran {node.fullname} was killed.')
                self._taskresult[taskid] = failure(taskid, error)
            else:
                logger.warning('%s runs again: another process was killed.', node.fullname)
                self._submit(taskid)

    def _was_killed(self, taskid: int) -> bool:
        """Tell whether the worker of a job was killed (the pool ends the others by SIGTERM)."""
        try:
            pid = int((self._pids / str(taskid)).read_text())
        except (OSError, ValueError):
            return False  # it had not started
        process = self._processes.get(pid)
        return process is None or process.exitcode not in (None, -signal.SIGTERM)

    def _clear_task(self, taskid: int) -> None:
        super()._clear_task(taskid)
        self._jobs.pop(taskid, None)
        self._taskresult.pop(taskid, None)

    def _postrun_check(self) -> None:
        self.close()

    def close(self) -> None:
        """End all workers now, whatever they do."""
        processes = dict(self.pool._processes or {})
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


def failure(taskid: int, error: BaseException) -> dict[str, Any]:
    """Return what a plugin of nipype takes as the result of a job that failed."""
    kind = type(error)
    line = f'{kind.__module__}.{kind.__qualname__}: {error}\n'
    # The traceback in a worker: it knows the first error, where others came of it.
    before = [f'{error.__cause__}\n'] if error.__cause__ else []
    return {'result': None, 'traceback': [*before, line], 'taskid': taskid}
