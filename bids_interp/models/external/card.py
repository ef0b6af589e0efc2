"""Card of an external classifier: input, output, target and training subjects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.errors import ModelError
from bids_interp.models.preprocessing import NORMALISATIONS, Preprocessing
from bids_interp.models.target import Target
from bids_interp.records import RecordError, from_plain, parse_json, to_plain
from bids_interp.spatial import Grid

#: Kind of target for each kind of output.
OUTPUTS = {
    'logit': 'binary',
    'probability': 'binary',
    'multiclass': 'multiclass',
    'regression': 'regression',
}
_CLASSES = {
    'binary': lambda count: count == 2,
    'multiclass': lambda count: count >= 2,
    'regression': lambda count: count == 0,
}
_CLASS_RULE = (
    'a logit or probability needs two classes, [negative, positive]; a multiclass output needs all '
    'classes in its order; a regression must have none'
)
REQUIRED = ('name', 'output', 'input_shape', 'template', 'preprocessing', 'label')
OPTIONAL = (
    'affine',
    'architecture',
    'arguments',
    'axis_order',
    'classes',
    'golden',
    'golden_scan',
    'orientation',
    'origin',
    'skull',
    'softmaxed',
    'target_mean',
    'target_sd',
    'training_subjects',
    'voxel_size',
)
#: Largest number of voxels of an input: a cube of 512.
MAX_VOXELS = 2**27
#: Largest number; those beyond float32 become infinite in the network.
MAX_NUMBER = 3e38
#: Keys that are not taken over as they are.
_PARSED = ('preprocessing', 'classes', 'golden_scan')
ADVICE = 'The page "Your own classifier" of the documentation lists all keys of a card.'


@dataclass(frozen=True)
class GoldenScan:
    """A scan and the output of the network for it, recorded in its training environment.

    Parameters
    ----------
    file : str
        NIfTI image, relative to the card: a T1w scan of a head, or a skull-stripped brain.
    output : sequence of float
        Outputs of the network itself, one per class for a ``multiclass`` output.
    tolerance : float
        Largest accepted difference, which must allow for another brain mask and registration.
    """

    file: str
    output: Sequence[float]
    tolerance: float


@dataclass(frozen=True)
class ClassifierCard:
    """Description of an external classifier.

    Parameters
    ----------
    name : str
        Name of the model.
    output : {'logit', 'probability', 'multiclass', 'regression'}
        One logit; one probability of the positive class; one number per class; one number.
    grid : Grid
        Grid of the input; its space is the template's name.
    preprocessing : Preprocessing
        Intensity normalisation of the training images.
    label : str
        Predicted column.
    classes : tuple of str
        (negative, positive); all classes in the order of the outputs; empty for a regression.
    target_mean, target_sd : float
        Mean and standard deviation that standardise the output of a regression.
    training_subjects : tuple of str
        Training subjects as ``dataset/participant``, to recognise them later.
    axis_order : str
        Order in which the network expects the axes of the grid; ``'ZYX'`` for SimpleITK arrays.
    softmaxed : bool
        The outputs of a ``multiclass`` network are probabilities.
    architecture : str
        Name in the registry, for weights in a ``.safetensors`` file.
    arguments : dict
        Arguments of the architecture.
    golden : str
        File with ``input`` and ``output`` of the network, relative to the card.
    golden_scan : GoldenScan, optional
        Scan with the output of the network.
    """

    name: str
    output: str
    grid: Grid
    preprocessing: Preprocessing
    label: str
    classes: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_sd: float = 1.0
    training_subjects: tuple[str, ...] = ()
    axis_order: str = 'XYZ'
    softmaxed: bool = False
    architecture: str = ''
    arguments: dict[str, Any] = field(default_factory=dict)
    golden: str = ''
    golden_scan: GoldenScan | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise _problem('output', f'{self.output!r} is not supported', self.output, OUTPUTS)
        if sorted(self.axis_order) != ['X', 'Y', 'Z']:
            raise _problem('axis_order', f'{self.axis_order!r} is not an order of X, Y and Z')
        if self.softmaxed and self.output != 'multiclass':
            raise _problem('softmaxed', 'only for a multiclass output; otherwise use "probability"')
        if len(set(self.classes)) != len(self.classes):
            raise _problem('classes', 'a class is listed twice')
        if not _CLASSES[OUTPUTS[self.output]](len(self.classes)):
            raise _problem('classes', _CLASS_RULE)
        if not (np.isfinite(self.target_mean) and 0 < self.target_sd < np.inf):
            raise _problem('target_sd', 'a mean and a positive standard deviation are required')
        if self.golden and not _stays_below(self.golden):
            raise _problem('golden', f'{self.golden!r} is not a file beside the card')
        if self.golden_scan is not None:
            if not _stays_below(self.golden_scan.file):
                what = f'{self.golden_scan.file!r} is not a file beside the card'
                raise _problem('golden_scan.file', what)
            if len(self.golden_scan.output) != self.n_outputs:
                raise _problem('golden_scan.output', f'{self.n_outputs} number(s) are required')
        for subject in self.training_subjects:
            if '/' not in subject.strip('/'):
                raise _problem('training_subjects', f'{subject!r} is not "dataset/participant"')

    @property
    def target(self) -> Target:
        """Predicted target; a multiclass output with two classes has a binary target."""
        kind = 'binary' if len(self.classes) == 2 else OUTPUTS[self.output]
        return Target(kind, self.label, self.classes, self.target_mean, self.target_sd)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the network itself per image."""
        return len(self.classes) if self.output == 'multiclass' else 1

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """Size of the input in the order in which the network expects the axes."""
        sizes = [self.grid.shape['XYZ'.index(axis)] for axis in self.axis_order]
        return sizes[0], sizes[1], sizes[2]

    def golden_file(self, card_file: Path) -> Path | None:
        """Return the file of the golden sample, for a card read from ``card_file``."""
        return card_file.parent / self.golden if self.golden else None

    @classmethod
    def read(cls, path: Path | str) -> ClassifierCard:
        """Read a card from a JSON file.

        Raises
        ------
        ModelError
            If the file is missing or not JSON, or a key is not valid.
        """
        path = Path(path)
        try:
            plain = parse_json(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise ModelError(f'The card {path} cannot be read: {error}.', ADVICE) from error
        try:
            return cls.from_dict(plain)
        except ModelError as error:
            raise ModelError(f'{path}: {error.message}', error.advice) from error

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ClassifierCard:
        """Return the card described by :meth:`to_dict` or by a user.

        Raises
        ------
        ModelError
            If a key is missing, unknown or not valid.
        """
        if not isinstance(plain, dict):
            raise ModelError('A classifier card must be a JSON object.', ADVICE)
        for key in plain:
            if key not in REQUIRED + OPTIONAL:
                raise _problem(key, 'unknown key', key, REQUIRED + OPTIONAL)
        for key in REQUIRED:
            if key not in plain:
                raise _problem(key, 'missing key')
        for key in ('name', 'output', 'template', 'label', 'axis_order', 'architecture', 'golden'):
            if not isinstance(plain.get(key, ''), str) or plain.get(key, 'x') == '':
                raise _problem(key, 'a text is required')
        direct = {
            item.name: plain[item.name]
            for item in fields(cls)
            if item.name in plain and item.name not in _PARSED
        }
        _check_types(direct)
        direct['training_subjects'] = tuple(
            subject.replace('/sub-', '/') for subject in _texts(plain, 'training_subjects')
        )
        return cls(
            grid=_grid(plain),
            preprocessing=_preprocessing(plain['preprocessing'], plain.get('skull', False)),
            classes=_texts(plain, 'classes'),
            golden_scan=_golden_scan(plain.get('golden_scan')),
            **direct,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON without default values."""
        plain: dict[str, Any] = {
            'name': self.name,
            'output': self.output,
            'input_shape': list(self.grid.shape),
            'affine': self.grid.affine.tolist(),
            'template': self.grid.space,
            'preprocessing': self.preprocessing.to_dict(),
            'label': self.label,
        }
        if self.preprocessing.skull:
            plain['skull'] = plain['preprocessing'].pop('skull')
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in OPTIONAL and value not in ((), {}, '', item.default):
                plain[item.name] = list(value) if isinstance(value, tuple) else to_plain(value)
        return plain


def _problem(key: str, what: str, typed: str = '', valid: Iterable[str] = ()) -> ModelError:
    """Return an error about one key, with the closest valid text."""
    near = get_close_matches(str(typed), list(valid), n=1)
    advice = f'Did you mean {near[0]!r}? {ADVICE}' if near else ADVICE
    return ModelError(f'Key {key!r} of the classifier card: {what}.', advice)


def _stays_below(name: str) -> bool:
    """Return True if a path leads to a file in the folder or below."""
    path = PurePosixPath(name)
    return not path.is_absolute() and '..' not in path.parts


def _check_types(values: dict[str, Any]) -> None:
    for key in {'target_mean', 'target_sd'} & set(values):
        if type(values[key]) not in (int, float) or abs(values[key]) > MAX_NUMBER:
            raise _problem(key, 'a number is required')
    if not isinstance(values.get('softmaxed', False), bool):
        raise _problem('softmaxed', 'true or false is required')
    if not isinstance(values.get('arguments', {}), dict):
        raise _problem('arguments', 'a JSON object is required')


def _texts(plain: dict[str, Any], key: str) -> tuple[str, ...]:
    value = plain.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _problem(key, 'a list of texts is required')
    return tuple(value)


def _numbers(plain: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.array(plain[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _problem(key, 'numbers are required') from error
    if values.shape != shape or not np.isfinite(values).all():
        raise _problem(key, f'an array of {shape} finite numbers is required')
    return values


def _grid(plain: dict[str, Any]) -> Grid:
    sizes = _numbers(plain, 'input_shape', (3,))
    if (sizes < 1).any() or (sizes != np.round(sizes)).any():
        raise _problem('input_shape', 'three positive whole numbers are required')
    if sizes.prod() > MAX_VOXELS:
        raise _problem('input_shape', f'at most {MAX_VOXELS} voxels are possible')
    if ('affine' in plain) == ('origin' in plain):
        raise _problem('origin', 'either "affine", or "origin" with "voxel_size", is required')
    affine = _numbers(plain, 'affine', (4, 4)) if 'affine' in plain else _affine(plain)
    try:
        grid = Grid((int(sizes[0]), int(sizes[1]), int(sizes[2])), affine, plain['template'])
    except ValueError as error:
        raise _problem('affine', str(error).rstrip('.')) from error
    if 'affine' in plain and 'voxel_size' in plain:
        voxel = _numbers(plain, 'voxel_size', (3,))
        if not np.allclose(voxel, grid.spacing, atol=1e-3):
            raise _problem('voxel_size', f'the affine has {grid.spacing.round(4).tolist()}')
    codes = ''.join(nib.aff2axcodes(affine))
    if 'affine' in plain and plain.get('orientation', codes) != codes:
        raise _problem('orientation', f'the affine has {codes!r}')
    return grid


def _affine(plain: dict[str, Any]) -> np.ndarray:
    """Return an affine without rotation; ``origin`` is the centre of the first voxel."""
    if 'voxel_size' not in plain:
        raise _problem('voxel_size', 'missing key')
    voxel, origin = _numbers(plain, 'voxel_size', (3,)), _numbers(plain, 'origin', (3,))
    if (voxel <= 0).any():
        raise _problem('voxel_size', 'three positive numbers, in mm, are required')
    codes = str(plain.get('orientation', 'RAS'))
    pairs = ({'R', 'L'}, {'A', 'P'}, {'S', 'I'})
    if not all(len(pair & set(codes)) == 1 for pair in pairs) or len(codes) != 3:
        raise _problem('orientation', f'{codes!r} does not consist of R or L, A or P, and S or I')
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (row, flip) in enumerate(nib.orientations.axcodes2ornt(tuple(codes))):
        affine[int(row), axis] = flip * voxel[axis]
    affine[:3, 3] = origin
    return affine


def _preprocessing(plain: Any, skull: Any) -> Preprocessing:
    valid = {item.name for item in fields(Preprocessing)} - {'skull'}
    if not isinstance(plain, dict) or 'normalisation' not in plain:
        raise _problem('preprocessing', 'an object with the key "normalisation" is required')
    if not isinstance(skull, bool):
        raise _problem('skull', 'true or false is required')
    for key in plain:
        if key not in valid:
            raise _problem(f'preprocessing.{key}', 'unknown key', key, valid)
    given = plain['normalisation']
    if given not in NORMALISATIONS:
        what = f'{given!r} is not supported'
        raise _problem('preprocessing.normalisation', what, str(given), NORMALISATIONS)
    try:
        return from_plain(Preprocessing, {**plain, 'skull': skull})
    except RecordError as error:
        key = f'preprocessing.{error.key_path}'.rstrip('.')
        raise _problem(key, error.problem) from error


def _golden_scan(plain: Any) -> GoldenScan | None:
    if plain is None:
        return None
    try:
        return from_plain(GoldenScan, plain)
    except RecordError as error:
        raise _problem(f'golden_scan.{error.key_path}'.rstrip('.'), error.problem) from error
