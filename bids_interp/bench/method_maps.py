"""Maps of several methods for the same images, as they are handed from step to step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

#: What a map holds: log-Jacobians; numbers whose sign means growth or shrinkage; or numbers of
#: which only the size counts.
LOG_JACOBIAN, SIGNED, SIZE = 'log-jacobian', 'signed', 'size'
#: Networks that maps explain: the classifier under test, and the one of another family.
OURS, JUDGE = 'ours', 'sfcn'

#: What is no array in a file of maps.
_FACTS = ('fold', 'kinds', 'classifiers', 'skipped', 'replaced')


@dataclass(frozen=True)
class MethodMaps:
    """What one method says about some images.

    Parameters
    ----------
    kind : {'log-jacobian', 'signed', 'size'}
        What the values mean.
    images : numpy.ndarray
        (N,) indices of the images in their cohort.
    folds : numpy.ndarray
        (N,) the fold that explained each.
    values : numpy.ndarray
        (N, V) float32 values of the voxels inside the brain mask.
    classifier : str
        Network that the maps explain; empty for methods that need none.
    """

    kind: str
    images: np.ndarray
    folds: np.ndarray
    values: np.ndarray
    classifier: str = ''

    @property
    def signed(self) -> bool:
        """Whether positive means growth by the simulation."""
        return self.kind != SIZE


@dataclass(frozen=True)
class FoldMaps:
    """What several methods say about the same images of one fold.

    Parameters
    ----------
    fold : int
        Number of the fold.
    images : numpy.ndarray
        (N,) indices in the cohort.
    values : dict of numpy.ndarray
        Method to (N, V) float32.
    kinds : dict of str
        Method to what its values mean; only their size where it is not named.
    classifiers : dict of str
        Method to the network that it explains; methods that need none are not named.
    skipped : dict of str
        Method to the reason why there is no map of it.
    replaced : dict of str
        Method to the reason why it explains :data:`JUDGE` instead of :data:`OURS`.
    """

    fold: int
    images: np.ndarray
    values: dict[str, np.ndarray]
    kinds: dict[str, str] = field(default_factory=dict)
    classifiers: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to a ``.safetensors`` file."""
        facts = {name: getattr(self, name) for name in _FACTS}
        tensors = {f'map.{name}': np.ascontiguousarray(v) for name, v in self.values.items()}
        kept = {**tensors, 'images': np.asarray(self.images, np.int64)}
        save_file(kept, path, metadata={'facts': json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> FoldMaps:
        """Read what :meth:`save` wrote."""
        with safe_open(path, framework='numpy') as stream:
            facts = json.loads(stream.metadata()['facts'])
            names = [name for name in stream.keys() if name.startswith('map.')]  # noqa: SIM118
            values = {name.removeprefix('map.'): stream.get_tensor(name) for name in names}
            images = stream.get_tensor('images')
        return cls(images=images, values=values, **facts)


def join_folds(parts: Sequence[FoldMaps]) -> dict[str, MethodMaps]:
    """Put the folds of every method together.

    A method that was skipped in one fold is left out, because it would be scored on fewer brains;
    so is one that explains another network in one fold than in the others.

    Parameters
    ----------
    parts : sequence of FoldMaps
        All methods and folds, in any order.

    Returns
    -------
    dict of MethodMaps
        By method.
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
            *explained,
        )
    return joined
