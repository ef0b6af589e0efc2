"""Train inputs: prepared images, table of the cohort, description of the bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.read.description import read_description
from bids_interp.bids.read.prepared import PreparedFiles, find_prepared, prepared_with
from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.atomic import write_json
from bids_interp.constants import EMBEDDED_TEMPLATE
from bids_interp.execution.resources import available_cpus
from bids_interp.execution.run import Run
from bids_interp.levels.labels import LabelledImage, LabelTable, strata
from bids_interp.levels.train_checks import RecipeOptions, check_class_sizes
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import ClassifierConfig, ModelFacts
    from bids_interp.training.recipe import TrainingRecipe
    from bids_interp.workflows.train import TrainInputs

SITE_COLUMNS = ('site', 'scanner', 'center', 'centre')


def training_dir(settings: Settings, recipe: TrainingRecipe, run: Run) -> Path:
    """Return the work directory of this dataset, preprocessing and grid."""
    parts = [
        read_description(settings.bids_dir),
        prepared_with(settings),
        settings.model_template,
        recipe.spacing_mm,
        recipe.cube,
        recipe.preprocessing.to_dict(),
        str(settings.classifier_card and settings.classifier_card.read_text(encoding='utf-8')),
    ]
    digest = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:10]
    return run.work_dir / f'train-{digest}'


def save_model_grid(path: Path, settings: Settings, recipe: TrainingRecipe) -> str:
    """Write grid, mask and preprocessing of the model; return the name of its template."""
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.training.cohort.model_grid import model_grid, template_mask
    from bids_interp.training.cohort.storage import save_input_space

    if settings.classifier_card is not None:
        from bids_interp.models.external.card import ClassifierCard

        card = ClassifierCard.read(settings.classifier_card)
        template = brain_template(card.grid.space, offline=settings.offline)
        save_input_space(path, card.grid, template_mask(template, card.grid), card.preprocessing)
        return card.grid.space
    name = settings.model_template or EMBEDDED_TEMPLATE
    template = brain_template(name, offline=settings.offline)
    grid, mask = model_grid(template, name, recipe.spacing_mm, recipe.cube)
    save_input_space(path, grid, mask, recipe.preprocessing)
    return name


def find_prepared_images(
    settings: Settings, records: Sequence[T1wRecord], template: str, n_threads: int
) -> dict[str, PreparedFiles]:
    """Return the images that earlier runs prepared, by their prefix."""
    from bids_interp.models.bundle.fingerprint import image_fingerprint

    def find(record: T1wRecord) -> PreparedFiles | None:
        if not (settings.output_dir / f'sub-{record.subject}').is_dir():
            return None
        return find_prepared(settings, record, template, image_fingerprint(record.path))

    with ThreadPoolExecutor(n_threads) as pool:
        found = pool.map(find, records)
        return {r.prefix: p for r, p in zip(records, found, strict=True) if p is not None}


def image_table(settings: Settings, images: Sequence[LabelledImage]) -> dict[str, Any]:
    """Return the table of the images for the nodes."""
    from bids_interp.models.bundle.fingerprint import image_fingerprint, subject_keys

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


def prepare_training(
    settings: Settings,
    labels: LabelTable,
    images: Sequence[LabelledImage],
    options: RecipeOptions,
    classifier: dict[str, Any] | None,
    bundle: Path,
    run: Run,
) -> TrainInputs:
    """Write the table of the images and return the inputs of the train workflow."""
    from bids_interp.workflows.train import Candidate, TrainInputs

    recipes = options.recipes
    recipe = recipes[0]
    usable = LabelTable(labels.target, tuple(images), labels.left_out)
    check_class_sizes(usable, recipe.n_folds)
    base_dir = training_dir(settings, recipe, run)
    table = {**image_table(settings, images), 'target': labels.target.to_dict()}
    digests = [made.digest() for made in recipes]
    digest = hashlib.sha256(
        json.dumps([table, settings.random_seed, digests, classifier]).encode()
    ).hexdigest()[:10]
    folder = base_dir / f'model-{digest}'
    write_json(folder / 'table.json', table)
    checkpoints = folder / 'checkpoints'
    checkpoints.mkdir(parents=True, exist_ok=True)
    candidates = [
        Candidate(chosen, made, bundle_description(settings, recipe, classifier, bundle.name, run))
        for chosen, made, recipe in zip(options.candidates, digests, recipes, strict=True)
    ]
    return TrainInputs(
        recipe=candidates[0].recipe,
        recipe_digest=candidates[0].recipe_digest,
        n_folds=recipe.n_folds,
        input_space=base_dir / 'context.safetensors',
        table=folder / 'table.json',
        inputs=[base_dir / 'inputs' / f'{name}.safetensors' for name in table['names']],
        checkpoints=checkpoints,
        bundle=bundle,
        report_dir=settings.output_dir / 'training' / bundle.name,
        facts=candidates[0].facts,
        classifier=classifier,
        candidates=tuple(candidates) if options.is_choice else (),
        left_out=options.left_out,
    )


def bundle_description(
    settings: Settings,
    recipe: TrainingRecipe,
    classifier: dict[str, Any] | None,
    name: str,
    run: Run,
) -> ModelFacts:
    """Return the description of the model for the configuration of the bundle."""
    from bids_interp.models.bundle.schema import ModelFacts, SimulatorConfig, TrainingFacts

    source = read_description(settings.bids_dir)
    return ModelFacts(
        name=name,
        license=settings.model_license or '',
        created=datetime.now(UTC).date().isoformat(),
        classifier=_classifier_config(settings, recipe, classifier),
        simulator=SimulatorConfig(**recipe.simulator.network_arguments()),
        training=TrainingFacts(
            preset=settings.preset,
            dataset=source['Name'],
            doi=source.get('DatasetDOI', ''),
            covariates=list(settings.covariates),
            device=run.device,
            recipe=asdict(recipe),
        ),
    )


def _classifier_config(
    settings: Settings, recipe: TrainingRecipe, classifier: dict[str, Any] | None
) -> ClassifierConfig:
    from bids_interp.models.bundle.schema import ClassifierConfig, GivenClassifier
    from bids_interp.models.external.card import ClassifierCard

    if classifier is None:
        members = {'members': recipe.members} if recipe.members > 1 else {}
        return ClassifierConfig(
            recipe.classifier.architecture, {**recipe.classifier.arguments, **members}
        )
    card = ClassifierCard.read(settings.classifier_card or Path())
    given = GivenClassifier(**classifier)
    if given.kind != 'module':
        # The bundle contains the file, so its former path does not matter.
        given = replace(given, location=None)
    return ClassifierConfig(external=given, card=card)
