"""Nodes as jobs of a cluster: resources as options, refusals and lost jobs as clear errors."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from nipype.interfaces.utility import Merge
from nipype.pipeline.plugins.base import SGELikeBatchManagerBase
from nipype.pipeline.plugins.tools import create_pyscript

from bids_interp.errors import JobLostError, SchedulerError
from bids_interp.workflows.schedulers import Scheduler, call
from bids_interp.workflows.watched import CrashesAnyway, failure

logger = logging.getLogger('bids_interp')

#: Seconds between two questions to the scheduler.
POLL_SECONDS = 5.0
#: Seconds until the file of a finished job must be visible here (network disks are slow).
RESULT_SECONDS = 15.0
#: Seconds of silence of the scheduler after which its jobs are given up.
SILENCE_SECONDS = 900.0
#: A refused job is tried again so often, after so many seconds.
MAX_TRIES = 2
RETRY_SECONDS = 2.0
# PBS takes no longer names of jobs.
MAX_NAME = 15


class Queue:
    """The jobs of one run: which of them are still waiting or running.

    Parameters
    ----------
    scheduler : Scheduler
        Whom to ask.
    poll_seconds, silence_seconds : float
        How often to ask, and how long to put up with no answer.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        poll_seconds: float = POLL_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.scheduler = scheduler
        self.poll_seconds = poll_seconds
        self.silence_seconds = silence_seconds
        self._submitted: dict[str, float] = {}
        self._answer: dict[str, str] = {}
        self._asked = self._answered = time.monotonic()

    def add(self, job: str) -> None:
        """Note a job that was submitted just now."""
        self._submitted[job] = time.monotonic()

    def remove(self, job: str) -> None:
        """Forget a job."""
        self._submitted.pop(job, None)

    def is_active(self, job: str) -> bool:
        """Tell whether a job waits or runs, by an answer younger than the job.

        Raises
        ------
        SchedulerError
            If the scheduler has not answered for too long, or lets the job wait for ever.
        """
        self._ask()
        if self._submitted.get(job, 0.0) >= self._answered:
            return True
        why = self._answer.get(job)
        if why:
            self.scheduler.cancel_jobs([job])
            raise SchedulerError(
                f'{self.scheduler.name} would never run job {job} ({why}); it was cancelled.'
            )
        return why is not None

    def _ask(self) -> None:
        now = time.monotonic()
        if now - self._asked < self.poll_seconds or not self._submitted:
            return
        answer = self.scheduler.active(self._submitted)
        self._asked = time.monotonic()
        if answer is not None:
            self._answer, self._answered = answer, now
        elif now - max(self._answered, *self._submitted.values()) > self.silence_seconds:
            raise SchedulerError(
                f'{self.scheduler.name} has not answered for {self.silence_seconds / 60:.0f} '
                'minutes; its jobs were given up.',
                'Run the same command again when it answers; finished work is kept.',
            )

    def cancel(self) -> None:
        """Cancel what is left."""
        with suppress(Exception):
            self.scheduler.cancel_jobs(self._submitted)
        self._submitted.clear()


class Submitter:
    """Makes a script of a node and hands it to the scheduler.

    Parameters
    ----------
    scheduler : Scheduler
        Whom.
    arguments : mapping
        ``plugin_args`` of the ``--use-plugin`` file.
    """

    def __init__(self, scheduler: Scheduler, arguments: Mapping[str, Any]) -> None:
        self.scheduler = scheduler
        self.arguments = arguments
        self.tries = 1 + int(arguments.get('max_tries', MAX_TRIES))

    def submit(
        self,
        node: Any,
        updatehash: bool,
        *,
        after: Iterable[str] = (),
        store_exception: bool = True,
    ) -> str:
        """Submit a node that waits for other jobs; return the id of its job.

        Raises
        ------
        SchedulerError
            If the scheduler refuses it.
        """
        # The result of an earlier run is one that a killed job would seem to have made.
        for path in Path(node.output_dir()).glob('result_*.pklz'):
            path.unlink(missing_ok=True)
        code = Path(create_pyscript(node, updatehash=updatehash, store_exception=store_exception))
        script, log = code.with_suffix('.sh'), code.with_suffix('.log')
        script.write_text(f'{self._template()}\n{python_command(str(code))}\n')
        name = re.sub(r'\W', '_', f'n_{node.name}')[:MAX_NAME]
        # What comes later wins, and that is the user's.
        options = [
            self.scheduler.always.format(log=shlex.quote(str(log)), name=name),
            self.scheduler.wait_for(after),
            self.scheduler.resources(node, self.arguments),
        ]
        words = shlex.split(f'{self.scheduler.submit} {" ".join(options)}')
        for left in reversed(range(self.tries)):
            try:
                return self._hand_over([*words, *self.scheduler.runner, str(script)], node)
            except SchedulerError:
                if not left:
                    self.tries = 1  # the next ones need not wait for what was refused once
                    raise
                time.sleep(float(self.arguments.get('retry_timeout', RETRY_SECONDS)))
        raise AssertionError('there is at least one try')

    def _hand_over(self, words: list[str], node: Any) -> str:
        code, stdout, stderr = call(words) or (1, '', f'{words[0]} does not answer')
        found = re.search(self.scheduler.job_id, stdout)
        if code == 0 and found:
            return found.group(1)
        said = ' '.join((stderr or stdout).split()) or f'exit code {code}'
        raise SchedulerError(f'{self.scheduler.name} refused the job of {node.fullname}: {said}')

    def _template(self) -> str:
        """Return the head of the scripts: the user's text or file, or the shell's line."""
        given = str(self.arguments.get('template') or '#!/bin/bash')
        is_file = '\n' not in given and Path(given).is_file()
        return (Path(given).read_text() if is_file else given).rstrip('\n')


class BatchPlugin(CrashesAnyway, SGELikeBatchManagerBase):
    """Submit each node when those it depends on are done.

    In place of nipype's plugins for SLURM, PBS, SGE and LSF: resources of nodes become options, a
    refused job fails its node and no other, a job that was killed is said to be, one question
    asks for all jobs, and jobs that are left at the end of a run are cancelled.

    Parameters
    ----------
    scheduler : Scheduler
        Where to.
    plugin_args : dict
        See :data:`bids_interp.workflows.plugin_file.KINDS`; and ``status_callback``.
    """

    def __init__(self, scheduler: Scheduler, plugin_args: dict[str, Any]) -> None:
        super().__init__('', plugin_args=plugin_args)
        self.scheduler = scheduler
        self.submitter = Submitter(scheduler, plugin_args)
        self.queue = Queue(scheduler, float(plugin_args.get('poll_seconds', POLL_SECONDS)))
        self._pending: dict[int, str] = {}
        self._refused: dict[int, dict[str, Any]] = {}
        self._nodes: dict[int, str] = {}

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; see nipype. What only joins lists is not worth a job."""
        for node in graph.nodes():
            node.run_without_submitting |= isinstance(node.interface, Merge)
        super().run(graph, patient(config, self.plugin_args), updatehash=updatehash)

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        try:
            job = int(self.submitter.submit(node, updatehash))
        except (SchedulerError, OSError) as error:
            job = -len(self._nodes) - 1
            self._refused[job] = failure(job, error)
        else:
            self.queue.add(str(job))
            self._pending[job] = node.output_dir()
        self._nodes[job] = node.fullname
        return job

    def _is_pending(self, taskid: int) -> bool:
        return self.queue.is_active(str(taskid))

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        if taskid in self._refused:
            return self._refused[taskid]
        try:
            result = super()._get_result(taskid)
        except SchedulerError as error:
            return failure(taskid, error)
        # A text in place of lines is nipype's word for a job that left no result.
        if result is not None and isinstance(result['traceback'], str):
            return failure(taskid, lost_job(self.scheduler, str(taskid), self._nodes[taskid]))
        return result

    def _clear_task(self, taskid: int) -> None:
        self.queue.remove(str(taskid))
        self._pending.pop(taskid, None)
        self._refused.pop(taskid, None)

    def close(self) -> None:
        """Cancel jobs that are left."""
        self.queue.cancel()


def patient(config: Any, arguments: Mapping[str, Any]) -> Any:
    """Return nipype's configuration with the waiting times of a cluster."""
    config = deepcopy(config)
    seconds = arguments.get('job_finished_timeout', RESULT_SECONDS)
    config['execution']['job_finished_timeout'] = str(seconds)
    config['execution']['poll_sleep_duration'] = str(arguments.get('poll_seconds', POLL_SECONDS))
    return config


def lost_job(scheduler: Scheduler, job: str, name: str) -> JobLostError:
    """Return the error of a job that ended without a result."""
    fate = scheduler.fate(job)
    return JobLostError(
        f'The {scheduler.name} job {job} of {name} ended without a result'
        f'{f" ({fate})" if fate else ""}.'
    )


def python_command(script: str) -> str:
    """Return the line that runs a script with this Python and its flags (such as ``-I``)."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return shlex.join([sys.executable, *flags, script])
