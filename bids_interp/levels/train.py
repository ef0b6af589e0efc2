"""The train level: read, check, prepare, train, judge."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bids_interp.anatomical.templates import with_head_template
from bids_interp.bids.read.query import collect
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.errors import TrainingError
from bids_interp.execution.execute import configure_nipype, execute, run_nodes
from bids_interp.execution.folders import check_places, choose_work_dir, prepare_work_dir
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import DONE, EXCLUDED, FAILED, Outcome, Verdict
from bids_interp.execution.plugins.plugin_file import check_plugin, choose_device
from bids_interp.execution.resources import (
    prepare_caches,
)
from bids_interp.execution.run import Run, start_run
from bids_interp.levels.labels import LabelledImage, LabelTable, read_labels
from bids_interp.levels.preflight import PreflightRow, preflight, render_table
from bids_interp.levels.train_checks import (
    as_the_card_says,
    bundle_path,
    check_contrasts,
    check_enough,
    check_grid,
    describe,
    given_classifier,
    recipe_of,
)
from bids_interp.levels.train_inputs import (
    look_for_prepared,
    make_plan,
    save_model_context,
    training_dir,
)
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe
    from bids_interp.workflows.train import TrainPlan

logger = logging.getLogger('bids_interp')


def run_train(settings: Settings) -> int:
    """Do the train level and return its exit code.

    Raises
    ------
    BidsInterpError
        If something is wrong before anything is computed, or the folds cannot be trained.
    """
    start_logging(settings.verbose)
    settings = with_head_template(settings)
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: %s -> %s', __version__, settings.bids_dir, settings.output_dir)
    records = collect(settings)
    labels = as_the_card_says(read_labels(settings, records), settings)
    recipe = recipe_of(settings)
    check_enough(labels, recipe.n_folds)
    check_contrasts(labels, settings)
    check_grid(settings, recipe)
    bundle = bundle_path(settings)
    check_places(settings, work_dir)
    prepare_caches(work_dir)
    classifier = given_classifier(settings)
    rows = preflight([image.record for image in labels.images], settings, None)
    click.echo(render_table(rows))
    click.echo(describe(labels, recipe, bundle))
    if settings.dry_run:
        click.echo('Dry run: nothing was written.')
        return 0 if all(row.usable for row in rows) else 1
    run = start_run(settings, work_dir, choose_device(settings))
    logger.info(
        'Computing on %s; up to %d processes, %.1f GB; work directory %s',
        run.device,
        run.nprocs,
        run.mem_gb,
        work_dir,
    )
    prepare_work_dir(work_dir, clean=settings.clean_workdir)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir, **dict(settings.derivatives)})
    add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
    verdict, usable = _prepare_inputs(settings, labels, rows, recipe, classifier, run)
    code = verdict.exit_code
    for outcome in verdict.outcomes:
        if outcome.status != DONE:
            logger.error('%s is left out: %s', outcome.name, outcome.problem)
    if verdict.interrupted:
        logger.error('Interrupted; run the same command again to continue.')
        return 1
    plan = make_plan(settings, labels, usable, recipe, classifier, bundle, run)
    _train(settings, plan, run)
    _tell(plan, settings)
    return 1 if code else 0


def _prepare_inputs(
    settings: Settings,
    labels: LabelTable,
    rows: Sequence[PreflightRow],
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    run: Run,
) -> tuple[Verdict, list[LabelledImage]]:
    """Bring all images onto the model's grid; a bad one is left out and named."""
    configure_nipype(run)
    from bids_interp.workflows.train import init_training_inputs_wf

    base_dir = training_dir(settings, recipe, run)
    base_dir.mkdir(parents=True, exist_ok=True)
    template = save_model_context(base_dir / 'context.safetensors', settings, recipe)
    excluded = [
        Outcome(row.name, EXCLUDED, ' '.join(row.problems)) for row in rows if not row.usable
    ]
    bad = {outcome.name for outcome in excluded}
    images = [image for image in labels.images if image.record.prefix not in bad]
    records = [image.record for image in images]
    prepared = look_for_prepared(settings, records, template, run.nprocs)
    if prepared:
        logger.info('%d of %d images were prepared before.', len(prepared), len(records))
    workflow = init_training_inputs_wf(
        settings=settings,
        records=records,
        prepared=prepared,
        template=template,
        input_space=base_dir / 'context.safetensors',
        inputs_dir=base_dir / 'inputs',
        run=run,
        base_dir=base_dir,
    )
    verdict = execute(run, workflow, records)
    done = {outcome.name for outcome in verdict.of(DONE)}
    verdict.outcomes += excluded
    return verdict, [image for image in images if image.record.prefix in done]


def _train(settings: Settings, plan: TrainPlan, run: Run) -> None:
    """Run the train workflow.

    Raises
    ------
    TrainingError
        If a fold or the assembly failed, with its message.
    """
    from bids_interp.workflows.train import init_train_wf

    workflow = init_train_wf(settings=settings, plan=plan, run=run, base_dir=plan.table.parent)
    crashes = settings.output_dir / 'logs' / f'{run.uuid}_crashes'
    outcome = run_nodes(run, workflow, crashes)
    if outcome.status == FAILED:
        where = f' in {outcome.step}' if outcome.step else ''
        details = f' Details: {outcome.crash_file}.' if outcome.crash_file else ''
        raise TrainingError(
            f'The training failed{where}: {outcome.problem}{details}',
            'What was trained is kept: the same command goes on from there.',
        )


def _tell(plan: TrainPlan, settings: Settings) -> None:
    from bids_interp.evaluation.verdict import verdict_sentence
    from bids_interp.models.bundle.reader import load_bundle

    bundle = load_bundle(plan.bundle, allow_code=settings.allow_code)
    level = logging.INFO if bundle.warranted else logging.WARNING
    logger.log(level, '%s', verdict_sentence(bundle.config.metrics))
    click.echo(f'Model:  {plan.bundle}\nReport: {plan.report_dir / "report.html"}')
    click.echo(f'Explain with it: bids_interp BIDS_DIR OUT_DIR participant --model {plan.bundle}')
