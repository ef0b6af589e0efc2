"""The participant level: read, check, compute, judge."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.dataset import prepare_output
from bids_interp.bids.folders import check_space
from bids_interp.bids.model_choice import check_contrast, open_model
from bids_interp.bids.preflight import preflight, render_table
from bids_interp.bids.query import T1wRecord, collect
from bids_interp.bids.resources import available_cpus, available_memory_gb, prepare_caches
from bids_interp.settings import Settings
from bids_interp.version import __version__
from bids_interp.workflows.context import Job, RunContext, new_run_uuid
from bids_interp.workflows.engine import MAX_THREADS, configure_nipype, execute
from bids_interp.workflows.logs import add_log_file, start_logging
from bids_interp.workflows.pages import (
    is_done,
    keep_settings,
    report_errors,
    report_of,
    write_graph,
    write_methods,
)
from bids_interp.workflows.places import check_places, choose_work_dir, prepare_work_dir
from bids_interp.workflows.plugin_file import check_plugin, choose_device
from bids_interp.workflows.verdict import EXCLUDED, FAILED, Outcome, Verdict

if TYPE_CHECKING:
    from bids_interp.models.bundle import ModelBundle

logger = logging.getLogger('bids_interp')


def run_participant(settings: Settings) -> int:
    """Do the participant level and return its exit code.

    Raises
    ------
    BidsInterpError
        If something is wrong before anything is computed.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    job = prepare(with_head_template(settings))
    click.echo(render_table(job.rows))
    excluded = [
        Outcome(row.name, EXCLUDED, ' '.join(row.problems)) for row in job.rows if not row.usable
    ]
    if settings.dry_run:
        verdict = Verdict([*(Outcome(record.prefix) for record in job.records), *excluded])
        click.echo(f'Dry run: {len(job.records)} images would be processed; nothing was written.')
        return verdict.exit_code
    verdict = _compute(job, excluded)
    order = {row.name: place for place, row in enumerate(job.rows)}
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
    from bids_interp.conventions import EMBEDDED_TEMPLATE

    if settings.template != EMBEDDED_TEMPLATE:
        strip_template(settings.template, offline=settings.offline)
    if bundle.template != EMBEDDED_TEMPLATE:
        brain_template(bundle.template, offline=settings.offline)


def prepare(settings: Settings) -> Job:
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
    threads = settings.omp_nthreads or min(nprocs, MAX_THREADS)
    check_templates(settings, bundle)
    rows = preflight(records, settings, bundle, n_threads=nprocs)
    if not settings.dry_run:
        todo = [row for row in rows if row.usable and not is_done(settings, row.name)]
        check_space({
            settings.output_dir: sum(row.output_bytes for row in todo),
            work_dir: sum(row.work_bytes for row in todo),
        })  # fmt: skip
        prepare_work_dir(work_dir, clean=settings.clean_workdir)
    stamp = new_run_uuid()
    context = RunContext(bundle, device, nprocs, min(threads, nprocs), stamp)
    mem_gb = settings.mem_gb or available_memory_gb()
    logger.info(
        'Model %s (%s%s), computing on %s; up to %d processes, %d threads a node, %.1f GB; '
        'brains are found with %s; work directory %s',
        bundle.name,
        bundle.version_hash,
        '; a demonstration, not for research' if bundle.demonstration else '',
        device,
        nprocs,
        context.omp_nthreads,
        mem_gb,
        settings.template,
        work_dir,
    )
    return Job(settings, context, rows, work_dir, mem_gb)


def _compute(job: Job, excluded: list[Outcome]) -> Verdict:
    """Write the derivatives of all usable images."""
    settings = job.settings
    roots = {'raw': settings.bids_dir, **dict(settings.derivatives)}
    prepare_output(settings.output_dir, roots, job.context.bundle)
    if settings.reports_only:
        outcomes = [report_of(job, record.prefix) for record in job.records]
        return Verdict([*outcomes, *excluded])
    add_log_file(settings.output_dir / 'logs' / f'{job.context.run_uuid}.log')
    keep_settings(job)
    verdict = _run_workflow(job, excluded) if job.records else Verdict(excluded)
    if not settings.boilerplate_only:
        report_errors(job, verdict)
    return verdict


def _run_workflow(job: Job, excluded: list[Outcome]) -> Verdict:
    configure_nipype(job.engine)
    from bids_interp.workflows.base import init_bids_interp_wf, work_key

    settings, failed = job.settings, []

    def note(record: T1wRecord, error: Exception) -> None:
        logger.debug('%s', error, exc_info=error)
        failed.append(Outcome(record.prefix, FAILED, str(error), step='building the workflow'))

    work = job.work_dir / f'bids_interp-{work_key(settings, job.context.bundle)}'
    workflow = init_bids_interp_wf(
        settings=settings,
        records=job.records,
        context=job.context,
        base_dir=work,
        on_error=note,
    )
    write_methods(job, workflow)
    if settings.write_graph:
        write_graph(workflow, settings.output_dir / 'logs' / f'{job.context.run_uuid}_graph.dot')
    if settings.boilerplate_only:
        return Verdict([*(Outcome(record.prefix) for record in job.records), *excluded])
    built = [r for r in job.records if r.prefix not in {outcome.name for outcome in failed}]
    verdict = execute(job.engine, workflow, built)
    verdict.outcomes += [*failed, *excluded]
    return verdict


def _tell(verdict: Verdict) -> None:
    level = logging.INFO if verdict.exit_code == 0 else logging.ERROR
    for line in verdict.lines():
        logger.log(level, '%s', line)
