"""Reader of model bundles.

A bundle is a folder with a configuration, weights as safetensors and a model card. Nothing in it is
ever unpickled. ``config.json`` lists every file with its SHA-256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.special import expit
from torch import nn

from bids_interp.bids.prediction import ExplainedTarget, Membership
from bids_interp.errors import ModelError, UsageError
from bids_interp.models.bundle.contents import IMAGES, sha256_of, verify_bundle
from bids_interp.models.bundle.fingerprint import (
    TOLERANCE,
    salted,
    scan_sketch,
    sketch_distance,
    subject_keys,
)
from bids_interp.models.bundle.schema import CONFIG, BundleConfig, read_config
from bids_interp.models.networks.ipmi2021 import PaperSimulator
from bids_interp.models.networks.registry import build_classifier, load_network
from bids_interp.models.networks.simulator import AnySimulator, Simulator, build_simulator
from bids_interp.models.target import Target
from bids_interp.records import to_plain
from bids_interp.spatial import Grid
from bids_interp.version import __version__


@dataclass
class FoldModels:
    """The two trained networks of one fold, frozen and in evaluation mode.

    Parameters
    ----------
    classifier : torch.nn.Module
        Maps (B, 1, X, Y, Z) to outputs (B, K), see :class:`bids_interp.models.target.Target`.
    simulator : Simulator
        Maps an image and doses to velocities.
    temperature : float
        Divides the score before the sigmoid (calibration).
    class_gap : float
        Difference of the median scores of the two classes on subjects that the classifier was not
        trained with; 1 (a standard deviation) for a regression.
    weights : torch.Tensor
        Weights (K,) of the outputs in the score.
    contrast : int
        Index of the contrast that the score measures.
    intercept : float
        Added to the divided score before the sigmoid (calibration).
    """

    classifier: nn.Module
    simulator: AnySimulator
    temperature: float
    class_gap: float
    weights: torch.Tensor
    contrast: int = 0
    intercept: float = 0.0

    def score(self, image: torch.Tensor) -> torch.Tensor:
        """Return the score (B,) of images (B, 1, X, Y, Z), which rises with injection.

        It is the logit for two classes, the difference of two logits for several classes, and the
        standardised value for a regression.
        """
        return self.classifier(image) @ self.weights

    def probability(self, score: float) -> float:
        """Return the calibrated probability of the positive class for a score of two classes."""
        return float(expit(score / self.temperature + self.intercept))

    def field(self, image: torch.Tensor, dose: torch.Tensor) -> torch.Tensor:
        """Return the simulator's field (B, 3, X, Y, Z) for this contrast, see :func:`flow`."""
        return self.simulator(image, dose, self.contrast)


def mean_image_key(number: int) -> str:
    """Return the key of the mean image of a class in :data:`IMAGES`, by the number of the class.

    Examples
    --------
    >>> mean_image_key(0), mean_image_key(1)
    ('mean_image', 'mean_image_1')
    """
    return f'mean_image_{number}' if number else 'mean_image'


@dataclass
class ModelBundle:
    """A bundle on disk, whose networks are loaded on demand.

    Parameters
    ----------
    path : pathlib.Path
        The folder.
    config : BundleConfig
        Content of ``config.json``.
    contrast : int
        Index of the explained contrast in :attr:`Target.contrasts`.
    allow_code : bool
        Permission to import a classifier that is a Python module.
    """

    path: Path
    config: BundleConfig
    contrast: int = 0
    allow_code: bool = False
    _folds: dict[tuple[int, str], FoldModels] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.config.name

    @property
    def demonstration(self) -> bool:
        """True if the model only demonstrates the software."""
        return self.config.demonstration

    @cached_property
    def version_hash(self) -> str:
        """Short SHA-256 of the configuration, which contains the hashes of all files.

        A contrast other than the first is appended, so that results of two contrasts never mix.
        """
        digest = sha256_of(self.path / CONFIG)[:12]
        return f'{digest}-{self.contrast}' if self.contrast else digest

    @property
    def grid(self) -> Grid:
        """Grid of the classifier's input; its space is the template's name."""
        return self.config.grid

    @property
    def template(self) -> str:
        """Name of the template to which brains are registered."""
        return self.config.template

    @property
    def contrast_name(self) -> str:
        """Name of the explained contrast."""
        return self.full_target.contrasts[self.contrast].name

    @property
    def field_kind(self) -> str:
        """Output of the simulators: ``'velocity'`` or ``'displacement'``."""
        is_paper = self.config.simulator.capacity == 'ipmi2021'
        return (PaperSimulator if is_paper else Simulator).field

    @property
    def full_target(self) -> Target:
        """Predicted target with all classes and contrasts."""
        return self.config.target

    @property
    def target(self) -> ExplainedTarget:
        """Explained target with the two sides of the contrast."""
        target = self.full_target
        chosen = target.contrasts[self.contrast]
        is_number = target.kind == 'regression'
        return ExplainedTarget(
            kind=target.kind,
            label=target.label,
            classes=target.classes if target.kind == 'multiclass' else None,
            mean=target.mean if is_number else None,
            sd=target.sd if is_number else None,
            negative=chosen.negative,
            positive=chosen.positive,
        )

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.config.folds)

    def explains(self, index: int) -> bool:
        """Return False if the simulator of a fold was not trained for this contrast."""
        measured = self.config.folds[index].metrics.simulator
        return measured is None or measured.explains(self.contrast_name)

    @property
    def warranted(self) -> bool:
        """True if the out-of-fold performance is above chance, which warrants explanations."""
        return self.config.warranted

    @cached_property
    def images(self) -> dict[str, torch.Tensor]:
        """Brain mask and mean images (X, Y, Z) on the grid of the model, by name."""
        return load_file(self.path / IMAGES)

    @cached_property
    def brain_mask(self) -> np.ndarray:
        """The model's brain mask on its grid, (X, Y, Z) bool."""
        return self.images['brain_mask'].numpy().astype(bool)

    @cached_property
    def _mean_class(self) -> int:
        """Number of the class of the mean image."""
        target = self.full_target
        if target.kind == 'regression':
            return 0
        number = target.classes.index(target.contrasts[self.contrast].negative)
        # Older bundles with several classes have only the mean image of the first one.
        return number if mean_image_key(number) in self.images else 0

    @cached_property
    def mean_image(self) -> torch.Tensor:
        """Mean input, (1, 1, X, Y, Z), used as reference by some saliency methods.

        :attr:`mean_image_name` names its images, normally the negative class of the contrast.
        """
        return self.images[mean_image_key(self._mean_class)].float()[None, None]

    @property
    def mean_image_name(self) -> str:
        """Description of the mean image for reports."""
        if self.full_target.kind == 'regression':
            return 'mean image of all training images'
        return f'mean image of the class {self.full_target.classes[self._mean_class]}'

    def fold(self, index: int, device: str = 'cpu') -> FoldModels:
        """Return the networks of a fold on a device.

        Raises
        ------
        ModelError
            If they cannot be made as the configuration describes them.
        UsageError
            If the classifier is code, and running it is not permitted.
        """
        key = (index, device)
        if key not in self._folds:
            try:
                self._folds[key] = self._load_fold(index, device)
            except (ModelError, UsageError) as error:
                if str(self.path) in error.message:
                    raise
                message = f'{self.path / CONFIG}: {error.message}'
                raise type(error)(message, error.advice) from error
        return self._folds[key]

    @property
    def _networks(self) -> str:
        """What the weights are loaded into, for messages."""
        made = self.config.version
        return f'the networks of bids_interp {__version__} (the model was made by {made})'

    def _load_fold(self, index: int, device: str) -> FoldModels:
        entry = self.config.folds[index]
        classifier = self._load_classifier(self.path / entry.classifier, device)
        simulator = load_network(
            partial(build_simulator, self.grid, self.brain_mask, to_plain(self.config.simulator)),
            self.path / entry.simulator,
            self._networks,
        )
        simulator.to(device).eval().requires_grad_(False)
        weights = self.full_target.weights(device)[self.contrast]
        return FoldModels(
            classifier,
            simulator,
            _of_contrast(entry.temperature, self.contrast),
            _of_contrast(entry.class_gap, self.contrast),
            weights,
            self.contrast,
            float(np.dot(weights.tolist(), np.broadcast_to(entry.intercept or 0.0, len(weights)))),
        )

    def _load_classifier(self, path: Path, device: str) -> nn.Module:
        described = self.config.classifier
        if described.external is not None and described.card is not None:
            from bids_interp.models.external.loader import ExternalSource, load_external

            source = ExternalSource(**{'location': str(path), **to_plain(described.external)})
            network = load_external(source, described.card, self.allow_code)
            if not all(bool(torch.isfinite(one).all()) for one in network.state_dict().values()):
                raise ModelError(f'{path} contains NaN or infinity.')
            return network.to(device)
        arguments = {'shape': self.grid.shape, **(described.arguments or {})}
        build = partial(build_classifier, str(described.architecture), **arguments)
        built = load_network(build, path, self._networks)
        return built.to(device).eval().requires_grad_(False)

    def sketch(self, image: torch.Tensor) -> str:
        """Return the sketch of a classifier input (1, 1, X, Y, Z)."""
        mean = self.images[mean_image_key(0)].float().numpy()
        return scan_sketch(image[0, 0].numpy(force=True), mean, self.brain_mask)

    def membership(
        self, image: torch.Tensor, fingerprint: str, dataset_key: str, participant: str
    ) -> Membership:
        """Return the folds that may explain a subject.

        A subject that no fold was trained with is explained by the folds that have a trained
        simulator, if there are any.

        Parameters
        ----------
        image : torch.Tensor
            Classifier input (1, 1, X, Y, Z), by whose likeness training scans are recognised.
        fingerprint : str
            Result of :func:`bids_interp.models.bundle.fingerprint.image_fingerprint`.
        dataset_key : str
            DOI or name of the dataset.
        participant : str
            Label without ``sub-``.
        """
        sketch = self.sketch(image) if self.config.training_scans else ''
        found = [
            set(scan.folds)
            for scan in self.config.training_scans or ()
            if sketch_distance(sketch, scan.sketch) <= TOLERANCE
        ]
        digests = self._legacy_digests(fingerprint, dataset_key, participant)
        listed = self.config.subjects or {}
        found += [set(listed[digest]) for digest in digests if digest in listed]
        if found:
            return Membership(True, tuple(sorted(set.intersection(*found))))
        # Training subjects of a given classifier, from its card; no simulator was trained on them.
        card = self.config.classifier.card
        is_listed = card is not None and f'{dataset_key}/{participant}' in card.training_subjects
        is_listed |= not set(digests).isdisjoint(self.config.classifier_subjects or ())
        everyone = tuple(range(self.n_folds))
        folds = tuple(filter(self.explains, everyone)) or everyone
        return Membership(is_listed, folds, held_out=not is_listed)

    def _legacy_digests(self, fingerprint: str, dataset_key: str, participant: str) -> list[str]:
        """Return the salted identities of a subject, for a bundle of version 0.1.0."""
        if self.config.salt is None:
            return []
        keys = subject_keys(fingerprint, dataset_key, participant)
        return [salted(self.config.salt, key) for key in keys]


def _of_contrast(value: float | Sequence[float], contrast: int) -> float:
    return float(value[contrast] if isinstance(value, Sequence) else value)


def default_bundle_path() -> Path:
    """Return the folder of the packaged demonstration model."""
    return Path(str(files('bids_interp'))) / 'data' / 'demo_model'


def load_bundle(
    path: Path | str, contrast: str | None = None, *, allow_code: bool = False
) -> ModelBundle:
    """Open a bundle and check its contents, see :func:`verify_bundle`.

    Parameters
    ----------
    path : path-like
        The folder.
    contrast : str, optional
        Name of the contrast to explain; the first one by default.
    allow_code : bool
        Permission to import a classifier that is a Python module.

    Raises
    ------
    ModelError
        If the bundle is missing or damaged, or has another format or grid.
    """
    path = Path(path)
    config = read_config(path)
    problems = verify_bundle(path)
    if problems:
        raise ModelError(' '.join(problems))
    bundle = ModelBundle(path, config, allow_code=allow_code)
    bundle.contrast = bundle.full_target.index_of(contrast)
    for name, image in bundle.images.items():
        if tuple(image.shape) != bundle.grid.shape:
            raise ModelError(
                f'{path / IMAGES} has the grid {tuple(image.shape)} ({name}), '
                f'but {CONFIG} has {bundle.grid.shape}.'
            )
    return bundle
