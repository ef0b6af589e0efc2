"""What is asked for at the train level: whether it can be done, and how it is called."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.errors import ModelError, TrainingError, UsageError
from bids_interp.levels.labels import LabelTable
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe

logger = logging.getLogger('bids_interp')


def bundle_path(settings: Settings) -> Path:
    """Where the model goes; an existing one is only replaced when that was asked for."""
    path = settings.output_dir / 'models' / (settings.model_name or str(settings.label))
    if path.exists() and not settings.overwrite:
        raise ModelError(
            f'{path} exists already.', 'Choose another --model-name, or replace it: --overwrite.'
        )
    return path


def training_recipe(settings: Settings) -> TrainingRecipe:
    """Recipe of the settings; a given classifier brings grid and intensities along."""
    from bids_interp.training.recipe import make_recipe

    return make_recipe(**recipe_options(settings))


def recipe_options(settings: Settings) -> dict[str, Any]:
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
    from bids_interp.models.external.card import ClassifierCard
    from bids_interp.models.external.loader import check_classifier, load_external, source_of

    card_file = settings.classifier_card or Path()
    card = ClassifierCard.read(card_file)
    file = None if settings.classifier_module else settings.classifier
    source = source_of(file, settings.classifier_module, settings.allow_code)
    network = load_external(source, card, settings.allow_code)
    check_classifier(network, card, card.golden_file(card_file))
    logger.info('Classifier %s of %s: its checks are passed.', card.name, source.location)
    return {**asdict(source), 'location': str(source.location)}


def apply_card_target(labels: LabelTable, settings: Settings) -> LabelTable:
    """Take the target of a given classifier from its card, after comparing it with the labels.

    Raises
    ------
    UsageError
        If the classifier tells something else apart than the labels.
    """
    if not settings.given_classifier:
        return labels
    from bids_interp.models.external.card import ClassifierCard

    target = ClassifierCard.read(settings.classifier_card or Path()).target
    own = labels.target
    if (own.kind, own.classes) != (target.kind, target.classes):
        named = ' '.join(target.classes)
        options = {'multiclass': f'--classes {named}', 'regression': '--regression'}
        if target.kind == 'binary':
            options['binary'] = '--negative {} --positive {}'.format(*target.classes)
        raise UsageError(
            f'{settings.classifier_card} describes a {target.kind} classifier '
            f'({named or target.label}), but the labels asked for are {own.kind} '
            f'({" ".join(own.classes) or own.label}).',
            f'Ask for what it tells apart: {options[target.kind]}.',
        )
    return replace(labels, target=replace(target, label=own.label))


def check_class_sizes(labels: LabelTable, n_folds: int) -> None:
    """Refuse too few families of a class before anything is computed."""
    import numpy as np

    from bids_interp.training.cohort.folds import check_families
    from bids_interp.training.cohort.gather import PARTS

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


def check_grid(settings: Settings, recipe: TrainingRecipe) -> None:
    """Refuse a grid that the published simulator does not fit, before anything is computed."""
    from bids_interp.training.ipmi2021 import PaperRecipe, check_published_grid

    if not isinstance(recipe.simulator, PaperRecipe):
        return
    shape = (recipe.cube,) * 3
    if settings.classifier_card is not None:
        from bids_interp.models.external.card import ClassifierCard

        shape = ClassifierCard.read(settings.classifier_card).grid.shape
    check_published_grid(shape)


def training_summary(labels: LabelTable, recipe: TrainingRecipe, bundle: Path) -> str:
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
