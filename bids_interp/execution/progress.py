"""Progress of a run: the nodes that are finished or failed, logged as they run."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bids_interp.execution.nipype_internals import traceback_of
from bids_interp.execution.outcome import FAILED, Outcome, read_error, without_message
from bids_interp.execution.run import walk_nodes

logger = logging.getLogger('bids_interp')


class Progress:
    """Progress of the nodes of a run; :meth:`update` is nipype's status callback.

    Parameters
    ----------
    images : dict
        Prefix of each image, by the name of its workflow.
    n_nodes : dict
        Number of nodes of each image, by the name of its workflow.
    on_done : callable, optional
        Function that takes the name of a workflow when all its nodes are done.
    """

    def __init__(
        self,
        images: Mapping[str, str],
        n_nodes: Mapping[str, int],
        on_done: Callable[[str], object] | None = None,
    ) -> None:
        self.images = dict(images)
        self.on_done = on_done
        self.n_nodes = Counter(n_nodes)
        self.n_done = dict.fromkeys(images, 0)
        self.n_cached = dict.fromkeys(images, 0)
        self.failures: dict[str, Outcome] = {}
        self.started = time.monotonic()
        self._node_started: dict[str, float] = {}
        self._broken: dict[str, Any] = {}

    def update(self, node: Any, status: str) -> None:
        """Record and log that a node started, ended or failed."""
        workflow = next((part for part in node.fullname.split('.') if part in self.images), None)
        if workflow is None:
            return
        now = time.monotonic()
        if status == 'start':
            self._node_started[node.fullname] = now
            logger.debug('%s: %s starts', self.images[workflow], node.name)
            return
        began = self._node_started.pop(node.fullname, None)
        if status == 'exception':
            self._fail(workflow, node)
            return
        self.n_done[workflow] += 1
        self.n_cached[workflow] += began is None
        self._log_end(workflow, node.name, None if began is None else now - began)
        if self.on_done is not None and self.n_done[workflow] == self.n_nodes[workflow]:
            self.on_done(workflow)

    def _log_end(self, workflow: str, step: str, seconds: float | None) -> None:
        count = f'{self.n_done[workflow]}/{self.n_nodes[workflow]}'
        took = 'cached' if seconds is None else f'{seconds:.1f} s'
        level = logging.DEBUG if seconds is None else logging.INFO
        logger.log(level, '%s  %5s  %-24s %8s', self.images[workflow], count, step, took)
        if self.n_done[workflow] == self.n_nodes[workflow]:
            cached = self.n_cached[workflow]
            rest = f' ({cached} of {self.n_nodes[workflow]} steps were cached)' if cached else ''
            elapsed = time.monotonic() - self.started
            logger.info('%s  done%s, %.0f s since the start', self.images[workflow], rest, elapsed)

    def _fail(self, workflow: str, node: Any) -> None:
        # nipype sets the node's traceback only after this call; `outcome` reads it later.
        name = self.images[workflow]
        self._broken.setdefault(workflow, node)
        self.failures.setdefault(workflow, Outcome(name, FAILED, step=node.name))
        logger.error('%s  failed in %s', name, node.name)

    def outcome(self, workflow: str, crash_dir: Path) -> Outcome:
        """Return the outcome of an image after the run.

        Parameters
        ----------
        workflow : str
            Name of the image's workflow.
        crash_dir : Path
            Folder of the crash files of this image.
        """
        name = self.images[workflow]
        failed = self.failures.get(workflow)
        if failed is None:
            if self.n_done[workflow] >= self.n_nodes[workflow]:
                return Outcome(name)
            failed = Outcome(name, FAILED, 'Processing was not finished.')
        step = failed.step
        crashes = sorted(crash_dir.glob(f'crash-*-{step}-*.txt')) if step else []
        # The crash file may be truncated (full disk), or the only message of a remote worker.
        traceback = traceback_of(self._broken.get(workflow))
        if crashes:
            failed.crash_file = crashes[-1]
            traceback = traceback or crashes[-1].read_text(errors='replace')
        if traceback:
            failed.problem = read_error(traceback)
        elif not failed.problem:
            failed.problem = without_message(crash_dir)
        return failed


def count_nodes(workflow: Any) -> dict[str, int]:
    """Return the number of nodes to run in each part of a workflow."""
    from nipype.interfaces.utility import IdentityInterface

    runs = [
        names[0]
        for names, node in walk_nodes(workflow)
        if not isinstance(node.interface, IdentityInterface)
    ]
    return dict(Counter(runs))
