"""Execution of a graph with nipype, and the outcome of each image."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bids_interp.bids.read.query import T1wRecord
from bids_interp.execution.crash_files import hide_paths
from bids_interp.execution.log import nipype_level, quieten_nipype
from bids_interp.execution.open_folder import OpenFolder
from bids_interp.execution.outcome import FAILED, Outcome, RunOutcome, read_error
from bids_interp.execution.resources import count_nodes_per_gpu, keep_out_current_folder
from bids_interp.execution.run import Run, workflow_name
from bids_interp.execution.run_folders import forget_damaged

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from bids_interp.execution.progress import Progress

# nipype writes files when it is imported, so the caches must be prepared before.
logger = logging.getLogger('bids_interp')

POLL_SECONDS = 0.1


def execute(run: Run, workflow: Workflow, records: Sequence[T1wRecord]) -> RunOutcome:
    """Run the nodes of a graph and return the outcome of each image.

    Lost workers, errors of nipype and signals are reported in the outcome; nothing is raised.
    """
    from bids_interp.execution.progress import Progress, count_nodes

    def delete(name: str) -> None:
        shutil.rmtree(Path(workflow.base_dir, workflow.name, name), ignore_errors=True)

    progress = Progress(
        {workflow_name(record.prefix): record.prefix for record in records},
        count_nodes(workflow),
        delete if run.settings.clean_on_success else None,
    )
    folders = _open_folders(run)
    interrupted, engine_error = _run_graph(run, workflow, progress)
    moved = [folder.moved() for folder in folders]
    outcomes = []
    for record in records:
        crashes = run.log_dir(record.subject)
        outcome = progress.outcome(workflow_name(record.prefix), crashes)
        outcome.crash_file = _hide(run, crashes, outcome.crash_file)
        if outcome.status == FAILED and not outcome.step and engine_error and not interrupted:
            outcome.problem = engine_error
        report = run.settings.output_dir / f'{record.prefix}.html'
        outcome.report = report if report.is_file() else None
        _explain_by_moves(outcome, *moved)
        outcomes.append(outcome)
    return RunOutcome(outcomes, interrupted)


def run_nodes(run: Run, workflow: Workflow, crash_dir: Path) -> Outcome:
    """Run a workflow that does not belong to a single image, and return its outcome."""
    from bids_interp.execution.progress import Progress, count_nodes

    total = sum(count_nodes(workflow).values())
    progress = Progress({workflow.name: workflow.name.removesuffix('_wf')}, {workflow.name: total})
    folders = _open_folders(run)
    interrupted, engine_error = _run_graph(run, workflow, progress)
    moved = [folder.moved() for folder in folders]
    outcome = progress.outcome(workflow.name, crash_dir)
    outcome.crash_file = _hide(run, crash_dir, outcome.crash_file)
    if interrupted and outcome.status == FAILED:
        outcome.problem = 'It was interrupted.'
    elif outcome.status == FAILED and not outcome.step and engine_error:
        outcome.problem = engine_error
    _explain_by_moves(outcome, *moved)
    return outcome


def _open_folders(run: Run) -> tuple[OpenFolder, OpenFolder]:
    """Hold the output and the work directory open."""
    return OpenFolder(run.settings.output_dir), OpenFolder(run.work_dir)


def _explain_by_moves(outcome: Outcome, of_output: str, of_work: str) -> None:
    """Name a folder that was moved during the run as the reason of a failure.

    Outputs in two folders are a failure, even if all steps are done.
    """
    if of_output:
        outcome.status, outcome.problem = FAILED, of_output
    elif of_work and outcome.status == FAILED:
        outcome.problem = of_work


def _hide(run: Run, folder: Path, crash_file: Path | None) -> Path | None:
    """Remove paths from all crash files in a folder; return the new path of one of them."""
    hidden = {path: hide_paths(run, path) for path in folder.glob('crash-*.txt')}
    return hidden.get(crash_file, crash_file) if crash_file else None


def _run_graph(run: Run, workflow: Workflow, progress: Progress) -> tuple[bool, str]:
    """Run a workflow; return whether it was interrupted, and the error of the engine, if any."""
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
    interrupted, engine_error = False, ''
    gc.freeze()  # makes the garbage collections at each poll of nipype cheaper
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        forget_damaged(workflow)
        workflow.run(plugin=plugin)
    except KeyboardInterrupt:
        interrupted = True
        logger.error('Interrupted.')
    except Exception as error:
        engine_error = read_error(str(error))
        if raised_on_reading_results(error):
            engine_error = (
                f'A file in the work directory {run.work_dir} is missing or damaged '
                f'({engine_error}). Run the same command again to repeat the step. If that does '
                'not help, run it once with --clean-workdir.'
            )
        logger.debug('The engine stopped with an error.', exc_info=error)
        interrupted = run.settings.stop_on_first_crash
    finally:
        signal.signal(signal.SIGTERM, previous)
        if hasattr(plugin, 'close'):
            plugin.close()
    return interrupted, engine_error


def _interrupt(number: int, frame: FrameType | None) -> None:
    # The signal may arrive twice: from the scheduler, and from the job script that forwards it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def configure_nipype(run: Run) -> None:
    """Configure nipype for a run."""
    os.environ.setdefault('OMP_NUM_THREADS', str(run.omp_nthreads))
    # Threads that wait actively slow down a busy machine.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    keep_out_current_folder()
    from nipype import config

    config.update_config({
        'execution': {
            'crashfile_format': 'txt',
            'hash_method': 'content',
            'poll_sleep_duration': str(POLL_SECONDS),
            'create_report': 'false',
            'check_version': 'false',
            'remove_unnecessary_outputs': 'false',
            'use_relative_paths': 'true',  # a work directory may be moved
            'stop_on_first_crash': str(run.settings.stop_on_first_crash).lower(),
        },
        'monitoring': {'enabled': str(run.settings.resource_monitor).lower()},
    })  # fmt: skip
    if run.settings.resource_monitor:
        config.enable_resource_monitor()
    quieten_nipype(nipype_level(run.settings.verbose))
