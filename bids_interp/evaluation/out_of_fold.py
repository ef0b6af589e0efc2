"""Out-of-fold predictions, and statistics that are computed within folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bids_interp.errors import TrainingError

KINDS = ('binary', 'multiclass', 'regression')


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of the models of each fold for its test images.

    Parameters
    ----------
    kind : str
        ``'binary'``, ``'multiclass'`` or ``'regression'``.
    classes : tuple of str
        Names of the C classes; binary: (negative, positive); regression: empty.
    truth : numpy.ndarray
        (N,) class indices, or values in units of the target.
    outputs : numpy.ndarray
        (N, K) logits, K = 1 for binary; regression: (N, 1) predicted values in units of the target.
    probabilities : numpy.ndarray
        (N, C) calibrated probabilities, (N, 0) for regression.
    folds : numpy.ndarray
        (N,) index of the fold that made the prediction.
    families : numpy.ndarray
        (N,) units that are independent of each other.
    sites : numpy.ndarray, optional
        (N,) names of sites or scanners.
    participants : numpy.ndarray, optional
        (N,) participants [default: one per image].

    Raises
    ------
    TrainingError
        If the shapes are inconsistent or a number is not finite.
    """

    kind: str
    classes: tuple[str, ...]
    truth: np.ndarray
    outputs: np.ndarray
    probabilities: np.ndarray
    folds: np.ndarray
    families: np.ndarray
    sites: np.ndarray | None = None
    participants: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TrainingError(f'A target is one of {", ".join(KINDS)}, not {self.kind!r}.')
        count, classes = len(self.truth), len(self.classes)
        columns = classes if self.kind == 'multiclass' else 1
        expected = {
            'outputs': (count, columns),
            'probabilities': (count, 0 if self.kind == 'regression' else classes),
            'folds': (count,),
            'families': (count,),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise TrainingError(f'The out-of-fold {name} have shape {found}, not {shape}.')
        for name in ('sites', 'participants'):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                raise TrainingError(f'There are {len(given)} {name} for {count} images.')
        finite = np.isfinite(self.outputs).all(axis=1) & np.isfinite(self.truth)
        finite &= np.isfinite(self.probabilities).all(axis=1)
        if not finite.all():
            raise TrainingError(
                f'The classifier returned no finite number for {int((~finite).sum())} of {count} '
                'images.',
                'Check these images and the learning rate.',
            )


def class_scores(outputs: np.ndarray) -> np.ndarray:
    """Score of each class, (N, C) from logits (N, C).

    The score is the log-odds of the class against the rest, which do not saturate like
    probabilities.

    >>> class_scores(np.array([[0.0, 0.0, np.log(2.0)]])).round(3)
    array([[-1.099, -1.099,  0.   ]])
    """
    columns = range(outputs.shape[1])
    rest = [np.logaddexp.reduce(np.delete(outputs, column, axis=1), axis=1) for column in columns]
    return np.stack([outputs[:, column] - rest[column] for column in columns], axis=1)


def within_fold_auc(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Area under the ROC over the pairs of images of one fold.

    Pairs across folds are not counted. Logits of different folds come from different networks with
    different scales, and a class that is rare in a fold is frequent in its training set. The
    value is the mean of the areas of the folds, weighted by their numbers of pairs.

    Parameters
    ----------
    scores : numpy.ndarray
        (N,) higher for the positive class.
    labels : numpy.ndarray
        (..., N) 0 or 1; one area for each leading index.
    folds : numpy.ndarray
        (N,) integers.

    Returns
    -------
    numpy.ndarray
        (...,) areas.

    Raises
    ------
    ValueError
        If no fold has both classes.
    """
    labels = np.asarray(labels)
    concordant = np.zeros(labels.shape[:-1])
    pairs = np.zeros(labels.shape[:-1])
    for fold in np.unique(folds):
        inside = folds == fold
        ranks, members = rankdata(scores[inside]), labels[..., inside]
        positive = members.sum(axis=-1)
        concordant += members @ ranks - positive * (positive + 1) / 2
        pairs += positive * (inside.sum() - positive)
    if not np.all(pairs > 0):
        raise ValueError('The area under the curve needs a fold with both classes.')
    return concordant / pairs


def within_fold_correlation(
    predicted: np.ndarray, truth: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """Pearson's r after subtraction of the fold means.

    Without the subtraction, the correlation of uninformative predictions would be negative, because
    the mean of a training set is low if that of its test fold is high.

    Parameters
    ----------
    predicted : numpy.ndarray
        (N,) predictions.
    truth : numpy.ndarray
        (..., N) values; one correlation for each leading index.
    folds : numpy.ndarray
        (N,) integers.

    Returns
    -------
    numpy.ndarray
        (...,) correlations; 0 if one side is constant within the folds.
    """
    a, b = np.array(predicted, dtype=float), np.array(truth, dtype=float)
    for fold in np.unique(folds):
        inside = folds == fold
        a[inside] -= a[inside].mean()
        b[..., inside] -= b[..., inside].mean(axis=-1, keepdims=True)
    scale = np.sqrt((a * a).sum() * (b * b).sum(axis=-1))
    # Below this floor, the variation of constants is due to rounding.
    floor = 1e-12 * np.abs(predicted).max() * np.abs(truth).max() * a.size
    safe = np.where(scale > floor, scale, 1.0)
    return np.where(scale > floor, (b @ a) / safe, 0.0)


def out_of_fold_rows(
    oof: OutOfFold, identifiers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Make the rows of the table of out-of-fold predictions.

    Parameters
    ----------
    oof : OutOfFold
        N predictions.
    identifiers : sequence of mapping
        First cells of the N rows, such as ``participant_id`` and ``session_id``.

    Returns
    -------
    list of dict
        The identifiers, ``fold``, ``site`` (if there are sites), ``truth``, ``predicted`` and
        binary: ``logit`` and ``probability`` of the positive class; multi-class:
        ``logit_<class>`` and ``probability_<class>``; regression: ``residual``.
    """
    rows = []
    for index, names in enumerate(identifiers):
        row = {**names, 'fold': int(oof.folds[index])}
        if oof.sites is not None:
            row['site'] = str(oof.sites[index])
        output, chances = oof.outputs[index], oof.probabilities[index]
        if oof.kind == 'regression':
            row |= {'truth': float(oof.truth[index]), 'predicted': float(output[0])}
            row['residual'] = row['predicted'] - row['truth']
        else:
            row['truth'] = oof.classes[int(oof.truth[index])]
            row['predicted'] = oof.classes[int(predicted_classes(chances[None])[0])]
        if oof.kind == 'binary':
            row |= {'logit': float(output[0]), 'probability': float(chances[1])}
        elif oof.kind == 'multiclass':
            for name, logit, chance in zip(oof.classes, output, chances, strict=True):
                row |= {f'logit_{name}': float(logit), f'probability_{name}': float(chance)}
        rows.append(row)
    return rows


def predicted_classes(probabilities: np.ndarray) -> np.ndarray:
    """Most probable class, (N,) from (N, C); ties go to the last class, so that 0.5 is positive.

    >>> predicted_classes(np.array([[0.5, 0.5], [0.6, 0.4]]))
    array([1, 0])
    """
    last = probabilities.shape[1] - 1
    return np.asarray(last - probabilities[:, ::-1].argmax(axis=1))
