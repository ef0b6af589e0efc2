"""Target of a classifier, and the contrasts between its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from bids_interp.errors import ModelError

KINDS = ('binary', 'multiclass', 'regression')


@dataclass(frozen=True)
class Contrast:
    """A question to a classifier: from one class to another, or from lower to higher values.

    Parameters
    ----------
    name : str
        ``'<negative>-<positive>'``.
    negative, positive : str
        Results of removing and of injecting the pattern.
    weights : tuple of float
        Weights of the outputs in the score: the logit of a binary classifier, a difference of two
        logits, or a standardised value. Exchanging the classes changes the sign of the score.
    """

    name: str
    negative: str
    positive: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """Predicted quantity.

    Parameters
    ----------
    kind : {'binary', 'multiclass', 'regression'}
        Two classes and one logit; several classes and a logit for each; or one number.
    label : str
        Column of the labels.
    classes : tuple of str
        ``(negative, positive)``, or all classes in the order of the outputs; empty for a
        regression.
    mean, sd : float
        Mean and standard deviation of the training subjects' values; the output of a regression is
        ``(value - mean) / sd``.
    """

    kind: str
    label: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        if not all(isinstance(name, str) for name in (self.label, *self.classes)):
            raise ModelError('The label and the classes of a target must be texts.')
        if len(set(self.classes)) < len(self.classes):
            raise ModelError(f'A target cannot have a class twice ({self.classes}).')
        fits = {
            'binary': len(self.classes) == 2,
            'multiclass': len(self.classes) > 2,
            'regression': not self.classes and self.sd > 0,
        }
        if not fits.get(self.kind, False):
            raise ModelError(
                f'A {self.kind!r} target cannot have the classes {self.classes} and the standard '
                f'deviation {self.sd}.'
            )

    @property
    def n_outputs(self) -> int:
        """Number of outputs of the classifier."""
        return len(self.classes) if self.kind == 'multiclass' else 1

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All contrasts; each unordered pair of classes once.

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
        """Return the weights of the scores, (contrasts, outputs)."""
        return torch.tensor([contrast.weights for contrast in self.contrasts], device=device)

    def index_of(self, name: str | None) -> int:
        """Return the index of a contrast by its name; 0 if no name is given.

        Raises
        ------
        ModelError
            If the contrast does not exist.
        """
        names = [contrast.name for contrast in self.contrasts]
        if name is None:
            return 0
        if name in names:
            return names.index(name)
        raise ModelError(
            f'The model has no contrast {name!r}.', f'Choose --contrast from {", ".join(names)}.'
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for ``config.json``."""
        content: dict[str, Any] = {'kind': self.kind, 'label': self.label}
        if self.kind == 'regression':
            return {**content, 'mean': self.mean, 'sd': self.sd}
        if self.kind == 'binary':
            return {**content, 'negative': self.classes[0], 'positive': self.classes[1]}
        return {**content, 'classes': list(self.classes)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Target:
        """Return the target described by :meth:`to_dict`."""
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
