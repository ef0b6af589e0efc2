"""Image reports that do not come from the workflow: rebuilt ones, and those of failed images."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection

from bids_interp.execution.crash_files import without_paths
from bids_interp.execution.outcome import EXCLUDED, FAILED, Outcome, RunOutcome, read_error
from bids_interp.execution.run import Run
from bids_interp.settings import Settings

logger = logging.getLogger('bids_interp')


def is_done(settings: Settings, prefix: str) -> bool:
    """Tell whether an earlier run finished the derivatives of an image."""
    folder = settings.output_dir / prefix.split('_', 1)[0]
    return any(folder.rglob(f'{prefix}_desc-explain_prediction.json'))


def rebuild_report(run: Run, prefix: str) -> Outcome:
    """Rebuild the report of an image from existing derivatives.

    If a derivative cannot be read, the outcome is a failure and the report names the error.
    """
    from bids_interp.reports import build_report, draw_figures

    out = run.settings.output_dir
    if not is_done(run.settings, prefix):
        return Outcome(prefix, FAILED, f'{out} has no derivatives of this image.')
    errors: list[Exception] = []
    outcome = Outcome(prefix)
    try:
        draw_figures(out, prefix, on_error=errors.append)
        listed = [
            {'node': 'report', 'message': without_paths(_message(one), run), 'advice': ''}
            for one in errors
        ]
        outcome.report = build_report(out, prefix, errors=listed, run_uuid=run.uuid)
    except Exception as error:  # noqa: BLE001 - the other images go on
        errors.append(error)
    for found in errors:
        logger.debug('', exc_info=found)
    if errors:
        outcome.status = FAILED
        outcome.problem = ' '.join(map(_message, errors))
    return outcome


def _message(error: Exception) -> str:
    return read_error(traceback.format_exception(error))


def report_failures(run: Run, result: RunOutcome, names: Collection[str]) -> None:
    """Write a report that describes the error for each image that was not finished.

    Parameters
    ----------
    run : Run
        The run.
    result : RunOutcome
        Outcomes of the images; their reports are added.
    names : collection of str
        Prefixes of the images; participants without an image get no report.
    """
    broken = [o for o in result.outcomes if o.name in names and o.status in (FAILED, EXCLUDED)]
    if not broken:
        return
    from bids_interp.reports import build_report, draw_figures

    out = run.settings.output_dir
    for outcome in broken:
        # Reports are passed on, so they do not show folders of this machine.
        problem = without_paths(outcome.problem, run)
        error = {'node': outcome.step or 'input', 'message': problem}
        if outcome.crash_file is not None:
            error['file'] = str(outcome.crash_file.relative_to(out))
            error['traceback'] = outcome.crash_file.read_text(errors='replace')
        try:
            # Shows what was finished before the error.
            draw_figures(out, outcome.name)
            outcome.report = build_report(out, outcome.name, errors=[error], run_uuid=run.uuid)
        except Exception as failure:
            # A missing report must not change the exit code.
            logger.error('The report of %s could not be written: %s', outcome.name, failure)
            logger.debug('', exc_info=failure)
