"""Predictions: what ``prediction.json`` holds, which the explanation of one image writes.

Reports and the group level read it; nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.errors import ImageError
from bids_interp.records import key, read_record

#: What helps when a derivative cannot be read.
REMEDY = 'Delete it and run the participant level again, without --reports-only.'


@dataclass(frozen=True)
class ExplainedTarget:
    """What a model predicts, and the two sides of the contrast that is explained.

    Parameters
    ----------
    kind : {'binary', 'multiclass', 'regression'}
        Kind of the target.
    label : str
        Column that is predicted.
    classes : sequence of str, optional
        All classes of a multiclass target.
    mean, sd : float, optional
        Of a regression: mean and standard deviation of the training subjects' values.
    negative, positive : str
        Classes where removing and injecting lead.
    """

    kind: str = 'binary'
    label: str = ''
    classes: Sequence[str] | None = None
    mean: float | None = None
    sd: float | None = None
    negative: str = 'control'
    positive: str = 'patient'


@dataclass(frozen=True)
class Membership:
    """Whether a subject was in the training set, and which folds may explain it.

    Parameters
    ----------
    in_training : bool
        The bundle was trained with this subject (or another warp of the same brain).
    folds : sequence of int
        Folds that explain it: those whose models have not seen it, which are all for a new
        subject; all, too, where the classifier was brought along and has seen it.
    held_out : bool
        Whether these folds have not seen it.
    """

    in_training: bool = key('InTrainingSet')
    folds: tuple[int, ...] = key('FoldsUsed')
    held_out: bool = key('HeldOut', True)


@dataclass(frozen=True)
class Origin:
    """Model and folds that a derivative was made with, as far as its sidecar says.

    Parameters
    ----------
    in_training, folds, held_out
        See :class:`Membership`.
    model_name, model_hash, demonstration
        See :class:`Prediction`.
    """

    in_training: bool | None = key('InTrainingSet', None)
    folds: tuple[int, ...] | None = key('FoldsUsed', None)
    held_out: bool | None = key('HeldOut', None)
    model_name: str | None = key('ModelName', None)
    model_hash: str | None = key('ModelHash', None)
    demonstration: bool | None = key('Demonstration', None)


@dataclass(frozen=True)
class FieldFacts:
    """Facts of a simulator's field, for its sidecar.

    Parameters
    ----------
    speed_max_mm, speed_mean_mm : float
        Longest and mean vector inside the brain.
    sd_across_folds_mean_mm : float
        Length of the standard deviation over the folds, mean inside the brain.
    """

    speed_max_mm: float = key('SpeedMaxMM')
    speed_mean_mm: float = key('SpeedMeanMM')
    sd_across_folds_mean_mm: float = key('SDAcrossFoldsMeanMM')


@dataclass(frozen=True)
class MapFacts:
    """Facts of a simulation at full resolution, for the sidecars of image and map.

    Parameters
    ----------
    voxels_folded : int
        Voxels with a determinant that is not positive.
    displacement_max_mm : float
        Longest displacement.
    """

    voxels_folded: int = key('VoxelsFolded')
    displacement_max_mm: float = key('DisplacementMaxMM')


@dataclass(frozen=True)
class FoldAnswer:
    """Answer of the classifier of one fold.

    Parameters
    ----------
    fold : int
        Number of the fold.
    logit : float
        Logit of the positive class, before calibration.
    probability : float, optional
        Calibrated probability of the positive class; None for a regression.
    shift, shift_over_class_gap : float, optional
        Of a simulated image: change of the logit, and the same divided by the gap between the
        classes.
    temperature : float, optional
        Divides the logit before the sigmoid.
    """

    fold: int = key('Fold')
    logit: float = key('Logit')
    probability: float | None = key('Probability')
    shift: float | None = key('Shift', None)
    shift_over_class_gap: float | None = key('ShiftOverClassGap', None)
    temperature: float | None = key('Temperature', None)


@dataclass(frozen=True)
class Answer:
    """Answer of all folds to one image.

    Parameters
    ----------
    logit_mean, logit_sd : float
        Mean and standard deviation of the logit over the folds.
    probability_mean, probability_sd : float, optional
        The same of the probability; None for a regression.
    folds : sequence of FoldAnswer
        Answer of each fold.
    """

    logit_mean: float = key('LogitMean')
    logit_sd: float = key('LogitSD')
    probability_mean: float | None = key('ProbabilityMean')
    probability_sd: float | None = key('ProbabilitySD')
    folds: Sequence[FoldAnswer] = key('Folds')


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Answers of the classifier to one image, as scanned and after each simulation.

    Parameters
    ----------
    target : ExplainedTarget
        What is predicted.
    warranted : bool
        Whether the model is better than chance, so that explanations are warranted.
    in_training, folds, held_out
        See :class:`Membership`; ``held_out`` is None where it was not recorded.
    observed : Answer
        Answer to the observed image.
    simulated : mapping of str to Answer
        Direction and dose, such as ``'inject100'``, to the answer after that simulation.
    model_name, model_hash : str, optional
        The model, as the sidecar fields of a derivative name it.
    demonstration : bool, optional
        Whether it only demonstrates the software.
    generated_by : sequence of mapping, optional
        Software that made the derivative, with its version.
    """

    target: ExplainedTarget = key('Target')
    warranted: bool = key('ExplanationWarranted')
    in_training: bool = key('InTrainingSet')
    folds: tuple[int, ...] = key('FoldsUsed')
    held_out: bool | None = key('HeldOut', None)
    observed: Answer = key('Observed')
    simulated: Mapping[str, Answer] = key('Simulated')
    model_name: str | None = key('ModelName', None)
    model_hash: str | None = key('ModelHash', None)
    demonstration: bool | None = key('Demonstration', None)
    generated_by: Sequence[Mapping[str, Any]] | None = key('GeneratedBy', None)

    @property
    def version(self) -> str:
        """Version of bids_interp that made the derivatives; empty where it is not recorded."""
        return str(self.generated_by[0].get('Version', '')) if self.generated_by else ''


def read_prediction(path: Path) -> Prediction:
    """Read ``*_desc-explain_prediction.json``; keys of other tools are ignored.

    Raises
    ------
    ImageError
        Naming the file and the key, if it cannot be read.
    """
    return read_record(Prediction, path, ImageError, REMEDY, open_ended=True)
