"""Scope of the maps of a scan: whether they are about this scan, everybody, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bids_interp.bids.prediction import PatternFacts, Prediction


class MapScope(NamedTuple):
    """Identifier, which the page contains, and sentences.

    The names are ``no-pattern``, ``untrained``, ``chance``, ``common``, ``personal`` and
    ``simulated`` (computed from the scan by a simulator with a free velocity, whose personal share
    is unknown).
    """

    name: str
    text: str

    @property
    def is_finding(self) -> bool:
        """True if the maps may be interpreted."""
        return self.name not in ('no-pattern', 'untrained', 'chance')


def scope_of(prediction: Prediction) -> MapScope | None:
    """Return the scope of the maps of a scan; None if it was not recorded."""
    pattern, target = prediction.pattern, prediction.target
    if pattern is not None and not pattern.found and pattern.capacity == 'ipmi2021':
        return MapScope(
            'untrained',
            'This classifier does not separate the classes well enough for the published method, '
            'so there is nothing to explain. The maps below explain nothing.',
        )
    if pattern is not None and not pattern.found:
        return MapScope(
            'no-pattern',
            'This classifier does not respond to the measured difference between the classes, so '
            'there is no pattern to show. The maps below explain nothing.',
        )
    if not prediction.warranted:
        return MapScope(
            'chance',
            'This classifier was not better than chance on subjects that it was not trained with, '
            'so no explanation is warranted. The maps below explain nothing.',
        )
    if pattern is None:
        return None
    is_number = target.kind == 'regression'
    name = f'{target.positive} {target.label}'.strip() if is_number else target.positive
    if not pattern.personal:
        return MapScope(
            'common',
            f"This is the model's common pattern of “{name}”, drawn on this scan; it is the same "
            'for everybody.',
        )
    if pattern.removed is None or pattern.injected is None:
        return MapScope(
            'simulated',
            'The simulator computed these maps from this scan. How much of them is common to all '
            'scans is measured at the group level (personal share).',
        )
    return MapScope('personal', _personal_text(pattern.removed, pattern.injected, name))


def _personal_text(removed: Sequence[float], injected: Sequence[float], name: str) -> str:
    """Say in words what a scan has of a pattern and what it lacks."""
    if len(removed) == 1:
        return (
            f'This scan has {removed[0]:.2f} times the pattern of “{name}” of a typical scan of '
            'that class, judged by its local volumes, and removing takes away this amount. '
            'Injecting adds the common pattern, which is the same for everybody.'
        )
    has = _listed([f'{amount:.2f} of subtype {n}' for n, amount in enumerate(removed, 1)])
    lacks = _listed([f'{share:.0%} of subtype {n}' for n, share in enumerate(injected, 1)])
    return (
        f'These maps are about this scan: of the pattern of “{name}” it has {has} (1 is a typical '
        f'scan of that subtype), judged by its local volumes, and removing takes this away. '
        f'Injecting adds what the scan does not have: {lacks}.'
    )


def _listed(parts: Sequence[str]) -> str:
    """Return parts as an enumeration.

    >>> _listed(['a', 'b', 'c'])
    'a, b and c'
    """
    return ' and '.join(part for part in (', '.join(parts[:-1]), parts[-1]) if part)


def pattern_details(pattern: PatternFacts | None) -> list[tuple[str, str]]:
    """Return names and values of the facts about a pattern, as far as they are known."""
    if pattern is None:
        return []
    subtypes, stability = pattern.subtypes, pattern.stability
    several = f'{subtypes}, stability {stability:.2f}' if stability is not None else str(subtypes)
    return [
        (name, form.format(value))
        for name, value, form in (
            ('Personal share of the maps', pattern.personal_share, '{:.2f}'),
            ('Subtypes', several if subtypes and subtypes > 1 else subtypes, '{}'),
            ('Consent of the classifier (z)', pattern.consent, '{:.1f}'),
            ('Pattern against weights (NCC)', pattern.weights_ncc, '{:.2f}'),
            ('Dose of the measured difference', pattern.measured_dose, '{:.2f}'),
        )
        if value is not None
    ]
