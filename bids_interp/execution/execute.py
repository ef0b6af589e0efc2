"""Execution of a graph: nipype's settings, its plugin, and what became of each image."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bids_interp.bids.read.query import T1wRecord
from bids_interp.execution.folders import forget_damaged
from bids_interp.execution.log import nipype_level, quieten_nipype
from bids_interp.execution.outcome import FAILED, Outcome, RunOutcome, read_error
from bids_interp.execution.resources import count_nodes_per_gpu
from bids_interp.execution.run import Run, workflow_name

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from bids_interp.execution.progress import Progress

# Nothing of nipype is imported before the caches are in place: it writes when it is imported.
logger = logging.getLogger('bids_interp')

POLL_SECONDS = 0.1


def execute(run: Run, workflow: Workflow, records: Sequence[T1wRecord]) -> RunOutcome:
    """Run the nodes and say what became of each image.

    Whatever happens to the engine, this returns: a lost worker, an error of nipype itself or a
    signal end in the verdict.
    """
    from bids_interp.execution.progress import Progress, count_nodes

    progress = Progress(
        {workflow_name(record.prefix): record.prefix for record in records},
        count_nodes(workflow),
    )
    interrupted, trouble = _run_graph(run, workflow, progress)
    outcomes = []
    for record in records:
        crashes = run.log_dir(record.subject)
        outcome = progress.outcome(workflow_name(record.prefix), crashes)
        if outcome.status == FAILED and not outcome.step and trouble and not interrupted:
            outcome.problem = trouble
        report = run.settings.output_dir / f'{record.prefix}.html'
        outcome.report = report if report.is_file() else None
        outcomes.append(outcome)
    return RunOutcome(outcomes, interrupted)


def run_nodes(run: Run, workflow: Workflow, crash_dir: Path) -> Outcome:
    """Run a workflow that belongs to no single image and say what became of it."""
    from bids_interp.execution.progress import Progress, count_nodes

    total = sum(count_nodes(workflow).values())
    progress = Progress({workflow.name: workflow.name.removesuffix('_wf')}, {workflow.name: total})
    interrupted, trouble = _run_graph(run, workflow, progress)
    outcome = progress.outcome(workflow.name, crash_dir)
    if interrupted:
        outcome.problem = 'it was interrupted.'
    elif outcome.status == FAILED and not outcome.step and trouble:
        outcome.problem = trouble
    return outcome


def _run_graph(run: Run, workflow: Workflow, progress: Progress) -> tuple[bool, str]:
    """Run a workflow; whether it was interrupted, and what the engine complained about."""
    from bids_interp.execution.nipype_internals import raised_on_reading_results
    from bids_interp.execution.plugins.plugin_file import make_plugin

    plugin: Any = make_plugin(
        run.settings.use_plugin,
        nprocs=run.nprocs,
        mem_gb=run.mem_gb,
        n_gpu_procs=count_nodes_per_gpu(run.device),
        scratch=run.work_dir,
        status_callback=progress.update,
    )
    interrupted, trouble = False, ''
    gc.freeze()  # nipype collects garbage at every poll; what is here now stays anyway
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        forget_damaged(workflow)
        workflow.run(plugin=plugin)
    except KeyboardInterrupt:
        interrupted = True
        logger.error('Interrupted.')
    except Exception as error:
        trouble = read_error(str(error))
        if raised_on_reading_results(error):
            trouble = (
                f'A file in the work directory {run.work_dir} is missing or damaged '
                f'({trouble}). Run the same command again, which repeats the step; if that does '
                'not help, run it once with --clean-workdir.'
            )
        logger.debug('The engine ended with an error.', exc_info=error)
        interrupted = run.settings.stop_on_first_crash
    finally:
        signal.signal(signal.SIGTERM, previous)
        if hasattr(plugin, 'close'):
            plugin.close()
    return interrupted, trouble


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Some schedulers signal every process of a job, and its script hands the signal on again.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def configure_nipype(run: Run) -> None:
    """Set nipype's configuration: what is hashed, where it waits, what it writes."""
    os.environ.setdefault('OMP_NUM_THREADS', str(run.omp_nthreads))
    # Threads that spin while they wait make a busy machine many times slower.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from nipype import config

    config.update_config({
        'execution': {
            'crashfile_format': 'txt',
            'hash_method': 'content',
            'poll_sleep_duration': str(POLL_SECONDS),
            'create_report': 'false',
            'check_version': 'false',
            'remove_unnecessary_outputs': 'false',
            'use_relative_paths': 'true',  # a work directory that was moved is still of use
            'stop_on_first_crash': str(run.settings.stop_on_first_crash).lower(),
        },
        'monitoring': {'enabled': str(run.settings.resource_monitor).lower()},
    })  # fmt: skip
    if run.settings.resource_monitor:
        config.enable_resource_monitor()
    quieten_nipype(nipype_level(run.settings.verbose))
