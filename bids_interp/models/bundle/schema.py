"""Schema of ``config.json``, the description of a model bundle; the only code that reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.errors import ModelError
from bids_interp.models.bundle.fingerprint import BITS
from bids_interp.models.bundle.fold_metrics import FoldMetrics
from bids_interp.models.external.card import ClassifierCard
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.models.target import Target
from bids_interp.records import RecordError, from_plain, parse_json, to_plain
from bids_interp.spatial import Grid

FORMAT = 1
#: Name that is safe in a path.
PLAIN_NAME = re.compile(r'\w[\w.+-]{0,99}', re.ASCII)
CONFIG = 'config.json'


@dataclass(frozen=True)
class GivenClassifier:
    """Origin of a classifier that was not trained here.

    Parameters
    ----------
    kind : {'export', 'registry', 'module'}
        A ``torch.export`` archive; weights for an architecture of the registry; Python code.
    location : str, optional
        ``'package.module:attribute'``; None for a file, which is in the bundle.
    architecture : str
        Name in the registry; by default that of the card.
    arguments : dict
        Arguments of the architecture, or of the function or class that makes the module.
    """

    kind: str
    location: str | None = None
    architecture: str | None = None
    arguments: dict[str, Any] | None = None


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of the classifiers of all folds, or the origin of a given one.

    Parameters
    ----------
    architecture : str, optional
        Name in the registry.
    arguments : dict, optional
        Its arguments.
    external : GivenClassifier, optional
        Origin of a given classifier.
    card : ClassifierCard, optional
        Card of a given classifier.
    """

    architecture: str | None = None
    arguments: dict[str, Any] | None = None
    external: GivenClassifier | None = None
    card: ClassifierCard | None = None

    def __post_init__(self) -> None:
        if (self.external is None) != (self.card is None):
            raise ModelError('A given classifier needs both "external" and "card".')
        if (self.external is None) == (self.architecture is None):
            raise ModelError('Either "architecture" or "external" is needed.')


@dataclass(frozen=True)
class SimulatorConfig:
    """Arguments of the simulators; see :class:`bids_interp.models.networks.simulator.Simulator`."""

    capacity: str | None = None
    smoothing_mm: float | None = None
    width: int | None = None
    experts: int | None = None
    contrasts: int | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """Data, recipe and software of the training, for information only.

    Parameters
    ----------
    preset, dataset, doi, device : str, optional
        Name of the recipe; name and DOI of the dataset; device that was used.
    covariates : sequence of str, optional
        Columns used to balance the folds.
    recipe : dict, optional
        All settings of the recipe.
    seed : int, optional
        Random seed.
    n_images, n_families : int, optional
        Size of the cohort.
    n_per_class : dict, optional
        Number of images by class.
    versions : dict, optional
        Version by software.
    effect, severity, classifier, simulator
        Planted change and training of the demonstration model.
    """

    preset: str | None = None
    dataset: str | None = None
    doi: str | None = None
    covariates: Sequence[str] | None = None
    device: str | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    n_images: int | None = None
    n_families: int | None = None
    n_per_class: dict[str, int] | None = None
    versions: dict[str, str] | None = None
    effect: dict[str, Any] | None = None
    severity: Sequence[float] | None = None
    classifier: dict[str, Any] | None = None
    simulator: dict[str, Any] | None = None


@dataclass(frozen=True)
class ModelFacts:
    """Description of a model before its training ends.

    Parameters
    ----------
    name, classifier, simulator, training, license, created
        See :class:`BundleConfig`.
    """

    name: str
    classifier: ClassifierConfig
    simulator: SimulatorConfig
    training: TrainingFacts
    license: str | None = None
    created: str | None = None


@dataclass(frozen=True)
class IntensityStatistics:
    """Intensities of the training images in cubes of template space.

    Parameters
    ----------
    edge_mm : float
        Edge of the cubes.
    n : int
        Number of images.
    mean, sd : sequence of float
        Mean over the images of the mean intensity of each cube, and the standard deviation
        between them (divided by n - 1).
    """

    edge_mm: float
    n: int
    mean: Sequence[float]
    sd: Sequence[float]


@dataclass(frozen=True)
class FoldConfig:
    """One fold: its files and its calibration.

    Parameters
    ----------
    temperature, class_gap : float, or sequence of float
        See :class:`bids_interp.models.bundle.reader.FoldModels`; one for each contrast if there
        are several.
    metrics : FoldMetrics
        Measurements of this fold.
    classifier, simulator : str
        Names of the files; empty for a classifier that is code.
    intercept : float, or sequence of float, optional
        Added to the outputs after their division by the temperature; one for each output if there
        are several. None, in bundles of version 0.1.0, means 0.
    """

    temperature: float | Sequence[float]
    class_gap: float | Sequence[float]
    metrics: FoldMetrics
    classifier: str
    simulator: str
    intercept: float | Sequence[float] | None = None


@dataclass(frozen=True)
class TrainingScan:
    """Scan that the model was trained with.

    Parameters
    ----------
    sketch : str
        Result of :func:`bids_interp.models.bundle.fingerprint.scan_sketch`.
    folds : sequence of int
        Folds that may explain it.
    """

    sketch: str
    folds: Sequence[int]

    def __post_init__(self) -> None:
        if not re.fullmatch(rf'[0-9a-f]{{{BITS // 4}}}', self.sketch):
            raise ModelError(f'A sketch has {BITS // 4} hexadecimal digits.')


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """Content of ``config.json``.

    Parameters
    ----------
    format : int
        Format of the bundle.
    name : str
        Name of the model.
    demonstration : bool
        The model only demonstrates the software.
    description, license, created, version : str, optional
        Description, licence, date, and version of bids_interp.
    grid : Grid
        Grid of the classifier's input; its space is the template's name.
    template : str
        Template to which brains are registered.
    target : Target
        Predicted target.
    preprocessing : Preprocessing
        Intensity normalisation.
    classifier : ClassifierConfig
        The classifiers.
    simulator : SimulatorConfig
        The simulators.
    training : TrainingFacts, optional
        Data and settings of the training.
    training_intensities : IntensityStatistics, optional
        Intensities of the training images.
    training_scans : sequence of TrainingScan, optional
        Sketches of the training scans, in no order that tells anything.
    salt : str, optional
        Salt of the identities in ``subjects``; bundles of version 0.1.0 only.
    subjects : dict, optional
        Folds that may explain each training subject, by its salted identity; likewise.
    classifier_subjects : sequence of str, optional
        Salted identities of the training subjects of a given classifier; likewise.
    metrics : dict
        Out-of-fold measurements of
        :func:`bids_interp.evaluation.classification.out_of_fold_metrics`, and ``covariates``,
        ``mask``, ``simulator`` and ``sanity`` if they were measured.
    folds : sequence of FoldConfig
        The folds.
    files : dict
        SHA-256 of each file.
    """

    format: int = FORMAT
    name: str
    demonstration: bool = False
    description: str | None = None
    license: str | None = None
    created: str | None = None
    version: str | None = None
    grid: Grid
    template: str
    target: Target
    preprocessing: Preprocessing
    classifier: ClassifierConfig
    simulator: SimulatorConfig
    training: TrainingFacts | None = None
    training_intensities: IntensityStatistics | None = None
    training_scans: Sequence[TrainingScan] | None = None
    salt: str | None = None
    subjects: dict[str, Sequence[int]] | None = None
    classifier_subjects: Sequence[str] | None = None
    metrics: dict[str, Any]
    folds: Sequence[FoldConfig]
    files: dict[str, str]

    def __post_init__(self) -> None:
        # Folders and files of the outputs are named by them.
        for key, name in (
            ('name', self.name),
            ('template', self.template),
            ('grid.space', self.grid.space),
        ):
            if not PLAIN_NAME.fullmatch(name):
                raise ModelError(
                    f'{key} {name!r} may contain only letters, digits, dots, hyphens and '
                    'underscores.'
                )

    @property
    def warranted(self) -> bool:
        """True if the out-of-fold performance is above chance, which warrants explanations."""
        return bool(self.metrics.get('explanation_warranted', True))

    def to_json(self) -> str:
        """Return the text of ``config.json``."""
        return json.dumps(to_plain(self), indent=1) + '\n'


def read_config(path: Path) -> BundleConfig:
    """Read ``config.json`` of the bundle in a folder.

    Raises
    ------
    ModelError
        If it is missing or has another format, or if a key is missing, unknown or of another type.
    """
    file = path / CONFIG
    if not path.is_dir():
        raise ModelError(f'There is no model bundle at {path}.')
    if not file.is_file():
        raise ModelError(f'{path} is not a model bundle: {CONFIG} is missing.')
    try:
        plain = parse_json(file.read_text(encoding='utf-8'))
    except (ValueError, OSError) as error:
        raise ModelError(f'{file} cannot be read: {error}.') from error
    found = plain.get('format') if isinstance(plain, dict) else None
    if found != FORMAT:
        raise ModelError(
            f'{file} has bundle format {found}; this version reads {FORMAT}.',
            'Use the version of bids_interp that made the bundle, or train the model again.',
        )
    try:
        return from_plain(BundleConfig, plain)
    except RecordError as error:
        raise ModelError(
            f'{file} is not valid: {error}.',
            'Copy the bundle from its source again, or train the model again.',
        ) from error
