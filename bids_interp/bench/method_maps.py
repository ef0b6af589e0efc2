"""Method maps: maps of several methods for the same images, as passed between nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

#: Kinds of maps: log-Jacobians; values whose sign means growth or shrinkage; values with a
#: meaningful size only.
LOG_JACOBIAN, SIGNED, SIZE = 'log-jacobian', 'signed', 'size'
#: Our method, and the classifier that it and the saliency methods explain.
OURS = 'ours'

#: Fields of FoldMaps that are not arrays.
_FIELDS = ('fold', 'kinds', 'classifiers', 'skipped')


@dataclass(frozen=True)
class MethodMaps:
    """Maps of one method for some images.

    Parameters
    ----------
    kind : {'log-jacobian', 'signed', 'size'}
        Meaning of the values.
    images : numpy.ndarray
        (N,) indices of the images in the cohort.
    folds : numpy.ndarray
        (N,) fold that explained each image.
    values : numpy.ndarray
        (N, V) float32 values inside the brain mask.
    classifier : str
        Explained network; empty for methods without one.
    refits : dict of numpy.ndarray
        (B, V) maps of injecting the pattern by fold, each fitted to another draw of its training
        brains; empty for methods that are not fitted again.
    """

    kind: str
    images: np.ndarray
    folds: np.ndarray
    values: np.ndarray
    classifier: str = ''
    refits: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """True if positive values mean growth in the simulation."""
        return self.kind != SIZE


@dataclass(frozen=True)
class FoldMaps:
    """Maps of several methods for the same images of one fold.

    Parameters
    ----------
    fold : int
        Number of the fold.
    images : numpy.ndarray
        (N,) indices in the cohort.
    values : dict of numpy.ndarray
        Maps (N, V) float32 by method.
    kinds : dict of str
        Kind of the maps by method; by default only their size is meaningful.
    classifiers : dict of str
        Explained network by method, except for methods without one.
    skipped : dict of str
        Reason by method for missing maps.
    refits : dict of numpy.ndarray
        (B, V) float32 maps by method of injecting the pattern, fitted to draws of training brains.
    """

    fold: int
    images: np.ndarray
    values: dict[str, np.ndarray]
    kinds: dict[str, str] = field(default_factory=dict)
    classifiers: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refits: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to a ``.safetensors`` file."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        tensors = {
            f'{prefix}.{name}': np.ascontiguousarray(values)
            for prefix, maps in (('map', self.values), ('refit', self.refits))
            for name, values in maps.items()
        }
        kept = {**tensors, 'images': np.asarray(self.images, np.int64)}
        save_file(kept, path, metadata={'fields': json.dumps(fields)})

    @classmethod
    def load(cls, path: Path) -> FoldMaps:
        """Read what :meth:`save` wrote."""
        with safe_open(path, framework='numpy') as stream:
            fields = json.loads(stream.metadata()['fields'])
            names = list(stream.keys())
            values, refits = (
                {
                    name.removeprefix(f'{prefix}.'): stream.get_tensor(name)
                    for name in names
                    if name.startswith(f'{prefix}.')
                }
                for prefix in ('map', 'refit')
            )
            images = stream.get_tensor('images')
        return cls(images=images, values=values, refits=refits, **fields)


def join_folds(parts: Sequence[FoldMaps]) -> dict[str, MethodMaps]:
    """Concatenate the folds of every method.

    A method that was skipped in one fold is removed, because it would be scored on fewer brains.
    So is a method that does not explain the same network in all folds.

    Parameters
    ----------
    parts : sequence of FoldMaps
        Maps of all methods and folds, in any order.

    Returns
    -------
    dict of MethodMaps
        Maps by method.
    """
    n_folds = len({part.fold for part in parts})
    joined = {}
    for method in dict.fromkeys(name for part in parts for name in part.values):
        own = [part for part in parts if method in part.values]
        explained = {part.classifiers.get(method, '') for part in own}
        if len(own) < n_folds or len(explained) > 1:
            continue
        joined[method] = MethodMaps(
            own[0].kinds.get(method, SIZE),
            np.concatenate([part.images for part in own]),
            np.concatenate([np.full(len(part.images), part.fold) for part in own]),
            np.concatenate([part.values[method] for part in own]),
            explained.pop(),
            {part.fold: part.refits[method] for part in own if method in part.refits},
        )
    return joined
