"""What a classifier was trained for, and what "more of it" means for its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from bids_interp.errors import ModelError

KINDS = ('binary', 'multiclass', 'regression')


@dataclass(frozen=True)
class Contrast:
    """One question to a classifier: from which class to which, or lower to higher.

    Parameters
    ----------
    name : str
        ``'<negative>-<positive>'``.
    negative, positive : str
        Where removing and injecting lead.
    weights : tuple of float
        The score is the sum of weights times outputs: the logit of a binary classifier, a
        difference of two logits, or a standardised value. Exchanging the classes changes its sign.
    """

    name: str
    negative: str
    positive: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Parameters
    ----------
    kind : {'binary', 'multiclass', 'regression'}
        Two classes and one logit; several classes and a logit for each; or one number.
    label : str
        Column of the labels.
    classes : tuple of str
        ``(negative, positive)``, or all classes in the order of the outputs; none for a regression.
    mean, sd : float
        Of the training subjects' values; a regression's output is ``(value - mean) / sd``.
    """

    kind: str
    label: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        fits = {
            'binary': len(self.classes) == 2,
            'multiclass': len(self.classes) > 2,
            'regression': not self.classes and self.sd > 0,
        }
        if not fits.get(self.kind, False):
            raise ModelError(
                f'A target of the kind {self.kind!r} cannot have the classes {self.classes} and '
                f'the standard deviation {self.sd}.'
            )

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a classifier for it."""
        return len(self.classes) if self.kind == 'multiclass' else 1

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All questions that can be asked; each unordered pair of classes once.

        Examples
        --------
        >>> [c.name for c in Target('multiclass', 'dx', ('CN', 'MCI', 'AD')).contrasts]
        ['CN-MCI', 'CN-AD', 'MCI-AD']
        """
        if self.kind == 'regression':
            return (Contrast('lower-higher', 'lower', 'higher', (1.0,)),)
        if self.kind == 'binary':
            negative, positive = self.classes
            return (Contrast(f'{negative}-{positive}', negative, positive, (1.0,)),)
        pairs = []
        for first, second in combinations(range(len(self.classes)), 2):
            weights = [0.0] * len(self.classes)
            weights[first], weights[second] = -1.0, 1.0
            names = self.classes[first], self.classes[second]
            pairs.append(Contrast('-'.join(names), *names, tuple(weights)))
        return tuple(pairs)

    def weights(self, device: torch.device | str = 'cpu') -> torch.Tensor:
        """(contrasts, outputs) weights of the scores."""
        return torch.tensor([contrast.weights for contrast in self.contrasts], device=device)

    def index_of(self, name: str | None) -> int:
        """Number of a contrast by its name; the first without one.

        Raises
        ------
        ModelError
            If there is no such contrast.
        """
        names = [contrast.name for contrast in self.contrasts]
        if name is None:
            return 0
        if name in names:
            return names.index(name)
        raise ModelError(
            f'The model has no contrast {name!r}.', f'It has {", ".join(names)}; see --contrast.'
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types for ``config.json``."""
        content: dict[str, Any] = {'kind': self.kind, 'label': self.label}
        if self.kind == 'regression':
            return {**content, 'mean': self.mean, 'sd': self.sd}
        if self.kind == 'binary':
            return {**content, 'negative': self.classes[0], 'positive': self.classes[1]}
        return {**content, 'classes': list(self.classes)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Target:
        """Read what :meth:`to_dict` gave."""
        kind = content.get('kind', 'binary')
        classes: tuple[str, ...] = tuple(content.get('classes', ()))
        if kind == 'binary':
            classes = (content['negative'], content['positive'])
        return cls(
            kind,
            content.get('label', ''),
            classes,
            float(content.get('mean', 0.0)),
            float(content.get('sd', 1.0)),
        )
