"""Contents of a model bundle: which files it has, and whether each can be trusted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open

from bids_interp.models.bundle.schema import CONFIG, BundleConfig, FoldConfig, read_config
from bids_interp.models.target import Target

#: File of the brain mask and the mean images.
IMAGES = 'context.safetensors'
CARD = 'README.md'
WEIGHTS = '.safetensors'
#: Longest name of a file in bytes.
MAX_NAME = 255
#: Types of numbers in the files of a bundle.
NUMBERS = {
    *(torch.float16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def is_plain_name(name: str) -> bool:
    """Tell whether a file name stays in the folder of the bundle.

    Examples
    --------
    >>> is_plain_name('fold-0_classifier.safetensors'), is_plain_name('../x'), is_plain_name('')
    (True, False, False)
    """
    plain = name == PurePosixPath(name).name and not name.startswith('.')
    is_short = len(name.encode()) <= MAX_NAME and name.isprintable()
    return plain and is_short and name not in ('', CONFIG) and not set(name) & set('\\:')


def needed_files(config: BundleConfig) -> list[str]:
    """Return the names of the files without which a model cannot be used."""
    named = [name for fold in config.folds for name in (fold.classifier, fold.simulator)]
    # A classifier that is code has no file.
    return list(dict.fromkeys([IMAGES, *filter(None, named)]))


def verify_bundle(path: Path | str) -> list[str]:
    """Return the problems with the files of a bundle; none if it is intact.

    Raises
    ------
    ModelError
        If the configuration cannot be read.
    """
    path = Path(path)
    config = read_config(path)
    return [*_problems_of_config(path / CONFIG, config), *_problems_of_files(path, config)]


def _problems_of_config(file: Path, config: BundleConfig) -> Iterator[str]:
    for name in needed_files(config):
        if name not in config.files:
            yield f'{file}: files has no SHA-256 of {name!r}.'
    if not config.folds:
        yield f'{file}: folds is empty.'
    for index, fold in enumerate(config.folds):
        problems = _problems_of_fold(fold, config.target)
        yield from (f'{file}: folds[{index}].{what}.' for what in problems)
    named = {
        'training_scans': [scan.folds for scan in config.training_scans or ()],
        'subjects': (config.subjects or {}).values(),
    }
    for key, folds in named.items():
        strangers = {number for numbers in folds for number in numbers}
        for number in sorted(strangers - set(range(len(config.folds)))):
            yield f'{file}: {key} names the fold {number}, which does not exist.'


def _problems_of_fold(fold: FoldConfig, target: Target) -> Iterator[str]:
    counts = {
        'temperature': (fold.temperature, len(target.contrasts)),
        'class_gap': (fold.class_gap, len(target.contrasts)),
        'intercept': (fold.intercept or 0.0, target.n_outputs),
    }
    for name, (value, count) in counts.items():
        values = value if isinstance(value, Sequence) else [value]
        if isinstance(value, Sequence) and len(values) != count:
            yield f'{name} has {len(values)} values, not {count}'
        elif not all(math.isfinite(one) for one in values):
            yield f'{name} is not finite'
        elif name == 'temperature' and min(values) <= 0:
            yield 'temperature is not positive'


def _problems_of_files(path: Path, config: BundleConfig) -> Iterator[str]:
    for name, digest in config.files.items():
        file = path / name
        if not is_plain_name(name):
            yield f'{path / CONFIG}: {name!r} is not a valid file name in a bundle.'
        elif not file.is_file():
            yield f'{file} is missing.'
        elif sha256_of(file) != digest:
            yield f'{file} is damaged or was changed: its SHA-256 differs from the record.'
        elif file.suffix == WEIGHTS:
            yield from _problems_of_weights(file)


def _problems_of_weights(file: Path) -> Iterator[str]:
    """Yield what is wrong with the numbers in a file; each tensor is read on its own."""
    try:
        with safe_open(file, framework='pt') as stream:
            for name in stream.keys():  # noqa: SIM118 - it is not a mapping
                values = stream.get_tensor(name)
                if values.dtype not in NUMBERS:
                    yield f'{file} contains numbers of the type {values.dtype} ({name}).'
                    return
                if not torch.isfinite(values).all():
                    yield f'{file} contains NaN or infinity ({name}).'
                    return
            absent = {'brain_mask', 'mean_image'} - set(stream.keys())
    except (SafetensorError, OSError) as error:
        yield f'{file} cannot be read: {error}.'
        return
    if file.name == IMAGES and absent:
        yield f'{file} has no {" and no ".join(sorted(absent))}.'
