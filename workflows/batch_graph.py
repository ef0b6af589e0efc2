"""All jobs of a run handed to the scheduler at once; the program waits until they have ended."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nipype.pipeline.engine.utils import topological_sort
from nipype.pipeline.plugins.base import PluginBase
from nipype.pipeline.plugins.tools import report_crash

from bids_interp.errors import SchedulerError
from bids_interp.workflows.batch import POLL_SECONDS, Queue, Submitter, lost_job, patient
from bids_interp.workflows.schedulers import Scheduler
from bids_interp.workflows.watched import failure

logger = logging.getLogger('bids_interp')


class GraphPlugin(PluginBase):
    """Submit every node as a job that waits for those it depends on, and wait for all of them.

    nipype's plugins of this kind return as soon as the jobs are submitted.

    Parameters
    ----------
    scheduler : Scheduler
        Where to.
    plugin_args : dict
        See :data:`bids_interp.workflows.plugin_file.KINDS`; and ``status_callback``.
    """

    def __init__(self, scheduler: Scheduler, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self.scheduler = scheduler
        self.poll_seconds = float(plugin_args.get('poll_seconds', POLL_SECONDS))
        self.queue = Queue(scheduler, self.poll_seconds)
        self.submitter = Submitter(scheduler, plugin_args)
        self._jobs: dict[Any, str] = {}
        self._done: set[Any] = set()
        self._failed: dict[Any, str] = {}
        self._stop = False

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Submit the nodes of a graph and wait for them.

        Raises
        ------
        RuntimeError
            With the first error, if there was one.
        """
        config = patient(config, self.plugin_args)
        self._stop = str(config['execution']['stop_on_first_crash']).lower() == 'true'
        self._result_seconds = float(config['execution']['job_finished_timeout'])
        nodes, _ = topological_sort(graph)
        for node in nodes:
            before = list(graph.predecessors(node))
            if any(other in self._failed for other in before):
                self._failed[node] = ''
            elif self._is_cached(node, before):
                self._done.add(node)
                self._status_callback(node, 'end')
            else:
                self._start(node, before, updatehash)
        logger.info('%d jobs submitted to %s.', len(self._jobs), self.scheduler.name)
        while self._jobs:
            time.sleep(self.poll_seconds)
            self._look(graph, nodes)
        errors = [text for text in self._failed.values() if text]
        if errors:
            raise RuntimeError(errors[0])

    def _is_cached(self, node: Any, before: list[Any]) -> bool:
        # A node reads its inputs only once: not before those it depends on are done.
        if any(other not in self._done for other in before) or node.interface.always_run:
            return False
        return node.is_cached() == (True, True)

    def _start(self, node: Any, before: list[Any], updatehash: bool) -> None:
        self._status_callback(node, 'start')
        after = [self._jobs[other] for other in before if other in self._jobs]
        try:
            # The job itself writes what went wrong in it.
            job = self.submitter.submit(node, updatehash, after=after, store_exception=False)
        except (SchedulerError, OSError) as error:
            self._fail(node, error)
            return
        self._jobs[node] = job
        self.queue.add(job)

    def _look(self, graph: Any, nodes: list[Any]) -> None:
        """Judge the jobs that have ended, those first that others depend on."""
        for node in [node for node in nodes if node in self._jobs]:
            job = self._jobs[node]
            try:
                if self.queue.is_active(job):
                    continue
            except SchedulerError as error:
                self._forget(node)
                self._fail(node, error)
                continue
            self._forget(node)
            if any(other in self._failed for other in graph.predecessors(node)):
                self._failed[node] = ''
            elif self._has_result(node):
                self._done.add(node)
                self._status_callback(node, 'end')
            else:
                self._fail(node, lost_job(self.scheduler, job, node.fullname))

    def _forget(self, node: Any) -> None:
        self.queue.remove(self._jobs.pop(node))

    def _has_result(self, node: Any) -> bool:
        """Tell whether a node ended well: it then has a result, and a hash without reserve."""
        folder = Path(node.output_dir())
        until = time.monotonic() + self._result_seconds
        while True:
            hashes = [p for p in folder.glob('_0x*.json') if 'unfinished' not in p.name]
            if hashes and any(folder.glob('result_*.pklz')):
                return True
            if time.monotonic() > until or self._crash_of(node):
                return False
            time.sleep(min(1.0, self.poll_seconds))

    def _crash_of(self, node: Any) -> str:
        """Return what the job itself wrote about its end ('' if nothing)."""
        folder = Path(node.config['execution']['crashdump_dir'])
        files = sorted(folder.glob(f'crash-*-{node._id}-*'))
        return files[-1].read_text(errors='replace') if files else ''

    def _fail(self, node: Any, error: Exception) -> None:
        self._status_callback(node, 'exception')
        text = self._crash_of(node)
        if not text:
            lines = failure(0, error)['traceback']
            node._traceback = lines
            with suppress(OSError):  # the disk may be full
                report_crash(node, traceback=list(lines))
            text = ''.join(lines)
        self._failed[node] = text
        if self._stop:
            raise RuntimeError(text)

    def close(self) -> None:
        """Cancel jobs that are left."""
        self.queue.cancel()
