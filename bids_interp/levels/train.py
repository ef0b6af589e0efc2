"""Train level: check the input, prepare the images, train the model, report its verdict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp.anatomical.templates import brain_template, with_head_template
from bids_interp.bids.read.query import collect
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.errors import TrainingError
from bids_interp.execution.execute import configure_nipype, execute, run_nodes
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.log import add_log_file, start_logging
from bids_interp.execution.outcome import DONE, FAILED, RunOutcome
from bids_interp.execution.plugins.plugin_file import check_plugin, choose_device
from bids_interp.execution.resources import prepare_caches
from bids_interp.execution.run import Run, start_run
from bids_interp.execution.run_folders import check_folders, choose_work_dir, prepare_work_dir
from bids_interp.levels.given_classifier import (
    apply_card_target,
    check_given_on_scans,
    given_classifier,
)
from bids_interp.levels.labels import LabelledImage, LabelTable, read_labels
from bids_interp.levels.preflight import PreflightRow, excluded_outcomes, preflight, render_table
from bids_interp.levels.train_checks import (
    RecipeOptions,
    bundle_path,
    check_class_sizes,
    check_contrasts,
    check_grid,
    training_recipes,
    training_summary,
)
from bids_interp.levels.train_inputs import (
    find_prepared_images,
    prepare_training,
    save_model_grid,
    training_dir,
)
from bids_interp.settings import Settings
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe
    from bids_interp.workflows.train import TrainInputs

logger = logging.getLogger('bids_interp')


def run_train(settings: Settings) -> int:
    """Run the train level and return its exit code.

    Raises
    ------
    BidsInterpError
        If a check before the computation fails, or the training fails.
    """
    start_logging(settings.verbose)
    settings = with_head_template(settings)
    check_plugin(settings.use_plugin)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: %s -> %s', __version__, settings.bids_dir, settings.output_dir)
    records = collect(settings)
    labels = apply_card_target(read_labels(settings, records), settings)
    device = choose_device(settings)
    families = len({image.family for image in labels.images})
    options = training_recipes(settings, families, device)
    recipe = options.recipes[0]
    check_class_sizes(labels, recipe.n_folds)
    check_contrasts(labels, settings)
    check_grid(settings, recipe)
    bundle = bundle_path(settings)
    check_folders(settings, work_dir)
    prepare_caches(work_dir)
    if settings.model_template is not None:
        brain_template(settings.model_template, offline=settings.offline)  # may be missing
    classifier = given_classifier(settings)
    rows = preflight([image.record for image in labels.images], settings, None)
    click.echo(render_table(rows))
    click.echo(training_summary(labels, options, bundle))
    if settings.dry_run:
        click.echo('Dry run: nothing was written.')
        return 0 if all(row.usable for row in rows) else 1
    run = start_run(settings, work_dir, device)
    logger.info(
        'Device %s; up to %d processes, %.1f GB; work directory %s',
        run.device,
        run.nprocs,
        run.mem_gb,
        work_dir,
    )
    prepare_work_dir(work_dir, clean=settings.clean_workdir)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir, **dict(settings.derivatives)})
    with ResultLocks(run, [f'model-{bundle.name}']) as locks:
        locks.check()
        add_log_file(settings.output_dir / 'logs' / f'{run.uuid}.log')
        return _make_model(settings, labels, rows, options, classifier, bundle, run)


def _make_model(
    settings: Settings,
    labels: LabelTable,
    rows: Sequence[PreflightRow],
    options: RecipeOptions,
    classifier: dict[str, Any] | None,
    bundle: Path,
    run: Run,
) -> int:
    """Prepare the images and train the model; return the exit code."""
    recipe = options.recipes[0]
    result, usable = _prepare_inputs(settings, labels, rows, recipe, classifier, run)
    code = result.exit_code
    for outcome in result.outcomes:
        if outcome.status != DONE:
            logger.error('%s was excluded: %s', outcome.name, outcome.problem)
    if result.interrupted:
        logger.error('Interrupted. Run the same command again to continue.')
        return 1
    for name, reason in options.left_out.items():
        logger.info('Classifier %s is not trained: %s.', name, reason)
    training = prepare_training(settings, labels, usable, options, classifier, bundle, run)
    check_given_on_scans(settings, training.inputs)
    _train(settings, training, run)
    _report(training, settings)
    return 1 if code else 0


def _prepare_inputs(
    settings: Settings,
    labels: LabelTable,
    rows: Sequence[PreflightRow],
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    run: Run,
) -> tuple[RunOutcome, list[LabelledImage]]:
    """Resample all images to the grid of the model; images with errors are excluded."""
    configure_nipype(run)
    from bids_interp.workflows.train import init_training_inputs_wf

    base_dir = training_dir(settings, recipe, run)
    base_dir.mkdir(parents=True, exist_ok=True)
    grid_file = base_dir / 'context.safetensors'
    template = save_model_grid(grid_file, settings, recipe)
    excluded = excluded_outcomes(rows)
    bad = {outcome.name for outcome in excluded}
    images = [image for image in labels.images if image.record.prefix not in bad]
    records = [image.record for image in images]
    prepared = find_prepared_images(settings, records, template, run.nprocs)
    if prepared:
        logger.info('%d of %d images were already prepared.', len(prepared), len(records))
    workflow = init_training_inputs_wf(
        settings=settings,
        records=records,
        prepared=prepared,
        template=template,
        input_space=grid_file,
        inputs_dir=base_dir / 'inputs',
        run=run,
        base_dir=base_dir,
    )
    result = execute(run, workflow, records)
    done = {outcome.name for outcome in result.of(DONE)}
    result.outcomes += excluded
    return result, [image for image in images if image.record.prefix in done]


def _train(settings: Settings, training: TrainInputs, run: Run) -> None:
    """Run the train workflow.

    Raises
    ------
    TrainingError
        If a fold or the assembly of the bundle failed.
    """
    from bids_interp.workflows.train import init_train_wf

    workflow = init_train_wf(
        settings=settings, training=training, run=run, base_dir=training.table.parent
    )
    crashes = settings.output_dir / 'logs' / f'{run.uuid}_crashes'
    outcome = run_nodes(run, workflow, crashes)
    if outcome.status == FAILED:
        raise TrainingError(
            f'The training failed{outcome.failure}',
            'Finished folds are kept; run the same command again to continue.',
        )


def _report(training: TrainInputs, settings: Settings) -> None:
    from bids_interp.evaluation.verdict import verdict_sentence
    from bids_interp.models.bundle.reader import load_bundle

    bundle = load_bundle(training.bundle, allow_code=settings.allow_code)
    level = logging.INFO if bundle.warranted else logging.WARNING
    logger.log(level, '%s', verdict_sentence(bundle.config.metrics))
    click.echo(f'Model:  {training.bundle}\nReport: {training.report_dir / "report.html"}')
    click.echo(
        f'Explain scans with it: bids_interp BIDS_DIR OUT_DIR participant --model {training.bundle}'
    )
