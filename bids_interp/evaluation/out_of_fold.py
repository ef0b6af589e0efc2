"""Answers of models that have not seen the image, and what is computed within folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bids_interp.errors import TrainingError

KINDS = ('binary', 'multiclass', 'regression')


@dataclass(frozen=True)
class OutOfFold:
    """What the models of each fold said about the images that they have not seen.

    Parameters
    ----------
    kind : str
        ``'binary'``, ``'multiclass'`` or ``'regression'``.
    classes : tuple of str
        Names of the C classes; binary: (negative, positive); regression: empty.
    truth : numpy.ndarray
        (N,) index of the class, or the value in units of the target.
    outputs : numpy.ndarray
        (N, K) logits, K = 1 for binary; for regression (N, 1) the predicted value in units of
        the target.
    probabilities : numpy.ndarray
        (N, C) calibrated probabilities, (N, 0) for regression.
    folds : numpy.ndarray
        (N,) integers: the fold whose models answered.
    families : numpy.ndarray
        (N,) units that are independent of each other.
    sites : numpy.ndarray, optional
        (N,) names of sites or scanners.
    participants : numpy.ndarray, optional
        (N,) who was scanned; without it every image is of somebody else.

    Raises
    ------
    TrainingError
        If the shapes do not fit each other or a number is not finite.
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
            raise TrainingError(f'A target is one of {", ".join(KINDS)}, not “{self.kind}”.')
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
                f'The classifier did not give a number for {int((~finite).sum())} of {count} '
                'images.',
                'Check these images and the learning rate.',
            )


def class_scores(outputs: np.ndarray) -> np.ndarray:
    """One score per class that grows with its probability, (N, C) from logits (N, C).

    The log-odds of each class against the rest, which do not saturate as probabilities do.

    >>> class_scores(np.array([[0.0, 0.0, np.log(2.0)]])).round(3)
    array([[-1.099, -1.099,  0.   ]])
    """
    columns = range(outputs.shape[1])
    rest = [np.logaddexp.reduce(np.delete(outputs, column, axis=1), axis=1) for column in columns]
    return np.stack([outputs[:, column] - rest[column] for column in columns], axis=1)


def within_fold_auc(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Area under the ROC over the pairs of images of one fold.

    Logits of different folds come from different networks and are not on one scale, and what a
    fold lacks of a class its training set has more of: pairs across folds are therefore not
    counted. The value is the mean of the folds' areas, weighted by their pairs.

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
    """Pearson's r of values from which the means of their folds are taken away.

    The mean of a training set is low where that of its test fold is high, which alone makes
    the pooled correlation of uninformative predictions negative.

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
        (...,) correlations; 0 where one side is constant within the folds.
    """
    a, b = np.array(predicted, dtype=float), np.array(truth, dtype=float)
    for fold in np.unique(folds):
        inside = folds == fold
        a[inside] -= a[inside].mean()
        b[..., inside] -= b[..., inside].mean(axis=-1, keepdims=True)
    scale = np.sqrt((a * a).sum() * (b * b).sum(axis=-1))
    # What is left of constants is rounding.
    floor = 1e-12 * np.abs(predicted).max() * np.abs(truth).max() * a.size
    safe = np.where(scale > floor, scale, 1.0)
    return np.where(scale > floor, (b @ a) / safe, 0.0)


def out_of_fold_rows(
    oof: OutOfFold, identifiers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row per image for the table of out-of-fold answers.

    Parameters
    ----------
    oof : OutOfFold
        N answers.
    identifiers : sequence of mapping
        N first cells of the rows, such as ``participant_id`` and ``session_id``.

    Returns
    -------
    list of dict
        The identifiers, ``fold``, ``site`` where there are sites, ``truth``, ``predicted`` and
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
    """Most probable class, (N,) from (N, C); of equals the last: 0.5 is positive.

    >>> predicted_classes(np.array([[0.5, 0.5], [0.6, 0.4]]))
    array([1, 0])
    """
    last = probabilities.shape[1] - 1
    return np.asarray(last - probabilities[:, ::-1].argmax(axis=1))


def plain(value: Any) -> Any:
    """Copy with types that JSON knows; what is not a finite number is nothing.

    >>> plain({'a': np.float32(0.5), 'b': (float('nan'), np.int64(3))})
    {'a': 0.5, 'b': [None, 3]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
