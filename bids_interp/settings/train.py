"""Settings of the ``train`` level."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bids_interp.constants import CAPACITIES, PRESET_NAMES
from bids_interp.errors import UsageError

ARCHITECTURES = ('robust', 'morphometric', 'sfcn', 'ipmi2021')
#: Value of ``classifier`` that compares classifiers and explains the best one.
AUTO = 'auto'
#: Default of ``classifier`` for each preset.
DEFAULT_CLASSIFIERS = {'default': AUTO, 'fast': 'morphometric', 'ipmi2021': 'ipmi2021'}

#: Settings that a trained classifier excludes: its card sets the grid, and it is not trained.
SET_BY_CARD = ('resolution', 'grid_size', 'members', 'classifier_steps', 'model_template')

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')


@dataclass(frozen=True, kw_only=True)
class TrainChoices:
    """Settings of the ``train`` level.

    Parameters
    ----------
    label : str, optional
        Column of the labels; required for training.
    positive, negative : str, optional
        Values of the two classes.
    classes : tuple of str
        Values of three or more classes, the reference class first.
    regression : bool
        The label is a number.
    labels : Path, optional
        Table (TSV) that replaces participants.tsv and sessions.tsv.
    covariates : tuple of str
        Columns used to balance the folds and reported as potential confounds.
    family : str, optional
        Column that identifies related images (siblings, several images of one brain).
    allow_unlabelled : bool
        Skip images without a label.
    preset : {'default', 'fast', 'ipmi2021'}
        Recipe that the other settings change.
    capacity : {'template', 'residual', 'condconv'}, optional
        Capacity of the simulator.
    classifier : str, optional
        ``'auto'``, architecture to train, or file with a trained classifier (``.pt2``,
        ``.safetensors``).
    classifier_card : Path, optional
        JSON that describes a trained classifier.
    classifier_module : str, optional
        ``module:attribute`` of a trained classifier; executes its code.
    allow_code : bool
        Allow the code of ``classifier_module`` to be executed.
    folds, members : int, optional
        Number of cross-validation folds, and of classifiers per fold.
    model_template : str, optional
        TemplateFlow name of the template of the model; by default the embedded one.
    resolution : float, optional
        Voxel size of the model's grid in mm.
    grid_size : int, optional
        Voxels of the model's grid along each axis.
    classifier_steps, simulator_steps, batch_size : int, optional
        Training steps of the two networks, and images per step.
    devices_per_fold : int
        GPUs (or CPU processes) that share the batches of a fold.
    model_name : str, optional
        Name of the bundle in OUTPUT_DIR/models; the label if it is not given.
    model_license : str, optional
        Licence of the model, for its card.
    sanity : bool
        Check on the first fold that maps disappear if the classifier or the labels are randomised.
    overwrite : bool
        Replace an existing bundle of that name.
    """

    label: str | None = None
    positive: str | None = None
    negative: str | None = None
    classes: tuple[str, ...] = ()
    regression: bool = False
    labels: Path | None = None
    covariates: tuple[str, ...] = ()
    family: str | None = None
    allow_unlabelled: bool = False
    preset: str = 'default'
    capacity: str | None = None
    classifier: str | None = None
    classifier_card: Path | None = None
    classifier_module: str | None = None
    allow_code: bool = False
    folds: int | None = None
    members: int | None = None
    model_template: str | None = None
    resolution: float | None = None
    grid_size: int | None = None
    classifier_steps: int | None = None
    simulator_steps: int | None = None
    batch_size: int | None = None
    devices_per_fold: int = 1
    model_name: str | None = None
    model_license: str | None = None
    sanity: bool = False
    overwrite: bool = False

    @property
    def given_classifier(self) -> bool:
        """True if the user provides a trained classifier, so that only simulators are trained."""
        return self.classifier_module is not None or (
            self.classifier is not None and self.classifier not in (AUTO, *ARCHITECTURES)
        )

    @property
    def trained_classifier(self) -> str | None:
        """Architecture to train or ``'auto'``, by default that of the preset; None if given."""
        if self.given_classifier:
            return None
        return self.classifier or DEFAULT_CLASSIFIERS[self.preset]


def check_train(choices: TrainChoices) -> None:
    """Refuse impossible settings of the ``train`` level.

    Raises
    ------
    UsageError
        With the option and its remedy.
    """
    for option, value, allowed in (
        ('--preset', choices.preset, PRESET_NAMES),
        ('--capacity', choices.capacity, (*CAPACITIES, None)),
    ):
        if value not in allowed:
            listed = ', '.join(name for name in allowed if name)
            raise UsageError(f'{option} must be one of {listed}, not {value!r}.')
    positive = [name for name in SET_BY_CARD if name != 'model_template']
    for name in (*positive, 'folds', 'simulator_steps', 'batch_size', 'devices_per_fold'):
        value = getattr(choices, name)
        if value is not None and not value > 0:
            raise UsageError(f'{_option(name)} must be positive, not {value}.')
    if choices.folds is not None and choices.folds < 2:
        raise UsageError(
            '--folds must be at least 2, because a subject is never explained by a model it was '
            'trained on.'
        )
    if choices.model_template is not None:
        _check_name('--model-template', choices.model_template)
    if choices.model_name is not None:
        _check_name('--model-name', choices.model_name)


def _option(name: str) -> str:
    return f'--{name.replace("_", "-")}'


def _check_name(option: str, name: str, advice: str | None = None) -> None:
    """Refuse a model name that is not a plain folder name: bundles are not found in subfolders."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'{option} {name!r} may contain only letters, digits, dots, hyphens and underscores.',
            advice,
        )


def check_target_options(choices: TrainChoices) -> None:
    """Refuse missing or contradictory settings of the target, at the ``train`` level.

    Raises
    ------
    UsageError
        With the option and its remedy.
    """
    if not choices.label:
        raise UsageError(
            'The train level requires --label COLUMN, the column of participants.tsv with the '
            'labels.',
            'For example: --label group --positive patient --negative control.',
        )
    if choices.model_name is None:
        _check_name('--label', choices.label, 'Choose another name of the model with --model-name.')
    kinds = {
        '--positive': choices.positive is not None,
        '--classes': bool(choices.classes),
        '--regression': choices.regression,
    }
    given = [option for option, is_given in kinds.items() if is_given]
    if len(given) > 1:
        raise UsageError(f'{" and ".join(given)} exclude each other.', 'Give one of them.')
    if choices.negative is not None and choices.positive is None:
        raise UsageError('--negative requires --positive.')
    if choices.positive is not None and choices.positive == choices.negative:
        raise UsageError(f'--positive and --negative must differ; both are {choices.positive!r}.')
    if choices.classes and (
        len(choices.classes) < 3 or len(set(choices.classes)) < len(choices.classes)
    ):
        raise UsageError(
            '--classes requires at least three different values.',
            'For two classes use --positive and --negative.',
        )
    _check_classifier(choices)


def _check_classifier(choices: TrainChoices) -> None:
    """Refuse settings that a trained classifier needs, excludes or decides itself."""
    if not choices.given_classifier:
        if choices.classifier_card is not None:
            raise UsageError(
                '--classifier-card describes a trained classifier, but none is given.',
                'Give one with --classifier FILE or --classifier-module MODULE:NAME.',
            )
        return
    if choices.classifier_card is None:
        raise UsageError(
            'Your own classifier requires --classifier-card FILE.json.',
            'docs/own-classifier.md has an example.',
        )
    if choices.classifier is not None and choices.classifier_module is not None:
        raise UsageError(
            '--classifier and --classifier-module exclude each other.', 'Give one of them.'
        )
    ignored = [_option(name) for name in SET_BY_CARD if getattr(choices, name) is not None]
    if ignored:
        raise UsageError(
            f'With your own classifier, {", ".join(ignored)} has no effect: its card sets the '
            'grid, and the classifier is not trained.',
            'Remove the option.',
        )
