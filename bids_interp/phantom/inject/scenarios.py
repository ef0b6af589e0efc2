"""Scenarios of the known-truth benchmark: planted changes and added difficulties."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bids_interp.errors import UsageError
from bids_interp.phantom.change.effects import EFFECTS, VolumeEffect

#: Factor on the moderate volume changes, so that 15 % becomes 8, 15 or 25 %.
STRENGTHS = {'mild': 8 / 15, 'moderate': 1.0, 'strong': 25 / 15}


@dataclass(frozen=True)
class Scenario:
    """Planted change with a difficulty.

    Parameters
    ----------
    name : str
        ``'S1'`` to ``'S8'``, or the text of an effect.
    purpose : str
        Tested property.
    effect : VolumeEffect
        Planted effect; in a null scenario the model of the shams of both groups.
    null : bool
        Whether patients get a sham, too.
    confound : tuple of float, optional
        Shares of patients and of controls with changed intensities.
    scaling_sd : float
        Standard deviation of the logarithm of a global scaling in both groups.
    """

    name: str
    purpose: str
    effect: VolumeEffect
    null: bool = False
    confound: tuple[float, float] | None = None
    scaling_sd: float = 0.0

    @property
    def changes(self) -> dict[str, float]:
        """Volume changes of patients; empty in a null scenario."""
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
        If the scenario or strength is unknown.

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
        raise UsageError(
            f'There is no strength {strength!r}.', f'Strengths: {", ".join(STRENGTHS)}.'
        )
    chosen = SCENARIOS[name]
    factor = STRENGTHS[strength]
    changes = {region: round(factor * part, 4) for region, part in chosen.effect.changes.items()}
    label = chosen.effect.name if strength == 'moderate' else f'{chosen.effect.name} ({strength})'
    return replace(chosen, effect=replace(chosen.effect, name=label, changes=changes))


def custom_scenario(effect: VolumeEffect) -> Scenario:
    """Make a scenario from an effect; an effect without changes gives a null scenario.

    Examples
    --------
    >>> custom_scenario(EFFECTS['none']).null
    True
    """
    if effect.changes:
        return Scenario(effect.name, 'custom effect', effect)
    return Scenario(effect.name, 'null: a sham in both groups', EFFECTS['hippocampus'], null=True)
