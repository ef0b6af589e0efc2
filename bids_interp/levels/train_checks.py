"""Train checks: whether the requested model can be trained, before anything is computed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.errors import ModelError, TrainingError
from bids_interp.levels.labels import LabelTable
from bids_interp.settings import Settings
from bids_interp.settings.train import AUTO

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe

logger = logging.getLogger('bids_interp')

#: On a CPU, ``--classifier auto`` also trains the network of the preset from this number of
#: families on. Its steps take more than an hour there, and with a few hundred scans it is the wrong
#: choice.
FAMILIES_FOR_NETWORK = 500


def bundle_path(settings: Settings) -> Path:
    """Return the folder of the model, which must not exist unless it may be replaced."""
    path = settings.output_dir / 'models' / (settings.model_name or str(settings.label))
    if path.exists() and not settings.overwrite:
        raise ModelError(
            f'{path} already exists.',
            'Choose another --model-name, or replace it with --overwrite.',
        )
    return path


@dataclass(frozen=True)
class RecipeOptions:
    """Recipes of the classifiers to train, and why others are left out.

    Parameters
    ----------
    candidates : tuple of dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe` for each classifier, the
        preferred one first; with a given classifier, for its simulators.
    is_choice : bool
        Whether the best classifier is to be chosen.
    left_out : dict
        Reason for each classifier that is not trained.
    """

    candidates: tuple[dict[str, Any], ...]
    is_choice: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def recipes(self) -> list[TrainingRecipe]:
        """Recipe of each candidate; they differ in classifier and simulator alone."""
        from bids_interp.training.recipe import make_recipe

        return [make_recipe(**options) for options in self.candidates]


def training_recipes(settings: Settings, n_families: int, device: str) -> RecipeOptions:
    """Return the recipes; with a given classifier, its card sets the grid.

    Parameters
    ----------
    settings : Settings
        Settings of the user.
    n_families : int
        Number of families in the dataset.
    device : str
        Device of the networks.
    """
    if settings.trained_classifier != AUTO:
        return RecipeOptions((_recipe_options(settings, settings.trained_classifier),))
    morphometric = _recipe_options(settings, 'morphometric')
    # It is fitted without steps.
    morphometric.pop('classifier_steps', None)
    network = _recipe_options(settings, None)
    is_cheap = device.startswith('cuda') or n_families >= FAMILIES_FOR_NETWORK
    if is_cheap or settings.classifier_steps is not None:
        return RecipeOptions((morphometric, network), is_choice=True)
    name = RecipeOptions((network,)).recipes[0].classifier.architecture
    reason = (
        f'there is no GPU, and the dataset has fewer than {FAMILIES_FOR_NETWORK} families '
        f'({n_families})'
    )
    return RecipeOptions((morphometric,), is_choice=True, left_out={name: reason})


def _recipe_options(settings: Settings, architecture: str | None) -> dict[str, Any]:
    """Return the arguments of :func:`bids_interp.training.recipe.make_recipe` that were set."""
    arguments = {
        'preset': settings.preset,
        'capacity': settings.capacity,
        'architecture': architecture,
        'n_folds': settings.folds,
        'spacing_mm': settings.resolution,
        'cube': settings.grid_size,
        'members': settings.members,
        'classifier_steps': settings.classifier_steps,
        'simulator_steps': settings.simulator_steps,
        'batch': settings.batch_size,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def check_class_sizes(labels: LabelTable, n_folds: int) -> None:
    """Refuse classes with too few families."""
    import numpy as np

    from bids_interp.training.cohort.folds import check_families
    from bids_interp.training.cohort.gather import PARTS

    families = np.array([image.family for image in labels.images])
    if labels.target.kind != 'regression':
        classes = np.array([int(image.label) for image in labels.images])
        missing = [c for n, c in enumerate(labels.target.classes) if n not in classes]
        if missing:
            raise TrainingError(f'There is no usable image of the class {", ".join(missing)}.')
        check_families(classes, families, n_folds, labels.target.classes)
    elif len(np.unique(families)) < PARTS * (n_folds + 1):
        raise TrainingError(
            f'{len(np.unique(families))} families are too few for {n_folds} folds of a regression.',
            'Use fewer folds (--folds) or more subjects.',
        )


def smallest_p(labels: LabelTable, n_folds: int, seed: int = 0) -> float:
    """Return the p value that a classifier without any error would get from these classes.

    Labels are exchanged between the families of a fold. With few families there are few ways to do
    so, and every p value is large.
    """
    import numpy as np

    from bids_interp.evaluation.classification import discrimination
    from bids_interp.training.cohort.folds import make_folds

    families = np.array([image.family for image in labels.images])
    classes = np.array([int(image.label) for image in labels.images])
    folds = np.zeros(len(classes), int)
    for number, fold in enumerate(make_folds(classes, families, n_folds, seed)):
        folds[fold.test] = number
    count = len(labels.target.classes)
    scores = classes[:, None] if count == 2 else np.eye(count)[classes]
    found = discrimination(scores, classes, folds, families, seed, draws=1)
    return float(found['permutation_p'])


def check_contrasts(labels: LabelTable, settings: Settings) -> None:
    """Refuse a number for the published method."""
    from bids_interp.training.ipmi2021 import check_published_target

    if settings.preset == 'ipmi2021':
        check_published_target(labels.target.kind)


def check_grid(settings: Settings, recipe: TrainingRecipe) -> None:
    """Refuse a grid whose size the published simulator does not support."""
    from bids_interp.training.ipmi2021 import PaperRecipe, check_published_grid

    if not isinstance(recipe.simulator, PaperRecipe):
        return
    shape = (recipe.cube,) * 3
    if settings.classifier_card is not None:
        from bids_interp.models.external.card import ClassifierCard

        shape = ClassifierCard.read(settings.classifier_card).grid.shape
    check_published_grid(shape)


def training_summary(labels: LabelTable, options: RecipeOptions, bundle: Path) -> str:
    """Return a description of the training, with a warning if nothing could be found."""
    from bids_interp.evaluation.verdict import LEVEL

    target, recipe = labels.target, options.recipes[0]
    if target.kind == 'regression':
        distribution = f'{target.label}: mean {target.mean:.4g}, standard deviation {target.sd:.4g}'
    else:
        counts = [
            f'{sum(image.label == number for image in labels.images)} {name}'
            for number, name in enumerate(target.classes)
        ]
        distribution = f'{target.label}: {", ".join(counts)}'
    families = len({image.family for image in labels.images})
    lines = [
        f'Training on {len(labels.images)} images of {families} families; {distribution}.',
        f'{recipe.n_folds} folds, voxels of {recipe.spacing_mm:g} mm, simulator '
        f'{recipe.simulator.capacity}; model: {bundle}',
    ]
    if options.is_choice:
        names = [made.classifier.architecture for made in options.recipes]
        lines.append(
            f'Classifiers: {", ".join(names)}; the best one on the validation splits is explained.'
        )
        lines += [f'{name} is not trained: {why}.' for name, why in options.left_out.items()]
    if target.kind != 'regression':
        p = smallest_p(labels, recipe.n_folds)
        if p >= LEVEL:
            lines.append(
                f'With {families} families in {recipe.n_folds} folds, even a classifier without '
                f'error would have p = {p:.2f} and no map would be a finding. Use more subjects or '
                'fewer folds (--folds).'
            )
    if labels.left_out:
        reasons = sorted(set(labels.left_out.values()))
        lines.append(f'{len(labels.left_out)} images are not used ({"; ".join(reasons)}).')
    return '\n'.join(lines)
