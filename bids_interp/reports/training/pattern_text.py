"""Pattern text: what differs, who has it, and whether there is anything to explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bids_interp.constants import COMMON_SHARE
from bids_interp.models.bundle.fold_metrics import has_pattern, is_explained

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig

NO_PATTERN = (
    'The classifiers do not respond to the measured difference between the classes, so there is no '
    'pattern. Maps made with this model explain nothing, and the reports of subjects say so.'
)
NOT_EXPLAINED = (
    'The classifiers do not separate the classes well enough for the published method, so there is '
    'nothing to explain, and most simulators were not trained. Maps made with this model explain '
    'nothing, and the reports of subjects say so.'
)
NOT_WARRANTED = (
    'The classifiers are not above chance. Their maps explain nothing, and the reports of subjects '
    'say so.'
)
_COMMON = (
    'The pattern is common to all people: a map of a scan is this pattern, drawn on the scan. It '
    'says nothing about the person.'
)
_PERSONAL = (
    'The maps are personal: the volumes of a scan decide how much of each subtype is removed and '
    'injected.'
)


def unwarranted_text(metrics: Mapping[str, Any]) -> str:
    """Return why maps explain nothing; empty if they are warranted or were not judged."""
    if not has_pattern(metrics):
        return NO_PATTERN
    if not is_explained(metrics):
        return NOT_EXPLAINED
    return NOT_WARRANTED if metrics.get('explanation_warranted') is False else ''


def pattern_head(metrics: Mapping[str, Any]) -> str:
    """Return the sentence about the pattern; empty for simulators with a free velocity."""
    pattern = (metrics.get('simulator') or {}).get('pattern')
    if pattern is None:
        return ''
    if not has_pattern(metrics):
        return NO_PATTERN
    return _PERSONAL if (pattern.get('personal_share') or 0) >= COMMON_SHARE else _COMMON


def pattern_rows(config: BundleConfig) -> list[dict[str, str]]:
    """Return the measurements of the pattern of each fold and contrast, as text by heading."""
    rows = []
    for index, fold in enumerate(config.folds):
        simulator = fold.metrics.simulator
        for row in (simulator.patterns if simulator else None) or ():
            shares = ', '.join(f'{share:.2f}' for share in row.shares)
            found = {
                'subtypes': str(row.subtypes),
                'shares': shares,
                'stability': f'{row.stability:.2f}' if row.subtypes > 1 else 'n/a',
                'personal share': f'{row.personal_share:.2f}',
                'against weights (NCC)': f'{row.weights_ncc:.2f}',
                'measured dose': f'{row.measured_dose:.2f}',
            }
            rows.append(
                {
                    'fold': str(index),
                    'contrast': row.contrast,
                    'consent (z)': f'{row.consent:.1f}',
                    'pieces kept': f'{row.kept} of {row.pieces}',
                    **(found if row.found else dict.fromkeys(found, 'n/a')),
                }
            )
    return rows


def gate_head(metrics: Mapping[str, Any]) -> str:
    """Return how many published simulators were trained; empty for other simulators."""
    gate = (metrics.get('simulator') or {}).get('gate')
    if gate is None:
        return ''
    text = (
        f'{gate["trained"]} of {gate["count"]} simulators were trained: the validation AUC of the '
        f'classifier must be at least {gate["least_auc"]:g}.'
    )
    if gate['trained'] == gate['count']:
        return text
    return (
        f'{text} Otherwise there is nothing to explain, and the simulator changes nothing. Scans '
        'that only such a fold may explain get empty maps, and their reports say why.'
    )


def gate_rows(config: BundleConfig) -> list[dict[str, str]]:
    """Return the validation AUC of each fold and contrast, and what became of its simulator."""
    rows = []
    for index, fold in enumerate(config.folds):
        simulator = fold.metrics.simulator
        for gate in (simulator.gates if simulator else None) or ():
            counts = ', '.join(f'{count} {name}' for name, count in gate.recognised.items())
            rows.append(
                {
                    'fold': str(index),
                    'contrast': gate.contrast,
                    'validation AUC': f'{gate.auc:.2f}',
                    'recognised training images': counts,
                    'simulator': f'not trained: {gate.reason}' if gate.reason else 'trained',
                }
            )
    return rows
