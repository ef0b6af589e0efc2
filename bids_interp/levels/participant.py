"""The participant level: read, check, compute, judge."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.bids.write.folders import check_space
from bids_interp.execution.execute import configure_nipype, execute
from bids_interp.execution.folders import check_places, choose_work_dir, prepare_work_dir
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import EXCLUDED, FAILED, Outcome, Verdict
from bids_interp.execution.plugins.plugin_file import check_plugin, choose_device
from bids_interp.execution.resources import available_cpus, prepare_caches
from bids_interp.execution.run import MAX_THREADS, Run, start_run
from bids_interp.levels.preflight import PreflightRow, preflight, render_table
from bids_interp.levels.run_reports import (
    is_done,
    keep_settings,
    report_errors,
    report_of,
    write_graph,
    write_methods,
)
from bids_interp.models.bundle.choice import check_contrast, open_model
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle

logger = logging.getLogger('bids_interp')


def run_participant(settings: Settings) -> int:
    """Run the participant level and return its exit code.

    Raises
    ------
    BidsInterpError
        If something is wrong before anything is computed.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    run, bundle, rows = prepare(with_head_template(settings))
    click.echo(render_table(rows))
    records = [row.record for row in rows if row.record is not None and row.usable]
    excluded = [
        Outcome(row.name, EXCLUDED, ' '.join(row.problems)) for row in rows if not row.usable
    ]
    if settings.dry_run:
        verdict = Verdict([*(Outcome(record.prefix) for record in records), *excluded])
        click.echo(f'Dry run: {len(records)} images would be processed; nothing was written.')
        return verdict.exit_code
    verdict = _compute(run, bundle, records, excluded)
    if not (settings.reports_only or settings.boilerplate_only):
        report_errors(run, verdict, {row.name for row in rows if row.record is not None})
    order = {row.name: place for place, row in enumerate(rows)}
    verdict.outcomes.sort(key=lambda outcome: order[outcome.name])
    logger.info('%.0f s in all.', time.monotonic() - started)
    _tell(verdict)
    return verdict.exit_code


def check_templates(settings: Settings, bundle: ModelBundle) -> None:
    """Open the templates that are not embedded.

    Raises
    ------
    TemplateError
        If one of them cannot be had.
    """
    from bids_interp.anatomical.templates import brain_template, strip_template
    from bids_interp.constants import EMBEDDED_TEMPLATE

    if settings.template != EMBEDDED_TEMPLATE:
        strip_template(settings.template, offline=settings.offline)
    if bundle.template != EMBEDDED_TEMPLATE:
        brain_template(bundle.template, offline=settings.offline)


def prepare(settings: Settings) -> tuple[Run, ModelBundle, list[PreflightRow]]:
    """Check everything that can be checked before computing; write nothing but empty folders."""
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: %s -> %s', __version__, settings.bids_dir, settings.output_dir)
    records = collect(settings)
    check_places(settings, work_dir)
    prepare_caches(work_dir)
    device = choose_device(settings)
    bundle = open_model(settings)
    check_contrast(settings.output_dir, bundle)
    nprocs = settings.nprocs or available_cpus()
    threads = min(settings.omp_nthreads or MAX_THREADS, nprocs)
    check_templates(settings, bundle)
    rows = preflight(records, settings, bundle, n_threads=nprocs)
    if not settings.dry_run:
        todo = [row for row in rows if row.usable and not is_done(settings, row.name)]
        check_space({
            settings.output_dir: sum(row.output_bytes for row in todo),
            work_dir: sum(row.work_bytes for row in todo),
        })  # fmt: skip
        prepare_work_dir(work_dir, clean=settings.clean_workdir)
    run = start_run(settings, work_dir, device, threads)
    logger.info(
        'Model %s (%s%s), computing on %s; up to %d processes, %d threads a node, %.1f GB; '
        'brains are found with %s; work directory %s',
        bundle.name,
        bundle.version_hash,
        '; a demonstration, not for research' if bundle.demonstration else '',
        device,
        run.nprocs,
        run.omp_nthreads,
        run.mem_gb,
        settings.template,
        work_dir,
    )
    return run, bundle, rows


def _compute(
    run: Run, bundle: ModelBundle, records: Sequence[T1wRecord], excluded: list[Outcome]
) -> Verdict:
    """Write the derivatives of all usable images."""
    settings = run.settings
    roots = {'raw': settings.bids_dir, **dict(settings.derivatives)}
    prepare_output(settings.output_dir, roots, bundle)
    if settings.reports_only:
        outcomes = [report_of(run, record.prefix) for record in records]
        return Verdict([*outcomes, *excluded])
    add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
    keep_settings(run, [record.subject for record in records])
    return _run_workflow(run, bundle, records, excluded) if records else Verdict(excluded)


def _run_workflow(
    run: Run, bundle: ModelBundle, records: Sequence[T1wRecord], excluded: list[Outcome]
) -> Verdict:
    configure_nipype(run)
    from bids_interp.workflows.participant import init_bids_interp_wf, work_key

    settings, failed = run.settings, []

    def note(record: T1wRecord, error: Exception) -> None:
        logger.debug('%s', error, exc_info=error)
        failed.append(Outcome(record.prefix, FAILED, str(error), step='building the workflow'))

    workflow = init_bids_interp_wf(
        run=run,
        bundle=bundle,
        records=records,
        base_dir=run.work_dir / f'bids_interp-{work_key(settings, bundle)}',
        on_error=note,
    )
    write_methods(run, workflow)
    if settings.write_graph:
        write_graph(workflow, settings.output_dir / 'logs' / f'{run.uuid}_graph.dot')
    if settings.boilerplate_only:
        return Verdict([*(Outcome(record.prefix) for record in records), *excluded])
    built = [r for r in records if r.prefix not in {outcome.name for outcome in failed}]
    verdict = execute(run, workflow, built)
    verdict.outcomes += [*failed, *excluded]
    return verdict


def _tell(verdict: Verdict) -> None:
    level = logging.INFO if verdict.exit_code == 0 else logging.ERROR
    for line in verdict.lines():
        logger.log(level, '%s', line)
