"""Linear plugin, which runs the nodes one after the other in the main process."""

from __future__ import annotations

from traceback import format_exception
from typing import Any

from bids_interp.execution.manifest import run_recorded
from bids_interp.execution.nipype_internals import DistributedPlugin, was_interrupted


class SerialPlugin(DistributedPlugin):
    """Plugin of nipype that runs one node at a time, without other processes.

    nipype's own serial plugin reports a node that was interrupted, and the nodes behind one that
    failed, as done.

    Parameters
    ----------
    plugin_args : dict
        Arguments of nipype's distributed plugins.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__({**plugin_args, 'max_jobs': 1})
        self._results: dict[int, dict[str, Any]] = {}

    def submit(self, task: int, node: Any, updatehash: bool) -> None:
        """Run a node.

        Raises
        ------
        KeyboardInterrupt
            If it was interrupted.
        """
        try:
            result = run_recorded(node, updatehash, task)
        except Exception as error:  # nipype could not even keep the failure: the disk is full
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            result = {'result': None, 'traceback': format_exception(error), 'taskid': task}
        if was_interrupted(result):
            raise KeyboardInterrupt
        self._results[task] = result

    def result(self, task: int) -> dict[str, Any]:
        """Return the result of a task."""
        return self._results[task]

    def forget(self, task: int) -> None:
        """Release the result of a task."""
        self._results.pop(task, None)

    def close(self) -> None:
        """Do nothing: there are no other processes."""
