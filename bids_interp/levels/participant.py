"""Participant level: check the input, explain each image, report the outcomes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.write.dataset_description import DESCRIPTION, describe_output, prepare_output
from bids_interp.bids.write.folders import check_space
from bids_interp.bids.write.scan_outputs import other_templates
from bids_interp.bids.write.temporaries import LEFT_HOURS, remove_temporaries
from bids_interp.execution.execute import configure_nipype, execute
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import FAILED, Outcome, RunOutcome
from bids_interp.execution.plugins.plugin_file import check_plugin, choose_device
from bids_interp.execution.resources import available_cpus, prepare_caches
from bids_interp.execution.run import MAX_THREADS, Run, start_run
from bids_interp.execution.run_files import save_settings, write_graph
from bids_interp.execution.run_folders import check_folders, choose_work_dir, prepare_work_dir
from bids_interp.levels.image_reports import is_done, rebuild_report, report_failures
from bids_interp.levels.preflight import PreflightRow, excluded_outcomes, preflight, render_table
from bids_interp.models.bundle.choice import check_contrast, open_model, output_spaces
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from bids_interp.models.bundle.reader import ModelBundle

logger = logging.getLogger('bids_interp')


def run_participant(settings: Settings) -> int:
    """Run the participant level and return its exit code.

    Raises
    ------
    BidsInterpError
        If a check before the computation fails.
    """
    started = time.monotonic()
    start_logging(settings.verbose)
    run, bundle, rows = _prepare(with_head_template(settings))
    click.echo(render_table(rows))
    records = [row.record for row in rows if row.record is not None and row.usable]
    excluded = excluded_outcomes(rows)
    if settings.dry_run:
        result = RunOutcome([*(Outcome(record.prefix) for record in records), *excluded])
        click.echo(f'Dry run: {len(records)} images would be processed; nothing was written.')
        return result.exit_code
    # A text takes no work from another run.
    folders = {record.prefix: f'sub-{record.subject}' for record in records}
    locked = set() if settings.boilerplate_only else set(folders.values())
    with ResultLocks(run, locked) as locks:
        for folder in locked.difference(locks.busy):
            remove_temporaries(settings.output_dir / folder, hours=LEFT_HOURS)
        busy = {
            name: str(locks.busy[folder])
            for name, folder in folders.items()
            if folder in locks.busy
        }
        free = [record for record in records if record.prefix not in busy]
        result = _compute(run, bundle, free, excluded)
        result.outcomes += [Outcome(name, FAILED, problem) for name, problem in busy.items()]
        if not (settings.reports_only or settings.boilerplate_only):
            # The reports of busy images belong to the other run.
            own = {row.name for row in rows if row.record is not None and row.name not in busy}
            report_failures(run, result, own)
    order = {row.name: index for index, row in enumerate(rows)}
    result.outcomes.sort(key=lambda outcome: order[outcome.name])
    logger.info('Total time: %.0f s.', time.monotonic() - started)
    result.log(logger)
    return result.exit_code


def check_templates(settings: Settings, bundle: ModelBundle) -> None:
    """Check that the atlas and all templates that are not embedded are available.

    Raises
    ------
    TemplateError
        If a template or an atlas of TemplateFlow is not available.
    UsageError, ImageError
        If the atlas is invalid.
    """
    from bids_interp.anatomical.spaces.atlas import scan_atlas
    from bids_interp.anatomical.spaces.output_space import check_output_space
    from bids_interp.anatomical.templates import brain_template, strip_template
    from bids_interp.constants import EMBEDDED_TEMPLATE

    if settings.template != EMBEDDED_TEMPLATE:
        strip_template(settings.template, offline=settings.offline)
    if bundle.template != EMBEDDED_TEMPLATE:
        brain_template(bundle.template, offline=settings.offline)
    for space in _other_templates(settings, bundle):
        check_output_space(space, offline=settings.offline)
    scan_atlas(settings, bundle.template, None, check=True)


def _other_templates(settings: Settings, bundle: ModelBundle) -> list[str]:
    return other_templates(output_spaces(settings, bundle.template), bundle.template)


def _prepare_transforms(run: Run, bundle: ModelBundle) -> None:
    """Compute the transforms between templates once, before the workers need them."""
    from bids_interp.anatomical.spaces.atlas import scan_atlas
    from bids_interp.anatomical.spaces.template_transform import template_transform

    settings = run.settings
    pairs = [(space, bundle.template) for space in _other_templates(settings, bundle)]
    atlas = scan_atlas(settings, bundle.template, None)
    pairs += [(bundle.template, atlas.space)] if atlas else []
    for origin, target in pairs:
        template_transform(origin, target, offline=settings.offline, threads=run.omp_nthreads)


def _prepare(settings: Settings) -> tuple[Run, ModelBundle, list[PreflightRow]]:
    """Do all checks that need no computation; create the folders, but write no files."""
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: %s -> %s', __version__, settings.bids_dir, settings.output_dir)
    records = collect(settings)
    check_folders(settings, work_dir)
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
        'Model %s (%s%s), device %s; up to %d processes with %d threads each, %.1f GB; '
        'template for brain extraction %s; work directory %s',
        bundle.name,
        bundle.version_hash,
        '; demonstration, not for research' if bundle.demonstration else '',
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
) -> RunOutcome:
    """Write the derivatives of all usable images."""
    settings = run.settings
    roots = {'raw': settings.bids_dir, **dict(settings.derivatives)}
    prepare_output(settings.output_dir, roots, bundle)
    if settings.reports_only:
        outcomes = [rebuild_report(run, record.prefix) for record in records]
        return RunOutcome([*outcomes, *excluded])
    add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
    save_settings(run, [record.subject for record in records])
    result = _run_workflow(run, bundle, records, excluded) if records else RunOutcome(excluded)
    if not (settings.output_dir / DESCRIPTION).exists():  # the folder was moved during the run
        describe_output(settings.output_dir, roots, bundle)
    return result


def _run_workflow(
    run: Run, bundle: ModelBundle, records: Sequence[T1wRecord], excluded: list[Outcome]
) -> RunOutcome:
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
    _write_methods(run, workflow)
    if settings.write_graph:
        click.echo(f'Graph: {write_graph(run, workflow)}')
    if settings.boilerplate_only:
        return RunOutcome([*(Outcome(record.prefix) for record in records), *excluded])
    _prepare_transforms(run, bundle)
    built = [r for r in records if r.prefix not in {outcome.name for outcome in failed}]
    result = execute(run, workflow, built)
    result.outcomes += [*failed, *excluded]
    return result


def _write_methods(run: Run, workflow: Workflow) -> None:
    from bids_interp.boilerplate.methods import methods_text, write_citation

    written = write_citation(run.settings.output_dir / 'logs', methods_text(workflow))
    if run.settings.md_only_boilerplate:
        for path in written:
            if path.suffix == '.html':
                path.unlink(missing_ok=True)  # a parallel job may have deleted it
    if run.settings.boilerplate_only:
        click.echo(f'Methods text: {run.settings.output_dir / "logs" / "CITATION.md"}')
