"""Choice of the classifier that is explained, by the validation splits of all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bids_interp.evaluation.scores import auc
from bids_interp.models.target import Target

#: Measure of each kind of target.
MEASURES = {'binary': 'auc', 'multiclass': 'auc', 'regression': 'pearson_r'}


@dataclass(frozen=True)
class CandidateScores:
    """Scores of a classifier that was trained in every fold.

    Parameters
    ----------
    classifier : str
        Architecture.
    validation, test : float
        Mean scores over the folds; only ``validation`` is used for the choice.
    validation_per_fold, test_per_fold : sequence of float
        Scores of each fold.
    """

    classifier: str
    validation: float
    test: float
    validation_per_fold: Sequence[float]
    test_per_fold: Sequence[float]


@dataclass(frozen=True)
class ClassifierChoice:
    """Classifiers that were compared, and the one that is explained.

    Parameters
    ----------
    explained : str
        Architecture with the best mean score on the validation splits; the first one of equals.
    measure : {'auc', 'pearson_r'}
        Area under the curve, for several classes the mean over pairs of classes; or correlation.
    candidates : sequence of CandidateScores
        Compared classifiers, in order of preference.
    left_out : mapping
        Reason for each classifier that was not trained.
    """

    explained: str
    measure: str
    candidates: Sequence[CandidateScores]
    left_out: Mapping[str, str] = field(default_factory=dict)


def discrimination_score(outputs: np.ndarray, labels: np.ndarray, target: Target) -> float:
    """Score of the outputs (N, K) for one split, without regard to their scale.

    Examples
    --------
    >>> target = Target('regression', 'age')
    >>> round(discrimination_score(np.array([[1.0], [3.0], [2.0]]), np.arange(3), target), 3)
    0.5
    """
    if target.kind == 'regression':
        varies = outputs.std() > 0 and np.std(labels) > 0
        return float(np.corrcoef(outputs[:, 0], labels)[0, 1]) if varies else 0.0
    areas = [contrast_auc(outputs, labels, target, n) for n in range(len(target.contrasts))]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else 0.5


def contrast_auc(
    outputs: np.ndarray, labels: np.ndarray, target: Target, number: int
) -> float | None:
    """Area under the curve of the outputs (N, K) between the two classes of a contrast.

    A class that is missing in a small split says nothing: the result is None.
    """
    contrast = target.contrasts[number]
    sides = [target.classes.index(name) for name in (contrast.negative, contrast.positive)]
    chosen = np.isin(labels, sides)
    if len(np.unique(labels[chosen])) < len(sides):
        return None
    return auc(outputs[chosen] @ np.array(contrast.weights), labels[chosen] == sides[1])


def choose_classifier(
    scores: Mapping[str, Sequence[tuple[float, float]]],
    target: Target,
    left_out: Mapping[str, str],
) -> ClassifierChoice:
    """Choose one classifier for all folds.

    Parameters
    ----------
    scores : mapping
        (validation, test) scores of each fold for each architecture, the preferred one first.
    target : Target
        Predicted target.
    left_out : mapping
        Reason for each classifier that was not trained.
    """
    candidates = []
    for name, folds in scores.items():
        validation, test = (list(part) for part in zip(*folds, strict=True))
        means = float(np.mean(validation)), float(np.mean(test))
        candidates.append(CandidateScores(name, *means, validation, test))
    best = max(candidates, key=lambda candidate: candidate.validation)
    return ClassifierChoice(best.classifier, MEASURES[target.kind], candidates, left_out)
