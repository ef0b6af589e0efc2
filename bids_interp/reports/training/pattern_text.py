"""Pattern text: what differs, who has it, and whether the classifier responds to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bids_interp.constants import COMMON_SHARE
from bids_interp.models.bundle.fold_metrics import has_pattern

if TYPE_CHECKING:
    from bids_interp.models.bundle.schema import BundleConfig

NO_PATTERN = (
    'The classifiers do not respond to the measured difference between the classes, so there is no '
    'pattern. Maps made with this model explain nothing, and the reports of subjects say so.'
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
