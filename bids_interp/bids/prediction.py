"""Prediction of one image: the content of ``*_prediction.json``.

The participant level writes it; reports and the group level read it. This module does not need
PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.errors import ImageError
from bids_interp.records import Measured, key, read_record

#: Advice when a derivative cannot be read.
REMEDY = 'Delete it and run the participant level again, without --reports-only.'


@dataclass(frozen=True)
class ExplainedTarget:
    """Target of a model, and the two sides of the explained contrast.

    Parameters
    ----------
    kind : {'binary', 'multiclass', 'regression'}
        Kind of the target.
    label : str
        Predicted column.
    classes : sequence of str, optional
        All classes of a multiclass target.
    mean, sd : float, optional
        Mean and standard deviation of the training values; only for a regression.
    negative, positive : str
        Classes that removing and injecting lead to.
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
    """Training membership of a subject, and the folds that may explain it.

    Parameters
    ----------
    in_training : bool
        Whether the model was trained with this subject (or another warp of the same brain).
    folds : sequence of int
        Folds that explain the subject: those not trained with it, thus all folds for a new subject.
        All folds, too, for an external classifier that was trained with the subject.
    held_out : bool
        Whether none of these folds was trained with the subject.
    """

    in_training: bool = key('InTrainingSet')
    folds: tuple[int, ...] = key('FoldsUsed')
    held_out: bool = key('HeldOut', True)


@dataclass(frozen=True)
class Origin:
    """Model and folds that a derivative was made with, read from its sidecar.

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
    """Facts about a simulator's field, for its sidecar.

    Parameters
    ----------
    speed_max_mm, speed_mean_mm : float
        Maximum and mean vector length inside the brain.
    sd_across_folds_mean_mm : float
        Length of the standard deviation over folds, averaged inside the brain.
    """

    speed_max_mm: float = key('SpeedMaxMM')
    speed_mean_mm: float = key('SpeedMeanMM')
    sd_across_folds_mean_mm: float = key('SDAcrossFoldsMeanMM')


@dataclass(frozen=True)
class MapFacts:
    """Facts about a realised simulation, for the sidecars of image and map.

    Parameters
    ----------
    voxels_folded : int
        Number of voxels whose Jacobian determinant is not positive.
    displacement_max_mm : float
        Maximum displacement.
    """

    voxels_folded: int = key('VoxelsFolded')
    displacement_max_mm: float = key('DisplacementMaxMM')


@dataclass(frozen=True)
class RemeasuredFacts:
    """Agreement of re-measured with claimed volume changes of one simulation.

    Parameters
    ----------
    slope, r : float
        See :class:`bids_interp.evaluation.remeasure.Agreement`; NaN if it could not be measured.
    regions : int
        Number of regions.
    """

    slope: Measured = key('Slope')
    r: Measured = key('R')
    regions: int = key('Regions')


@dataclass(frozen=True)
class FoldAnswer:
    """Output of the classifier of one fold for one image.

    Parameters
    ----------
    fold : int
        Number of the fold.
    logit : float
        Logit of the positive class, before calibration.
    probability : float, optional
        Calibrated probability of the positive class; None for a regression.
    shift, shift_over_class_gap : float, optional
        Change of the logit after a simulation, and the same divided by the class gap.
    temperature, intercept : float, optional
        The probability is sigmoid(logit / temperature + intercept).
    """

    fold: int = key('Fold')
    logit: float = key('Logit')
    probability: float | None = key('Probability')
    shift: float | None = key('Shift', None)
    shift_over_class_gap: float | None = key('ShiftOverClassGap', None)
    temperature: float | None = key('Temperature', None)
    intercept: float | None = key('Intercept', None)


@dataclass(frozen=True)
class Answer:
    """Outputs of the classifiers of all folds for one image.

    Parameters
    ----------
    logit_mean, logit_sd : float
        Mean and standard deviation of the logit over the folds.
    probability_mean, probability_sd : float, optional
        The same for the probability; None for a regression.
    folds : sequence of FoldAnswer
        Output of each fold.
    """

    logit_mean: float = key('LogitMean')
    logit_sd: float = key('LogitSD')
    probability_mean: float | None = key('ProbabilityMean')
    probability_sd: float | None = key('ProbabilitySD')
    folds: Sequence[FoldAnswer] = key('Folds')


@dataclass(frozen=True, kw_only=True)
class PatternFacts:
    """Pattern of a model, and the amounts of it in a scan.

    Numbers of the model are means over the folds that explain the scan and have a pattern. They are
    None for simulators with a free velocity, and without a pattern.

    Parameters
    ----------
    capacity : str
        Capacity of the simulator.
    personal : bool
        Whether the maps depend on the scan. They do not if the simulator ignores the scan, or if
        the personal share is below :data:`bids_interp.constants.COMMON_SHARE`.
    found : bool
        Whether the classifiers respond to a pattern, in most folds of the model and in one that
        explains the scan; of the published simulator, whether it was trained in these folds; True
        for a free velocity.
    personal_share, stability, consent, weights_ncc, measured_dose : float, optional
        See :class:`bids_interp.models.bundle.fold_metrics.PatternMetrics`.
    subtypes : int, optional
        Most frequent number of subtypes in the folds.
    removed, injected : sequence of float, optional
        Amounts of the subtypes at dose 1, averaged over the folds with this number of subtypes;
        None if the maps are not personal. Removed: what the scan has; 1 is the amount of a typical
        patient with this subtype. Injected: what the scan does not have; the sum is 1.
    """

    capacity: str = key('Capacity')
    personal: bool = key('Personal')
    found: bool = key('Found', True)
    personal_share: float | None = key('PersonalShare', None)
    subtypes: int | None = key('Subtypes', None)
    stability: float | None = key('Stability', None)
    removed: Sequence[float] | None = key('AmountsRemoved', None)
    injected: Sequence[float] | None = key('AmountsInjected', None)
    consent: float | None = key('Consent', None)
    weights_ncc: float | None = key('WeightsNCC', None)
    measured_dose: float | None = key('MeasuredDose', None)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Outputs of the classifier for one image, as observed and after each simulation.

    Parameters
    ----------
    target : ExplainedTarget
        Predicted target.
    warranted : bool
        Whether the model performs above chance, so that explanations are warranted.
    in_training, folds, held_out
        See :class:`Membership`; ``held_out`` is None if it was not recorded.
    observed : Answer
        Output for the observed image.
    simulated : mapping of str to Answer
        Output after each simulation, by direction and dose (``'inject100'``).
    remeasured : mapping of str to RemeasuredFacts, optional
        With ``--remeasure``: agreement of an independent measurement with the maps, likewise.
    pattern : PatternFacts, optional
        Pattern of the model; None if it was not recorded.
    atlas : str, optional
        With ``--atlas``: label of the atlas in the name of the table of regions.
    model_name, model_hash : str, optional
        Name and hash of the model, as in the sidecars.
    demonstration : bool, optional
        Whether the model only demonstrates the software.
    generated_by : sequence of mapping, optional
        Software that wrote the derivative, with its version.
    """

    target: ExplainedTarget = key('Target')
    warranted: bool = key('ExplanationWarranted')
    in_training: bool = key('InTrainingSet')
    folds: tuple[int, ...] = key('FoldsUsed')
    held_out: bool | None = key('HeldOut', None)
    observed: Answer = key('Observed')
    simulated: Mapping[str, Answer] = key('Simulated')
    remeasured: Mapping[str, RemeasuredFacts] | None = key('Remeasured', None)
    pattern: PatternFacts | None = key('Pattern', None)
    atlas: str | None = key('Atlas', None)
    model_name: str | None = key('ModelName', None)
    model_hash: str | None = key('ModelHash', None)
    demonstration: bool | None = key('Demonstration', None)
    generated_by: Sequence[Mapping[str, Any]] | None = key('GeneratedBy', None)

    @property
    def version(self) -> str:
        """Return the version of bids_interp that wrote the derivatives; empty if not recorded."""
        return str(self.generated_by[0].get('Version', '')) if self.generated_by else ''


def read_prediction(path: Path) -> Prediction:
    """Read ``*_desc-explain_prediction.json``; unknown top-level keys are ignored.

    Raises
    ------
    ImageError
        If the file cannot be read; the message names the file and the key.
    """
    return read_record(Prediction, path, ImageError, REMEDY, open_ended=True)
