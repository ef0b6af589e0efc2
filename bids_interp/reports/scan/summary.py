"""Summary of the report of one scan: prediction, flip dose, strongest regions and cautions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bids_interp.bids.prediction import ExplainedTarget, Origin, Prediction
from bids_interp.bids.read.dose_response import by_dose, flip_dose, read_response
from bids_interp.bids.read.scan_files import (
    COUNTERFACTUAL,
    ScanFiles,
    parse_number,
    read_json,
    read_sidecar,
)
from bids_interp.bids.write.provenance import DEMONSTRATION_MARK
from bids_interp.constants import VOLUME_SHARE_FLOOR
from bids_interp.records import RecordError, from_plain
from bids_interp.reports.scan.map_scope import MapScope, pattern_details, scope_of
from bids_interp.reports.scan.region_changes import RegionChange, read_regions, strongest

#: Folds disagree if their probabilities differ by more than this.
DISAGREEMENT = 0.3
#: Smallest correlation of a brain with the template: noise in the shape of a brain reaches less
#: than 0.2, real brains with little contrast 0.3.
UNLIKE = 0.25
#: Smallest correlation of re-measured with claimed volume changes that confirms a map.
CONFIRMED = 0.8


class Caution(NamedTuple):
    """Limitation of a report: an identifier, which the page contains, and a sentence."""

    name: str
    text: str


@dataclass
class Summary:
    """Content of the card at the top of the report.

    Parameters
    ----------
    details : list of (str, str)
        Description of the scan and the model.
    negative, positive : str
        Names of the classes.
    probabilities : list of float
        Probability of the positive class for each fold.
    values : list of float
        Predicted values of a regression for each fold, in units of the target.
    label, spread : str, float
        Target of a regression and its standard deviation in the training subjects.
    flip : float or None
        Signed dose at which the mean prediction flips.
    direction : str
        Direction that leads to the other class.
    largest_dose : float
        Largest simulated dose in that direction.
    shrinking, growing : list of RegionChange
        Regions with the strongest changes in that direction.
    cautions : list of Caution
        Limitations.
    scope : MapScope, optional
        Whether the maps are about this scan; None if it was not recorded.
    demonstration : bool
        True for the demonstration model.
    finished : bool
        True if the explanation was computed.
    """

    details: list[tuple[str, str]] = field(default_factory=list)
    negative: str = 'control'
    positive: str = 'patient'
    probabilities: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    label: str = ''
    spread: float = 1.0
    flip: float | None = None
    direction: str = 'inject'
    largest_dose: float = 1.0
    shrinking: list[RegionChange] = field(default_factory=list)
    growing: list[RegionChange] = field(default_factory=list)
    cautions: list[Caution] = field(default_factory=list)
    scope: MapScope | None = None
    demonstration: bool = False
    finished: bool = False

    @property
    def is_finding(self) -> bool:
        """True if the maps may be interpreted."""
        return self.scope is None or self.scope.is_finding

    @property
    def mean(self) -> float:
        """Mean probability over the folds."""
        return float(np.mean(self.probabilities)) if self.probabilities else float('nan')

    @property
    def mean_value(self) -> float:
        """Mean predicted value of a regression over the folds."""
        return float(np.mean(self.values)) if self.values else float('nan')

    @property
    def answer(self) -> str:
        """Predicted class: the name of the class that the mean points to."""
        return self.positive if self.mean > 0.5 else self.negative

    @property
    def other(self) -> str:
        """Name of the other class."""
        return self.negative if self.mean > 0.5 else self.positive

    @property
    def agreeing(self) -> int:
        """Number of folds that predict the same class as the mean."""
        return sum((value > 0.5) == (self.mean > 0.5) for value in self.probabilities)


def summarise_scan(files: ScanFiles) -> Summary:
    """Read the summary from the derivatives on disk; missing parts stay empty."""
    prediction = files.read_prediction()
    origin = prediction or _origin_of_responses(files)
    target = prediction.target if prediction else ExplainedTarget()
    summary = Summary(negative=target.negative, positive=target.positive)
    brain = read_sidecar(files.native('desc-preproc_T1w.nii.gz'))
    summary.demonstration = _is_demonstration(files, brain, origin)
    summary.details = _details(files, brain, origin)
    if prediction:
        summary.scope = scope_of(prediction)
        summary.details += pattern_details(prediction.pattern)
    rows = read_response(files)
    doses, values = by_dose(rows, 'probability')
    if 0.0 in doses:
        summary.probabilities = values[doses == 0.0][0].tolist()
        summary.finished = prediction is not None
        summary.flip = flip_dose(rows)
        summary.direction = 'inject' if summary.mean <= 0.5 else 'remove'
        sign = 1 if summary.direction == 'inject' else -1
        summary.largest_dose = float(max(0.0, (sign * doses).max()))
    _add_values(summary, rows, target)
    regions = read_regions(files)
    summary.shrinking, summary.growing = strongest(regions, summary.direction)
    conformation = brain.get('Conformation') or {}
    summary.cautions = _cautions(files, summary, prediction)
    summary.cautions += [Caution('input', text) for text in conformation.get('Warnings', [])]
    return summary


def _origin_of_responses(files: ScanFiles) -> Origin:
    """Model and folds from the dose responses, if there is no prediction file."""
    with suppress(RecordError):
        found = read_sidecar(files.native('desc-doseresponse_stats.tsv'))
        return from_plain(Origin, found, open_ended=True)
    return Origin()


def _add_values(summary: Summary, rows: list[dict[str, float]], target: ExplainedTarget) -> None:
    """Add the predicted values of each fold, in units of the target, for a regression."""
    if target.kind != 'regression':
        return
    doses, values = by_dose(rows, 'logit')
    if 0.0 not in doses:
        return
    summary.label, summary.spread = target.label, target.sd or 1.0
    middle = target.mean or 0.0
    summary.values = (values[doses == 0.0][0] * summary.spread + middle).tolist()
    summary.finished = True
    summary.direction = 'inject'


def _is_demonstration(
    files: ScanFiles, brain: Mapping[str, Any], origin: Prediction | Origin
) -> bool:
    """Look in the sidecars, else in the description of the dataset."""
    own = brain.get('Demonstration') if origin.demonstration is None else origin.demonstration
    if own is not None:
        return bool(own)
    makers = read_json(files.output_dir / 'dataset_description.json').get('GeneratedBy', [])
    return any(DEMONSTRATION_MARK in str(maker.get('Description', '')) for maker in makers)


def _voxels(conformation: Mapping[str, Any]) -> str:
    """Voxel size, number of voxels and axes of the input."""
    sizes, shape = conformation.get('VoxelSizes'), conformation.get('Shape')
    if not sizes or not shape:
        return ''
    text = f'{" x ".join(f"{size:.3g}" for size in sizes)} mm ({" x ".join(map(str, shape))})'
    return f'{text}, stored as {conformation.get("Orientation", "unknown axes")}'


def _mask(conformation: Mapping[str, Any]) -> str:
    """Origin and volume of the brain mask."""
    source, volume = conformation.get('BrainMask'), conformation.get('BrainVolumeLitres')
    parts = [str(source)] if source else []
    if conformation.get('HeadTemplate'):
        parts[-1:] = [f'{source} with the head template {conformation["HeadTemplate"]}']
    if volume:
        parts.append(f'{volume:.2f} litres')
    return ', '.join(parts)


def _details(
    files: ScanFiles, brain: Mapping[str, Any], origin: Prediction | Origin
) -> list[tuple[str, str]]:
    sources = [source for source in brain.get('Sources', []) if isinstance(source, str)]
    conformation = brain.get('Conformation') or {}
    training, model = origin.in_training, origin.model_name
    found = [
        ('Input', sources[0] if sources else f'{files.prefix}_T1w'),
        ('Voxels', _voxels(conformation)),
        ('Brain mask', _mask(conformation)),
        ('Template', files.template_name),
        ('Model', f'{model} ({origin.model_hash or "no hash"})' if model else ''),
        ('Model folds used', ', '.join(map(str, origin.folds or ()))),
        ('In the training set', '' if training is None else ('yes' if training else 'no')),
    ]
    return [(name, text) for name, text in found if text]


def _registration(files: ScanFiles) -> Mapping[str, Any]:
    """Quality and warnings of the registration to the template; empty without it."""
    path = files.native(f'from-T1w_to-{files.template_name}_mode-image_xfm.json')
    return read_json(path).get('Registration') or {}


def _cautions(files: ScanFiles, summary: Summary, prediction: Prediction | None) -> list[Caution]:
    """List the limitations, most important first."""
    cautions = []
    if prediction and prediction.in_training:
        held_out = 'This scan was in the training set. Only folds that held it out are shown.'
        seen = (
            'The classifier was trained with this scan, so the maps partly show what it memorised.'
        )
        is_held_out = prediction.held_out is not False
        cautions.append(Caution('held-out', held_out) if is_held_out else Caution('seen', seen))
    registration = _registration(files)
    alike = parse_number(registration.get('correlation_inside'))
    if alike is not None and alike < UNLIKE:
        text = (
            f'This brain hardly resembles the template (correlation {alike:.2f}). Check the brain '
            'mask, and that this is a T1w image of a brain.'
        )
        cautions.append(Caution('unlike', text))
    cautions += [Caution('registration', text) for text in registration.get('warnings', [])]
    values = summary.probabilities
    if values and (max(values) - min(values) > DISAGREEMENT or summary.agreeing < len(values)):
        text = f'The folds disagree: probabilities from {min(values):.2f} to {max(values):.2f}.'
        cautions.append(Caution('folds', text))
    if summary.finished and summary.flip is None and not summary.values:
        text = (
            f'No dose up to {summary.largest_dose:g} flipped the prediction. The map shows what '
            'the classifier responds to, not a change that would flip its prediction.'
        )
        cautions.append(Caution('unturned', text))
    remeasured = (prediction.remeasured or {}) if prediction else {}
    for label, facts in remeasured.items():
        if not np.isfinite(facts.r):
            text = f'The simulation “{label[:-3]}” could not be measured again.'
            cautions.append(Caution('unmeasured', text))
        elif facts.r < CONFIRMED:
            text = (
                f'An independent registration of the simulation “{label[:-3]}” finds other volume '
                f'changes than the map shows (correlation {facts.r:.2f} over regions).'
            )
            cautions.append(Caution('unconfirmed', text))
    for row in files.table(COUNTERFACTUAL):
        share = parse_number(row.get('volume_share'))
        if share is not None and share < VOLUME_SHARE_FLOOR and parse_number(row['dose']) == 1:
            text = (
                f'Volume changes explain {share:.0%} of the effect of the simulation '
                f'“{row.get("direction")}” on the classifier. The map does not show the rest, '
                'which is motion without a change of volume.'
            )
            cautions.append(Caution('volume-share', text))
        folded = parse_number(row.get('n_folded'))
        if folded:
            text = (
                f'{folded:.0f} voxels are folded in the simulation “{row.get("direction")}” at '
                f'dose {row.get("dose")}. Do not interpret the map there.'
            )
            cautions.append(Caution('folded', text))
    return cautions
