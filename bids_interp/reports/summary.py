"""What a reader must know first, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bids_interp.reports.files import ScanFiles, number, read_json, read_table, sidecar
from bids_interp.reports.regions import RegionChange, read_regions, strongest
from bids_interp.reports.response_figures import by_dose, flip_dose, read_response

#: The classifiers do not agree when their probabilities lie further apart than this.
DISAGREEMENT = 0.3


@dataclass
class Summary:
    """Content of the card on top of the report.

    Parameters
    ----------
    facts : list of (str, str)
        What the scan and the model are.
    negative, positive : str
        Names of the classes.
    probabilities : list of float
        Of the positive class for the scan, one for each fold.
    flip : float or None
        Signed dose at which the mean answer turns.
    direction : str
        The direction that leads to the other class.
    largest_dose : float
        Largest dose that was tried in that direction.
    shrinking, growing : list of RegionChange
        Strongest regions in that direction.
    cautions : list of str
        What limits the reading.
    demonstration : bool
        Made with the demonstration model.
    finished : bool
        The explanation was computed.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    negative: str = 'control'
    positive: str = 'patient'
    probabilities: list[float] = field(default_factory=list)
    flip: float | None = None
    direction: str = 'inject'
    largest_dose: float = 1.0
    shrinking: list[RegionChange] = field(default_factory=list)
    growing: list[RegionChange] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    demonstration: bool = False
    finished: bool = False

    @property
    def mean(self) -> float:
        """Mean probability over the folds."""
        return float(np.mean(self.probabilities)) if self.probabilities else float('nan')

    @property
    def answer(self) -> str:
        """Name of the class that the mean answer points to."""
        return self.positive if self.mean > 0.5 else self.negative

    @property
    def other(self) -> str:
        """Name of the other class."""
        return self.negative if self.mean > 0.5 else self.positive

    @property
    def agreeing(self) -> int:
        """Number of folds on the side of the mean."""
        return sum((value > 0.5) == (self.mean > 0.5) for value in self.probabilities)


def lookup(content: Mapping[str, Any], *names: str) -> Any:
    """Find the first of some keys whatever its spelling (``InTraining``, ``in_training``).

    >>> lookup({'in_training_set': True}, 'InTrainingSet')
    True
    """
    plain = {key.replace('_', '').lower(): value for key, value in content.items()}
    for name in names:
        value = plain.get(name.replace('_', '').lower())
        if value is not None:
            return value
    return None


def target_names(prediction: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the negative and the positive class.

    >>> target_names({'Target': {'negative': 'young', 'positive': 'old'}})
    ('young', 'old')
    """
    target = lookup(prediction, 'Target')
    target = target if isinstance(target, Mapping) else prediction
    negative = lookup(target, 'Negative', 'NegativeClass')
    positive = lookup(target, 'Positive', 'PositiveClass')
    return str(negative or 'control'), str(positive or 'patient')


def summarise(files: ScanFiles) -> Summary:
    """Gather the summary from the derivatives on disk; parts that are missing stay empty."""
    prediction = read_json(files.prediction)
    meta = {**sidecar(files.native('desc-doseresponse_stats.tsv')), **prediction}
    negative, positive = target_names(meta)
    summary = Summary(negative=negative, positive=positive)
    brain = sidecar(files.native('desc-preproc_T1w.nii.gz'))
    summary.demonstration = bool(lookup({**brain, **meta}, 'Demonstration'))
    summary.facts = _facts(files, brain, meta)
    rows = read_response(files)
    doses, values = by_dose(rows, 'probability')
    if 0.0 in doses:
        summary.probabilities = values[doses == 0.0][0].tolist()
        summary.finished = bool(prediction)
        summary.flip = flip_dose(rows)
        summary.direction = 'inject' if summary.mean <= 0.5 else 'remove'
        sign = 1 if summary.direction == 'inject' else -1
        summary.largest_dose = float(max(0.0, (sign * doses).max()))
    regions = read_regions(files)
    summary.shrinking, summary.growing = strongest(regions, summary.direction)
    summary.cautions = _cautions(files, summary, meta)
    return summary


def _voxels(files: ScanFiles) -> str:
    import nibabel as nib

    path = files.native('desc-preproc_T1w.nii.gz')
    if path is None:
        return ''
    try:
        header = nib.load(path).header
    except Exception:  # noqa: BLE001 - a damaged derivative must not cost the report
        return 'cannot be read'
    sizes = ' x '.join(f'{size:g}' for size in np.round(header.get_zooms()[:3], 2))
    shape = ' x '.join(str(size) for size in header.get_data_shape()[:3])
    return f'{sizes} mm ({shape} voxels)'


def _facts(
    files: ScanFiles, brain: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[tuple[str, str]]:
    sources = [source for source in brain.get('Sources', []) if isinstance(source, str)]
    stripped = lookup(brain, 'SkullStrippedInput', 'InputSkullStripped')
    training = lookup(meta, 'InTrainingSet', 'InTraining')
    template = files.template_name
    folds = lookup(meta, 'FoldsUsed', 'Folds')
    model = lookup(meta, 'ModelName')
    found = [
        ('Input', sources[0] if sources else f'{files.prefix}_T1w'),
        ('Voxels', _voxels(files)),
        ('Skull stripping', 'was stripped already' if stripped else ''),
        ('Template', template),
        ('Model', f'{model} ({lookup(meta, "ModelHash") or "no hash"})' if model else ''),
        ('Model folds used', _list_folds(folds)),
        ('In the training set', '' if training is None else ('yes' if training else 'no')),
    ]
    return [(name, words) for name, words in found if words]


def _list_folds(folds: Any) -> str:
    if not isinstance(folds, list):
        return ''
    indices = [lookup(fold, 'Fold') if isinstance(fold, dict) else fold for fold in folds]
    return ', '.join(map(str, indices))


def _cautions(files: ScanFiles, summary: Summary, meta: Mapping[str, Any]) -> list[str]:
    """Sentences that limit the reading, most important first."""
    cautions = []
    if lookup(meta, 'ExplanationWarranted', 'Warranted') is False:
        cautions.append(
            'On people it had not seen, this classifier was not better than chance: '
            'no explanation is warranted.'
        )
    if lookup(meta, 'InTrainingSet', 'InTraining'):
        cautions.append(
            'This scan was in the training set; only folds not trained with it speak here.'
        )
    values = summary.probabilities
    if values and (max(values) - min(values) > DISAGREEMENT or summary.agreeing < len(values)):
        cautions.append(
            f'The folds do not agree: probabilities from {min(values):.2f} to {max(values):.2f}.'
        )
    if summary.finished and summary.flip is None:
        cautions.append(
            f'No dose up to {summary.largest_dose:g} turned the answer: read the map as what the '
            'classifier looks at, not as what would change its mind.'
        )
    for row in read_table(files.native('desc-counterfactual_stats.tsv')):
        folded = number(row.get('n_folded'))
        if folded:
            cautions.append(
                f'{folded:.0f} voxels fold in the simulation “{row.get("direction")}” at dose '
                f'{row.get("dose")}: do not trust the map there.'
            )
    return cautions
