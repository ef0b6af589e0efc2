"""What a run writes beside the derivatives: settings, methods, graph, reports of errors."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bids_interp.bids.write.atomic import write_text
from bids_interp.execution.outcome import EXCLUDED, FAILED, Outcome, Verdict, read_error
from bids_interp.execution.run import Run
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

logger = logging.getLogger('bids_interp')


def is_done(settings: Settings, prefix: str) -> bool:
    """Tell whether an earlier run wrote the derivatives of an image: they need no more space."""
    folder = settings.output_dir / prefix.split('_', 1)[0]
    return any(folder.rglob(f'{prefix}_desc-explain_prediction.json'))


def keep_settings(run: Run, subjects: Iterable[str]) -> None:
    """Write the settings beside the logs of each subject, for ``--config-file``."""
    text = f'# bids_interp {__version__}\n{run.settings.to_toml()}'
    for subject in set(subjects):
        write_text(run.log_dir(subject) / 'bids_interp.toml', text)


def write_methods(run: Run, workflow: Workflow) -> None:
    """Write the methods text, from the descriptions of the workflow's parts."""
    from bids_interp.boilerplate.methods import methods_text, write_citation

    written = write_citation(run.settings.output_dir / 'logs', methods_text(workflow))
    if run.settings.md_only_boilerplate:
        for path in written:
            if path.suffix == '.html':
                path.unlink(missing_ok=True)  # another job may have done so
    if run.settings.boilerplate_only:
        click.echo(f'Methods text: {run.settings.output_dir / "logs" / "CITATION.md"}')


def write_graph(workflow: Workflow, path: Path) -> None:
    """Write the graph as DOT, and as SVG where Graphviz is installed."""
    try:
        workflow.write_graph(str(path), graph2use='colored', format='svg', simple_form=True)
    except OSError as error:
        logger.warning('The graph is only there as DOT: %s', error)
    click.echo(f'Graph: {path}')


def report_of(run: Run, prefix: str) -> Outcome:
    """Make the report of one image from the derivatives on disk.

    It has failed where derivatives cannot be read; the report then shows the others, and says so.
    """
    from bids_interp.reports import build_report, draw_figures

    out = run.settings.output_dir
    if not is_done(run.settings, prefix):
        return Outcome(prefix, FAILED, f'There are no derivatives of it in {out}.')
    errors: list[Exception] = []
    outcome = Outcome(prefix)
    try:
        draw_figures(out, prefix, on_error=errors.append)
        told = [{'node': 'report', 'message': _words(error), 'advice': ''} for error in errors]
        outcome.report = build_report(out, prefix, errors=told, run_uuid=run.uuid)
    except Exception as error:  # noqa: BLE001 - the other images go on
        errors.append(error)
    for found in errors:
        logger.debug('', exc_info=found)
    if errors:
        outcome.status = FAILED
        outcome.problem = ' '.join(map(_words, errors))
    return outcome


def _words(error: Exception) -> str:
    return read_error(traceback.format_exception(error))


def report_errors(run: Run, verdict: Verdict, names: Collection[str]) -> None:
    """Give every image that was not finished a report that says why.

    Parameters
    ----------
    run : Run
        The run.
    verdict : Verdict
        What became of the images.
    names : collection of str
        Prefixes of the images; participants without an image get no report.
    """
    broken = [o for o in verdict.outcomes if o.name in names and o.status in (FAILED, EXCLUDED)]
    if not broken:
        return
    from bids_interp.reports import build_report, draw_figures

    for outcome in broken:
        error = {'node': outcome.step or 'input', 'message': outcome.problem}
        if outcome.crash_file is not None:
            error['file'] = str(outcome.crash_file.relative_to(run.settings.output_dir))
            error['traceback'] = outcome.crash_file.read_text(errors='replace')
        try:
            # What was finished before the error is shown; nothing is drawn where nothing is there.
            draw_figures(run.settings.output_dir, outcome.name)
            outcome.report = build_report(
                run.settings.output_dir,
                outcome.name,
                errors=[error],
                run_uuid=run.uuid,
            )
        except Exception as error:
            # The verdict is worth more than its page.
            logger.error('The report of %s cannot be made: %s', outcome.name, error)
            logger.debug('', exc_info=error)
