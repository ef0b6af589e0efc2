"""nipype internals (and those of Python's process pool) that this package relies on.

No other module uses private attributes of nipype. For each of them, a test in
``tests/execution/test_nipype_internals.py`` fails when nipype changes, and ``setup.cfg`` pins
nipype to the minor version that was tested.
"""

from __future__ import annotations

import glob
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from traceback import walk_tb
from typing import Any

from nipype.pipeline.engine import nodes as nipype_nodes
from nipype.pipeline.engine import utils as nipype_utils
from nipype.pipeline.engine.utils import load_resultfile
from nipype.pipeline.plugins import base as nipype_base
from nipype.pipeline.plugins.base import DistributedPluginBase
from nipype.pipeline.plugins.multiproc import MultiProcPlugin
from nipype.pipeline.plugins.multiproc import run_node as run_nipype_node

__all__ = [
    'DistributedPlugin',
    'ProcessPlugin',
    'failure',
    'pool_processes',
    'raised_on_reading_results',
    'run_node',
    'traceback_of',
    'was_interrupted',
]

logger = logging.getLogger('bids_interp')


def find_in_folder(pattern: str) -> list[str]:
    """Return the files of a pattern whose folder is an ordinary path, also with brackets.

    nipype looks for the files of a node with ``glob`` and the path of the work directory. In
    ``123[7].srv``, where job arrays of Torque work, it finds none, and the next run fails.
    """
    folder, name = os.path.split(pattern)
    return glob.glob(os.path.join(glob.escape(folder), name))


for module in (nipype_nodes, nipype_utils, nipype_base):
    module.glob = find_in_folder


def run_node(node: Any, updatehash: bool, task: int) -> dict[str, Any]:
    """Run a node in a worker, and return its result or its traceback.

    The worker finds this function here, so that it also searches folders as above.
    """
    result: dict[str, Any] = run_nipype_node(node, updatehash, task)
    return result


class Hooks(ABC):
    """Hooks of nipype's distributed plugins, under public names.

    The class must precede a plugin of nipype among the bases. nipype chooses the next node; a
    subclass defines how to run it.
    """

    n_tasks = 0

    @abstractmethod
    def submit(self, task: int, node: Any, updatehash: bool) -> None:
        """Start a node as a task with this number."""

    @abstractmethod
    def result(self, task: int) -> dict[str, Any] | None:
        """Return the result of a task as :func:`run_node` does, or None while it runs."""

    @abstractmethod
    def forget(self, task: int) -> None:
        """Release the data of a task that has ended."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources. Both nipype and the caller may call this."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self.n_tasks += 1
        self.submit(self.n_tasks, node, updatehash)
        return self.n_tasks

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        return self.result(taskid)

    def _clear_task(self, taskid: int) -> None:
        self.forget(taskid)

    def _postrun_check(self) -> None:
        self.close()

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        # The run continues even if the disk is full.
        try:
            return super()._report_crash(node, result=result)  # type: ignore[misc]
        except OSError as error:
            logger.error('The crash file of %s could not be written: %s', node, error)
            return ''


class DistributedPlugin(Hooks, DistributedPluginBase):
    """Plugin of nipype that starts every node as soon as its inputs are ready."""


class ProcessPlugin(Hooks, MultiProcPlugin):
    """nipype's MultiProc, which limits processors, memory and GPUs, without its own pool."""

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self.pool: ProcessPoolExecutor
        self.pool.shutdown(wait=False)  # no process was started yet


def failure(task: int, error: BaseException) -> dict[str, Any]:
    """Return the result of a failed task, in the format of nipype's plugins."""
    kind = type(error)
    line = f'{kind.__module__}.{kind.__qualname__}: {error}\n'
    # The traceback of the worker names the first error.
    before = [f'{error.__cause__}\n'] if error.__cause__ else []
    return {'result': None, 'traceback': [*before, line], 'taskid': task}


def was_interrupted(result: dict[str, Any]) -> bool:
    """Tell whether a result of :func:`run_node`, which catches all exceptions, is an interruption.

    Within an interface, nipype turns it into a text of another exception.

    Examples
    --------
    >>> was_interrupted({'traceback': ['Traceback:', 'KeyboardInterrupt']})
    True
    >>> was_interrupted({'traceback': None})
    False
    """
    words = ' '.join(result['traceback'] or ()).split()
    return words[-1:] == [KeyboardInterrupt.__name__]


def traceback_of(node: Any) -> Sequence[str] | None:
    """Return the traceback of a node that failed in a distributed plugin."""
    return getattr(node, '_traceback', None)


def raised_on_reading_results(error: BaseException) -> bool:
    """Tell whether nipype raised an error while reading the result of an earlier step."""
    code = load_resultfile.__code__
    return any(frame.f_code is code for frame, _ in walk_tb(error.__traceback__))


def pool_processes(pool: ProcessPoolExecutor) -> dict[int, BaseProcess]:
    """Return the processes of a pool by their ids; none after its shutdown."""
    return dict(pool._processes or {})
