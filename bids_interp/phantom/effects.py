"""Named effects that a phantom dataset can carry, and the short text that makes up a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from bids_interp.errors import UsageError
from bids_interp.phantom.regions import check_region


@dataclass(frozen=True)
class Effect:
    """Relative volume changes at severity 1, and what absorbs them."""

    name: str
    changes: dict[str, float] = field(default_factory=dict)
    absorb: str = 'ventricles'


_KNOWN = (
    # Far stronger than any disease of a living person: what the demonstration model looks for.
    Effect('hippocampus', {'hippocampus': -0.45, 'amygdala': -0.45, 'parahippocampal': -0.3}),
    Effect('hippocampus_mild', {'hippocampus': -0.15, 'amygdala': -0.15}),
    Effect('thalamus_left', {'thalamus_left': -0.15}),
    Effect('ventricles', {'ventricles': 0.3}, 'shell'),
    Effect('frontal', {'frontal_ribbon': -0.15}, 'shell'),
    Effect(
        'distributed',
        {
            'hippocampus': -0.15,
            'thalamus': -0.1,
            'caudate': -0.1,
            'putamen': -0.05,
            'frontal_ribbon': -0.08,
        },
        'csf',
    ),
    Effect('none'),
)
#: Name -> effect. 'none' plants nothing: patients and controls both get a sham.
EFFECTS: dict[str, Effect] = {effect.name: effect for effect in _KNOWN}


def parse_effect(text: str) -> Effect:
    """Read an effect: a name, or ``region=change`` parts with an optional ``absorb=...``.

    Parameters
    ----------
    text : str
        A key of `EFFECTS`, or for instance ``'thalamus_left=-0.2,caudate=-0.1,absorb=shell'``.

    Returns
    -------
    Effect
        What to plant.

    Raises
    ------
    UsageError
        Neither a name nor such a text.

    Examples
    --------
    >>> parse_effect('thalamus_left').changes
    {'thalamus_left': -0.15}
    >>> parse_effect('putamen=-0.1, absorb=csf')
    Effect(name='putamen=-0.1, absorb=csf', changes={'putamen': -0.1}, absorb='csf')
    """
    if text in EFFECTS:
        return EFFECTS[text]
    advice = (
        f'Effects: {", ".join(EFFECTS)}; or say it in numbers, such as '
        'thalamus_left=-0.2,absorb=shell.'
    )
    changes: dict[str, float] = {}
    absorb = 'ventricles'
    for part in text.split(','):
        name, equals, value = (piece.strip() for piece in part.partition('='))
        if not equals:
            raise UsageError(f'There is no effect called {text!r}.', advice)
        if name == 'absorb':
            absorb = value
            continue
        check_region(name)
        try:
            changes[name] = float(value)
        except ValueError:
            raise UsageError(f'{value!r} is not a volume change of {name}.', advice) from None
    return Effect(text, changes, absorb)
