"""Effects of phantom datasets: named volume changes, and a parser of custom ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bids_interp.errors import UsageError
from bids_interp.phantom.regions.coarse import check_region


@dataclass(frozen=True)
class VolumeEffect:
    """Relative volume changes at severity 1, and the region that absorbs them."""

    name: str
    changes: dict[str, float] = field(default_factory=dict)
    absorb: str = 'ventricles'


_NAMED = (
    # The effect of the demonstration model, far stronger than any disease.
    VolumeEffect('hippocampus', {'hippocampus': -0.45, 'amygdala': -0.45, 'parahippocampal': -0.3}),
    VolumeEffect('hippocampus_mild', {'hippocampus': -0.15, 'amygdala': -0.15}),
    VolumeEffect('thalamus_left', {'thalamus_left': -0.15}),
    VolumeEffect('ventricles', {'ventricles': 0.3}, 'shell'),
    VolumeEffect('frontal', {'frontal_ribbon': -0.15}, 'shell'),
    VolumeEffect(
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
    VolumeEffect('none'),
)
#: Name -> effect. 'none' plants nothing: patients and controls both get a sham.
EFFECTS: dict[str, VolumeEffect] = {effect.name: effect for effect in _NAMED}
_ADVICE = (
    f'Choose from {", ".join(EFFECTS)}, or give numbers, such as thalamus_left=-20%,absorb=shell.'
)


def parse_effect(text: str | Sequence[str], names: Collection[str] | None = None) -> VolumeEffect:
    """Read an effect: a name, or ``region=change`` parts with an optional ``absorb=...``.

    Parameters
    ----------
    text : str or sequence of str
        Key of `EFFECTS`, or for instance ``'thalamus_left=-20%,caudate=-0.1,absorb=shell'``.
        Several texts are combined into one effect.
    names : collection of str, optional
        Region names of an atlas that replace the built-in ones. They may contain commas and equal
        signs.

    Returns
    -------
    VolumeEffect
        Parsed effect.

    Raises
    ------
    UsageError
        If the text is neither the name of an effect nor a list of changes.

    Examples
    --------
    >>> parse_effect('thalamus_left').changes
    {'thalamus_left': -0.15}
    >>> parse_effect(['putamen=-10%', 'absorb=csf'])
    VolumeEffect(name='putamen=-10%, absorb=csf', changes={'putamen': -0.1}, absorb='csf')
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
            raise UsageError(f'{name} is named twice.', 'Name each region once.')
        changes[name] = _share(name, value)
    return VolumeEffect(', '.join(texts), changes, absorb)


def _parts(text: str, names: Collection[str]) -> list[str]:
    whole = text.rpartition('=')[0].strip()
    return [text] if whole in names else text.split(',')


def _share(name: str, value: str) -> float:
    """Parse a volume change such as -0.15 or -15%."""
    try:
        number = float(value.removesuffix('%'))
    except ValueError:
        raise UsageError(f'{value!r} is not a volume change of {name}.', _ADVICE) from None
    return round(number / 100, 12) if value.endswith('%') else number
