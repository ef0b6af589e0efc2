"""The train level: read, check, prepare, train, judge."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bids_interp import __version__
from bids_interp.bids.dataset import prepare_output
from bids_interp.bids.labels import LabelledImage, LabelTable, read_labels, strata
from bids_interp.bids.preflight import PreflightRow, preflight, render_table
from bids_interp.bids.query import T1wRecord, collect, read_description
from bids_interp.bids.resources import (
    available_cpus,
    available_memory_gb,
    prepare_caches,
    resolve_device,
)
from bids_interp.bids.reuse import Prepared, find_prepared, prepared_with
from bids_interp.bids.write import write_json
from bids_interp.errors import ModelError, TrainingError, UsageError
from bids_interp.settings import Settings
from bids_interp.workflows.context import Engine
from bids_interp.workflows.logs import add_log_file, start_logging
from bids_interp.workflows.places import check_places, choose_work_dir, prepare_work_dir
from bids_interp.workflows.running import MAX_THREADS, configure_nipype, execute, run_nodes
from bids_interp.workflows.verdict import DONE, EXCLUDED, FAILED, Outcome, Verdict

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe
    from bids_interp.workflows.train import TrainPlan

logger = logging.getLogger('bids_interp')

TEMPLATE = 'MNI152NLin2009aSym'
SITE_COLUMNS = ('site', 'scanner', 'center', 'centre')


def run_train(settings: Settings) -> int:
    """Do the train level and return its exit code.

    Raises
    ------
    BidsInterpError
        If something is wrong before anything is computed, or the folds cannot be trained.
    """
    start_logging(settings.verbose)
    work_dir = choose_work_dir(settings)
    logger.info('bids_interp %s: %s -> %s', __version__, settings.bids_dir, settings.output_dir)
    records = collect(settings)
    labels = read_labels(settings, records)
    check_places(settings, work_dir)
    bundle = bundle_path(settings)
    prepare_caches(work_dir)
    recipe = recipe_of(settings)
    classifier = given_classifier(settings)
    check_enough(labels, recipe.n_folds)
    check_contrasts(labels, settings)
    rows = preflight([image.record for image in labels.images], settings, None)
    click.echo(render_table(rows))
    click.echo(describe(labels, recipe, bundle))
    if settings.dry_run:
        click.echo('Dry run: nothing was written.')
        return 0 if all(row.usable for row in rows) else 1
    engine = start_engine(settings, work_dir, recipe.n_folds)
    prepare_work_dir(work_dir, clean=settings.clean_workdir)
    prepare_output(settings.output_dir, {'raw': settings.bids_dir, **dict(settings.derivatives)})
    add_log_file(settings.output_dir / 'logs' / f'{engine.run_uuid}.log')
    verdict, usable = _prepare_inputs(settings, labels, rows, recipe, classifier, engine)
    code = verdict.exit_code
    for outcome in verdict.outcomes:
        if outcome.status != DONE:
            logger.error('%s is left out: %s', outcome.name, outcome.problem)
    if verdict.interrupted:
        logger.error('Interrupted; run the same command again to continue.')
        return 1
    plan = _plan(settings, labels, usable, recipe, classifier, bundle, engine)
    _train(settings, plan, engine)
    _tell(plan, settings)
    return 1 if code else 0


def bundle_path(settings: Settings) -> Path:
    """Where the model goes; an existing one is only replaced when that was asked for."""
    path = settings.output_dir / 'models' / (settings.model_name or str(settings.label))
    if path.exists() and not settings.overwrite:
        raise ModelError(
            f'{path} exists already.', 'Choose another --model-name, or replace it: --overwrite.'
        )
    return path


def recipe_of(settings: Settings) -> TrainingRecipe:
    """Recipe of the settings; a given classifier brings grid and intensities along."""
    from bids_interp.training.recipe import make_recipe

    return make_recipe(**recipe_arguments(settings))


def recipe_arguments(settings: Settings) -> dict[str, Any]:
    """Arguments of :func:`bids_interp.training.recipe.make_recipe`, without those not given."""
    arguments = {
        'preset': settings.preset,
        'capacity': settings.capacity,
        'architecture': None if settings.given_classifier else settings.classifier,
        'n_folds': settings.folds,
        'spacing_mm': settings.resolution,
        'cube': settings.grid_size,
        'members': settings.members,
        'classifier_steps': settings.classifier_steps,
        'simulator_steps': settings.simulator_steps,
        'batch': settings.batch_size,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def given_classifier(settings: Settings) -> dict[str, Any] | None:
    """Source of a classifier of the user's own, checked; None where one is trained."""
    if not settings.given_classifier:
        return None
    from dataclasses import asdict

    from bids_interp.models.card import ClassifierCard
    from bids_interp.models.external import check_classifier, load_external, source_of

    card_file = settings.classifier_card or Path()
    card = ClassifierCard.read(card_file)
    file = None if settings.classifier_module else settings.classifier
    source = source_of(file, settings.classifier_module, settings.allow_code)
    network = load_external(source, card, settings.allow_code)
    check_classifier(network, card, card.golden_file(card_file))
    logger.info('Classifier %s of %s: its checks are passed.', card.name, source.location)
    return {**asdict(source), 'location': str(source.location)}


def check_enough(labels: LabelTable, n_folds: int) -> None:
    """Refuse too few families of a class before anything is computed."""
    import numpy as np

    from bids_interp.training.folds import check_families
    from bids_interp.training.gather import PARTS

    families = np.array([image.family for image in labels.images])
    if labels.target.kind != 'regression':
        classes = np.array([int(image.label) for image in labels.images])
        missing = [c for n, c in enumerate(labels.target.classes) if n not in classes]
        if missing:
            raise TrainingError(f'No usable image is of {", ".join(missing)}.')
        check_families(classes, families, n_folds, labels.target.classes)
    elif len(np.unique(families)) < PARTS * (n_folds + 1):
        raise TrainingError(
            f'{len(np.unique(families))} families are too few for {n_folds} folds of a regression.',
            'Use fewer folds (--folds) or more subjects.',
        )


def check_contrasts(labels: LabelTable, settings: Settings) -> None:
    """Refuse several classes for the published method, which has two."""
    if settings.preset == 'ipmi2021' and labels.target.kind != 'binary':
        raise UsageError(
            '--preset ipmi2021 tells two classes apart: give --positive and --negative.',
            'Other presets take several classes and numbers.',
        )


def describe(labels: LabelTable, recipe: TrainingRecipe, bundle: Path) -> str:
    """What will be trained, in words."""
    target = labels.target
    if target.kind == 'regression':
        what = f'{target.label}: mean {target.mean:.4g}, standard deviation {target.sd:.4g}'
    else:
        counts = [
            f'{sum(image.label == number for image in labels.images)} {name}'
            for number, name in enumerate(target.classes)
        ]
        what = f'{target.label}: {", ".join(counts)}'
    families = len({image.family for image in labels.images})
    lines = [
        f'Training on {len(labels.images)} images of {families} families; {what}.',
        f'{recipe.n_folds} folds, voxels of {recipe.spacing_mm:g} mm, simulator '
        f'{recipe.simulator.capacity}; model: {bundle}',
    ]
    if labels.left_out:
        reasons = sorted(set(labels.left_out.values()))
        lines.append(f'{len(labels.left_out)} images are not used ({"; ".join(reasons)}).')
    return '\n'.join(lines)


def start_engine(settings: Settings, work_dir: Path, n_folds: int) -> Engine:
    """The share of the machine that the training may use."""
    nprocs = settings.nprocs or available_cpus()
    threads = settings.omp_nthreads or 1
    device = resolve_device(settings.device)
    stamp = f'{time.strftime("%Y%m%d-%H%M%S")}_{uuid.uuid4()}'
    memory = settings.mem_gb or available_memory_gb()
    logger.info(
        'Computing on %s; up to %d processes, %.1f GB; work directory %s',
        device,
        nprocs,
        memory,
        work_dir,
    )
    return Engine(settings, work_dir, device, nprocs, min(threads, MAX_THREADS), memory, stamp)


def training_dir(settings: Settings, recipe: TrainingRecipe, engine: Engine) -> Path:
    """Part of the work directory that belongs to this dataset, preprocessing and grid."""
    parts = [
        read_description(settings.bids_dir),
        prepared_with(settings),
        recipe.spacing_mm,
        recipe.cube,
        recipe.preprocessing.to_dict(),
        str(settings.classifier_card and settings.classifier_card.read_text(encoding='utf-8')),
    ]
    digest = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:10]
    return engine.work_dir / f'train-{digest}'


def _prepare_inputs(
    settings: Settings,
    labels: LabelTable,
    rows: Sequence[PreflightRow],
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    engine: Engine,
) -> tuple[Verdict, list[LabelledImage]]:
    """Bring all images onto the model's grid; a bad one is left out and named."""
    configure_nipype(engine)
    from bids_interp.workflows.train import init_training_inputs_wf

    base_dir = training_dir(settings, recipe, engine)
    base_dir.mkdir(parents=True, exist_ok=True)
    template = save_model_context(base_dir / 'context.safetensors', settings, recipe)
    excluded = [
        Outcome(row.name, EXCLUDED, ' '.join(row.problems)) for row in rows if not row.usable
    ]
    bad = {outcome.name for outcome in excluded}
    images = [image for image in labels.images if image.record.prefix not in bad]
    records = [image.record for image in images]
    prepared = look_for_prepared(settings, records, template, engine.nprocs)
    if prepared:
        logger.info('%d of %d images were prepared before.', len(prepared), len(records))
    workflow = init_training_inputs_wf(
        settings=settings,
        records=records,
        prepared=prepared,
        template=template,
        context=base_dir / 'context.safetensors',
        inputs_dir=base_dir / 'inputs',
        engine=engine,
        base_dir=base_dir,
    )
    verdict = execute(engine, workflow, records)
    done = {outcome.name for outcome in verdict.of(DONE)}
    verdict.outcomes += excluded
    return verdict, [image for image in images if image.record.prefix in done]


def save_model_context(path: Path, settings: Settings, recipe: TrainingRecipe) -> str:
    """Write grid, mask and intensities of the model to be; return the template's name."""
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.training.grids import mask_on, model_grid
    from bids_interp.training.storage import save_context

    if settings.classifier_card is not None:
        from bids_interp.models.card import ClassifierCard

        card = ClassifierCard.read(settings.classifier_card)
        template = brain_template(card.grid.space, offline=settings.offline)
        save_context(path, card.grid, mask_on(template, card.grid), card.preprocessing)
        return card.grid.space
    template = brain_template(TEMPLATE, offline=settings.offline)
    grid, mask = model_grid(template, TEMPLATE, recipe.spacing_mm, recipe.cube)
    save_context(path, grid, mask, recipe.preprocessing)
    return TEMPLATE


def look_for_prepared(
    settings: Settings, records: Sequence[T1wRecord], template: str, n_threads: int
) -> dict[str, Prepared]:
    """What earlier runs have left in the output directory, by prefix."""
    from bids_interp.models.fingerprint import image_fingerprint

    def look(record: T1wRecord) -> Prepared | None:
        if not (settings.output_dir / f'sub-{record.subject}').is_dir():
            return None
        return find_prepared(settings, record, template, image_fingerprint(record.path))

    with ThreadPoolExecutor(n_threads) as pool:
        found = pool.map(look, records)
        return {r.prefix: p for r, p in zip(records, found, strict=True) if p is not None}


def describe_images(settings: Settings, images: Sequence[LabelledImage]) -> dict[str, Any]:
    """What is known about each image, for the nodes."""
    from bids_interp.models.fingerprint import image_fingerprint, subject_keys

    with ThreadPoolExecutor(settings.nprocs or available_cpus()) as pool:
        prints = list(pool.map(lambda image: image_fingerprint(image.record.path), images))
    columns = list(settings.covariates)
    return {
        'names': [image.record.prefix for image in images],
        'subjects': [image.record.subject for image in images],
        'labels': [image.label for image in images],
        'families': [image.family for image in images],
        'keys': [
            subject_keys(fingerprint, image.record.dataset_key, image.record.subject)
            for fingerprint, image in zip(prints, images, strict=True)
        ],
        'covariates': {c: [image.covariates.get(c) for image in images] for c in columns},
        'strata': [codes.tolist() for codes in strata(images, columns)],
        'site': next((c for c in columns if c.lower() in SITE_COLUMNS), None),
    }


def _plan(
    settings: Settings,
    labels: LabelTable,
    images: Sequence[LabelledImage],
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    bundle: Path,
    engine: Engine,
) -> TrainPlan:
    from bids_interp.workflows.train import TrainPlan

    usable = LabelTable(labels.target, tuple(images), labels.left_out)
    check_enough(usable, recipe.n_folds)
    base_dir = training_dir(settings, recipe, engine)
    table = {**describe_images(settings, images), 'target': labels.target.to_dict()}
    digest = hashlib.sha256(
        json.dumps([table, settings.random_seed, recipe.digest(), classifier]).encode()
    ).hexdigest()[:10]
    folder = base_dir / f'model-{digest}'
    write_json(folder / 'table.json', table)
    checkpoints = folder / 'checkpoints'
    checkpoints.mkdir(parents=True, exist_ok=True)
    return TrainPlan(
        recipe=recipe_arguments(settings),
        recipe_digest=recipe.digest(),
        n_folds=recipe.n_folds,
        context=base_dir / 'context.safetensors',
        table=folder / 'table.json',
        inputs=[base_dir / 'inputs' / f'{name}.safetensors' for name in table['names']],
        checkpoints=checkpoints,
        bundle=bundle,
        report_dir=settings.output_dir / 'training' / bundle.name,
        facts=config_facts(settings, recipe, classifier, bundle.name, engine),
        classifier=classifier,
    )


def config_facts(
    settings: Settings,
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    name: str,
    engine: Engine,
) -> dict[str, Any]:
    """What the configuration of the bundle says of the run."""
    from dataclasses import asdict

    described = read_description(settings.bids_dir)
    facts: dict[str, Any] = {
        'name': name,
        'license': settings.model_license or '',
        'created': datetime.now(UTC).date().isoformat(),
        'classifier': {
            'architecture': recipe.classifier.architecture,
            'arguments': {
                **recipe.classifier.arguments,
                **({'members': recipe.members} if recipe.members > 1 else {}),
            },
        },
        'simulator': recipe.simulator.network_arguments(),
        'training': {
            'preset': settings.preset,
            'dataset': described['Name'],
            'doi': described.get('DatasetDOI', ''),
            'covariates': list(settings.covariates),
            'device': engine.device,
            'recipe': asdict(recipe),
        },
    }
    if classifier is not None:
        from bids_interp.models.card import ClassifierCard

        card = ClassifierCard.read(settings.classifier_card or Path())
        # Where the file lay does not matter: the bundle has it.
        kept = {k: v for k, v in classifier.items() if k != 'location'}
        if classifier['kind'] == 'module':
            kept = classifier
        facts['classifier'] = {'external': kept, 'card': card.to_dict()}
    return facts


def _train(settings: Settings, plan: TrainPlan, engine: Engine) -> None:
    """Run the train workflow.

    Raises
    ------
    TrainingError
        If a fold or the assembly failed, with its message.
    """
    from bids_interp.workflows.train import init_train_wf

    workflow = init_train_wf(
        settings=settings, plan=plan, engine=engine, base_dir=plan.table.parent
    )
    crashes = settings.output_dir / 'logs' / f'{engine.run_uuid}_crashes'
    outcome = run_nodes(engine, workflow, crashes)
    if outcome.status == FAILED:
        where = f' in {outcome.step}' if outcome.step else ''
        details = f' Details: {outcome.crash_file}.' if outcome.crash_file else ''
        raise TrainingError(
            f'The training failed{where}: {outcome.problem}{details}',
            'What was trained is kept: the same command goes on from there.',
        )


def _tell(plan: TrainPlan, settings: Settings) -> None:
    from bids_interp.evaluation.verdict import verdict_sentence
    from bids_interp.models.bundle import load_bundle

    bundle = load_bundle(plan.bundle, allow_code=settings.allow_code)
    metrics = bundle.config['metrics']
    warranted = metrics.get('explanation_warranted', True)
    logger.log(logging.INFO if warranted else logging.WARNING, '%s', verdict_sentence(metrics))
    click.echo(f'Model:  {plan.bundle}\nReport: {plan.report_dir / "report.html"}')
    click.echo(f'Explain with it: bids_interp BIDS_DIR OUT_DIR participant --model {plan.bundle}')
