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
        ``'S1'`` to ``'S9'``, or the text of an effect.
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
    subtypes : tuple of VolumeEffect
        Effects of further subtypes of patients; each patient has one effect.
    generator : {'atrophy', 'boundary'}
        Generator of the change: ellipsoids and a Poisson equation
        (:mod:`bids_interp.phantom.change.atrophy`), or the boundary of a tissue region
        (:mod:`bids_interp.phantom.change.boundary`).
    regressed : tuple of str
        Regions whose own volume is predicted, in a scenario without groups.
    """

    name: str
    purpose: str
    effect: VolumeEffect
    null: bool = False
    confound: tuple[float, float] | None = None
    scaling_sd: float = 0.0
    subtypes: tuple[VolumeEffect, ...] = ()
    generator: str = 'atrophy'
    regressed: tuple[str, ...] = ()

    @property
    def effects(self) -> tuple[VolumeEffect, ...]:
        """Effects of all subtypes of patients."""
        return (self.effect, *self.subtypes)

    @property
    def benchmark_only(self) -> bool:
        """True if the scenario needs more than one change of the regions of the phantom."""
        return bool(self.subtypes or self.regressed or self.generator != 'atrophy')

    @property
    def changes(self) -> dict[str, float]:
        """Volume changes of patients, of all subtypes together; empty in a null scenario."""
        if self.null:
            return {}
        return {name: share for one in self.effects for name, share in one.changes.items()}


_MEDIAL = EFFECTS['hippocampus_mild']
_THALAMUS = EFFECTS['thalamus_left']
# Strong, because one scan does not show which of two moderate changes it has.
_SUBTYPES = (
    VolumeEffect('medial temporal', {'hippocampus': -0.45, 'amygdala': -0.45}, 'csf'),
    VolumeEffect('striatal', {'caudate': -0.45, 'putamen': -0.45}, 'csf'),
)
_GREY = VolumeEffect('medial temporal grey matter', {'medial_temporal_grey': -0.15}, 'surroundings')
_FLUID = VolumeEffect('ventricular fluid', {'ventricular_fluid': 0.3}, 'surroundings')
_REGRESSED = (
    'hippocampus_left',
    'hippocampus_right',
    'thalamus',
    'caudate',
    'putamen',
    'insula',
    'ventricles',
    'brainstem',
    'cerebellum_left',
    'cerebellum_right',
)
_MODERATE = (
    Scenario('S1', 'Alzheimer-like: hippocampus and amygdala', _MEDIAL),
    Scenario('S2', 'distributed and graded over regions', EFFECTS['distributed']),
    Scenario('S3', 'one side of one structure', _THALAMUS),
    Scenario('S4', 'expansion', EFFECTS['ventricles']),
    Scenario('S5', 'a thin structure', EFFECTS['frontal']),
    Scenario('S6', 'S1 with an intensity confound', _MEDIAL, confound=(0.7, 0.3)),
    Scenario('S7', 'null: a sham in both groups', _MEDIAL, null=True),
    Scenario('S8', 'S3 with a global scaling in both groups', _THALAMUS, scaling_sd=0.04),
    Scenario('S9', 'two subtypes of patients', _SUBTYPES[0], subtypes=_SUBTYPES[1:]),
    Scenario('S10a', 'similar to S1, another generator', _GREY, generator='boundary'),
    Scenario('S10b', 'similar to S4, another generator', _FLUID, generator='boundary'),
    Scenario(
        'S11',
        'regression of the volumes of regions; nothing is planted',
        EFFECTS['none'],
        null=True,
        regressed=_REGRESSED,
    ),
)
#: Name -> scenario of moderate strength.
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _MODERATE}


def scenario(name: str, strength: str = 'moderate') -> Scenario:
    """Return a scenario at a strength.

    Parameters
    ----------
    name : str
        Key of :data:`SCENARIOS`.
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
    first, *others = (_scaled(effect, strength) for effect in chosen.effects)
    return replace(chosen, effect=first, subtypes=tuple(others))


def _scaled(effect: VolumeEffect, strength: str) -> VolumeEffect:
    factor = STRENGTHS[strength]
    changes = {region: round(factor * part, 4) for region, part in effect.changes.items()}
    label = effect.name if strength == 'moderate' else f'{effect.name} ({strength})'
    return replace(effect, name=label, changes=changes)


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
