"""What the user can choose for the ``train`` level."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bids_interp.errors import UsageError

PRESETS = ('default', 'fast', 'ipmi2021')
CAPACITIES = ('template', 'residual', 'condconv')
ARCHITECTURES = ('robust', 'morphometric', 'sfcn', 'ipmi2021')

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*')


@dataclass(frozen=True, kw_only=True)
class TrainChoices:
    """Choices of the ``train`` level.

    Parameters
    ----------
    label : str, optional
        Column of the labels; must be given for training.
    positive, negative : str, optional
        Values of the two classes.
    classes : tuple of str
        Values of several classes, the reference first.
    regression : bool
        The label is a number.
    labels : Path, optional
        Table (TSV) to take instead of participants.tsv and sessions.tsv.
    covariates : tuple of str
        Columns that the folds are balanced by and that are reported as confounds.
    family : str, optional
        Column that says who belongs together (siblings, several images of one brain).
    allow_unlabelled : bool
        Leave images without a label out instead of ending.
    preset : {'default', 'fast', 'ipmi2021'}
        Where the recipe starts from.
    capacity : {'template', 'residual', 'condconv'}, optional
        Of the simulator.
    classifier : str, optional
        Architecture of the registry, or file with a trained classifier (``.pt2``,
        ``.safetensors``).
    classifier_card : Path, optional
        JSON that describes a given classifier.
    classifier_module : str, optional
        ``module:attribute`` of a given classifier; executes its code.
    allow_code : bool
        Allow that.
    folds, members : int, optional
        Folds of the cross-validation, classifiers of each fold.
    resolution : float, optional
        Voxel size of the model's grid in mm.
    grid_size : int, optional
        Voxels of the model's grid along each axis.
    classifier_steps, simulator_steps, batch_size : int, optional
        Of the trainings.
    devices_per_fold : int
        GPUs (or CPU processes) that share each batch of a fold.
    model_name : str, optional
        Name of the bundle below OUTPUT_DIR/models; the label where it is not given.
    model_license : str, optional
        Licence of the model, for its card.
    sanity : bool
        Check on the first fold that maps are destroyed with the classifier or the labels.
    overwrite : bool
        Replace a bundle of that name.
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
        """Whether a classifier was brought along, so that only simulators are trained."""
        return self.classifier_module is not None or (
            self.classifier is not None and self.classifier not in ARCHITECTURES
        )


def check_train(choices: TrainChoices) -> None:
    """Refuse choices of the ``train`` level that are impossible.

    Raises
    ------
    UsageError
        With the option and what to do.
    """
    for option, value, known in (
        ('--preset', choices.preset, PRESETS),
        ('--capacity', choices.capacity, (*CAPACITIES, None)),
    ):
        if value not in known:
            listed = ', '.join(name for name in known if name)
            raise UsageError(f'{option} must be one of {listed}, not {value!r}.')
    for name in (
        'folds',
        'members',
        'resolution',
        'grid_size',
        'classifier_steps',
        'simulator_steps',
        'batch_size',
        'devices_per_fold',
    ):
        value = getattr(choices, name)
        if value is not None and not value > 0:
            raise UsageError(f'--{name.replace("_", "-")} must be positive, not {value}.')
    if choices.folds is not None and choices.folds < 2:
        raise UsageError('--folds must be at least 2: who trains a model is not explained by it.')
    if choices.model_name is not None:
        _check_name('--model-name', choices.model_name)


def _check_name(option: str, name: str, advice: str | None = None) -> None:
    """Refuse what cannot be the name of a model's folder: one in another is not found later."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'{option} {name!r} is no file name of letters, digits, dots, hyphens and underscores.',
            advice,
        )


def check_target(choices: TrainChoices) -> None:
    """Refuse contradictory statements on what is trained; only for the ``train`` level.

    Raises
    ------
    UsageError
        With the option and what to do.
    """
    if not choices.label:
        raise UsageError(
            'train needs --label COLUMN: the column of participants.tsv that says who has what.',
            'For example --label group --positive patient --negative control.',
        )
    if choices.model_name is None:
        _check_name('--label', choices.label, 'Name the model yourself: --model-name NAME.')
    kinds = {
        '--positive': choices.positive is not None,
        '--classes': bool(choices.classes),
        '--regression': choices.regression,
    }
    said = [option for option, is_given in kinds.items() if is_given]
    if len(said) > 1:
        raise UsageError(f'{" and ".join(said)} contradict each other: give one of them.')
    if choices.negative is not None and choices.positive is None:
        raise UsageError('--negative needs --positive.')
    if choices.positive is not None and choices.positive == choices.negative:
        raise UsageError(f'--positive and --negative are the same: {choices.positive!r}.')
    if choices.classes and (
        len(choices.classes) < 3 or len(set(choices.classes)) < len(choices.classes)
    ):
        raise UsageError(
            '--classes needs at least three different values.',
            'For two use --positive and --negative.',
        )
    if choices.given_classifier and choices.classifier_card is None:
        raise UsageError(
            'A classifier of your own needs --classifier-card FILE.json.',
            'docs/own-classifier.md has an example.',
        )
