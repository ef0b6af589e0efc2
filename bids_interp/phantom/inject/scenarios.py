"""The scenarios of the known-truth benchmark: what is planted, and what is put in its way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bids_interp.errors import UsageError
from bids_interp.phantom.change.effects import EFFECTS, Effect

#: Factor on the moderate volume changes: 15 % becomes 8, 15 and 25 %.
STRENGTHS = {'mild': 8 / 15, 'moderate': 1.0, 'strong': 25 / 15}


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Parameters
    ----------
    name : str
        ``'S1'`` to ``'S8'``, or the text of an effect.
    purpose : str
        What it tests.
    effect : Effect
        What is planted; for a null scenario what the shams of both groups are drawn after.
    null : bool
        Patients get a sham, too.
    confound : tuple of float, optional
        Share of patients and share of controls whose intensities are changed.
    scaling_sd : float
        Standard deviation of the logarithm of a global scaling, drawn alike in both groups.
    """

    name: str
    purpose: str
    effect: Effect
    null: bool = False
    confound: tuple[float, float] | None = None
    scaling_sd: float = 0.0

    @property
    def changes(self) -> dict[str, float]:
        """Volume changes that patients carry; none in a null scenario."""
        return {} if self.null else dict(self.effect.changes)


_MEDIAL = EFFECTS['hippocampus_mild']
_THALAMUS = EFFECTS['thalamus_left']
_MODERATE = (
    Scenario('S1', 'Alzheimer-like: hippocampus and amygdala', _MEDIAL),
    Scenario('S2', 'distributed and graded over regions', EFFECTS['distributed']),
    Scenario('S3', 'one side of one structure', _THALAMUS),
    Scenario('S4', 'expansion', EFFECTS['ventricles']),
    Scenario('S5', 'a thin structure', EFFECTS['frontal']),
    Scenario('S6', 'S1 with an intensity confound', _MEDIAL, confound=(0.7, 0.3)),
    Scenario('S7', 'null: a sham in both groups', _MEDIAL, null=True),
    Scenario('S8', 'S3 with a global scaling in both groups', _THALAMUS, scaling_sd=0.04),
)
#: Name -> scenario of moderate strength.
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _MODERATE}


def scenario(name: str, strength: str = 'moderate') -> Scenario:
    """Return a scenario at a strength.

    Parameters
    ----------
    name : str
        ``'S1'`` to ``'S8'``.
    strength : str
        ``'mild'``, ``'moderate'`` or ``'strong'``.

    Raises
    ------
    UsageError
        There is no such scenario or strength.

    Examples
    --------
    >>> scenario('S1', 'mild').changes
    {'hippocampus': -0.08, 'amygdala': -0.08}
    >>> scenario('S7').changes
    {}
    """
    if name not in SCENARIOS:
        raise UsageError(f'There is no scenario {name!r}.', f'Scenarios: {", ".join(SCENARIOS)}.')
    if strength not in STRENGTHS:
        raise UsageError(f'No strength {strength!r}.', f'Strengths: {", ".join(STRENGTHS)}.')
    known = SCENARIOS[name]
    factor = STRENGTHS[strength]
    changes = {region: round(factor * part, 4) for region, part in known.effect.changes.items()}
    label = known.effect.name if strength == 'moderate' else f'{known.effect.name} ({strength})'
    return replace(known, effect=replace(known.effect, name=label, changes=changes))


def custom_scenario(effect: Effect) -> Scenario:
    """Make a scenario of an effect; one without changes becomes a null scenario.

    Examples
    --------
    >>> custom_scenario(EFFECTS['none']).null
    True
    """
    if effect.changes:
        return Scenario(effect.name, 'as asked for', effect)
    return Scenario(effect.name, 'null: a sham in both groups', EFFECTS['hippocampus'], null=True)
