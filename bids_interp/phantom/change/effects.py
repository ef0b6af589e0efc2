"""Named effects that a phantom dataset can carry, and the short text that makes up a new one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bids_interp.errors import UsageError
from bids_interp.phantom.regions.coarse import check_region


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
_ADVICE = (
    f'Effects: {", ".join(EFFECTS)}; or say it in numbers, such as thalamus_left=-20%,absorb=shell.'
)


def parse_effect(text: str | Sequence[str], names: Collection[str] | None = None) -> Effect:
    """Read an effect: a name, or ``region=change`` parts with an optional ``absorb=...``.

    Parameters
    ----------
    text : str or sequence of str
        A key of `EFFECTS`, or for instance ``'thalamus_left=-20%,caudate=-0.1,absorb=shell'``;
        several texts make up one effect.
    names : collection of str, optional
        Names of an atlas, which may hold commas and equal signs; regions are looked up there and
        not among the built-in ones.

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
    >>> parse_effect(['putamen=-10%', 'absorb=csf'])
    Effect(name='putamen=-10%, absorb=csf', changes={'putamen': -0.1}, absorb='csf')
    """
    texts = [text] if isinstance(text, str) else list(text)
    if len(texts) == 1 and texts[0] in EFFECTS and names is None:
        return EFFECTS[texts[0]]
    changes: dict[str, float] = {}
    absorb = 'ventricles'
    for part in [part for one in texts for part in _parts(one, names or ())]:
        name, equals, value = (piece.strip() for piece in part.rpartition('='))
        if not equals:
            raise UsageError(f'There is no effect called {part!r}.', _ADVICE)
        if name == 'absorb':
            absorb = value
            continue
        if names is None:
            check_region(name)
        if name in changes:
            raise UsageError(f'{name} is to change twice.', 'Name each region once.')
        changes[name] = _share(name, value)
    return Effect(', '.join(texts), changes, absorb)


def _parts(text: str, names: Collection[str]) -> list[str]:
    whole = text.rpartition('=')[0].strip()
    return [text] if whole in names else text.split(',')


def _share(name: str, value: str) -> float:
    """Volume change as a share: -0.15 or -15%."""
    try:
        number = float(value.removesuffix('%'))
    except ValueError:
        raise UsageError(f'{value!r} is not a volume change of {name}.', _ADVICE) from None
    return round(number / 100, 12) if value.endswith('%') else number
