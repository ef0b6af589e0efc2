"""Palette of the figures, safe for colour-blind readers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Blue shrinks, red grows; this diverging map is readable with every kind of colour blindness.
DIVERGING = 'RdBu_r'
#: Colours of maps that do not show volume change.
SALIENCY_COLOURS = 'PuOr_r'
SHRINKS = '#2166ac'
GROWS = '#b2182b'
OBSERVED = '#333333'
INK = '#1c2733'
MASK_LINE = '#e69f00'
TEMPLATE_LINE = '#56b4e9'
TISSUE_LINE = '#f0e442'

#: Colours of the two directions outside of maps: Okabe and Ito's orange and green.
DIRECTION_COLOURS = {'inject': '#d55e00', 'remove': '#009e73'}


@dataclass(frozen=True)
class SignedScale:
    """Symmetric colour scale, by default of log-Jacobians.

    Parameters
    ----------
    limit : float
        Value of the end colours.
    colours : str
        Name of a Matplotlib colour map, white in the middle.
    """

    limit: float
    colours: str = DIVERGING

    @classmethod
    def fit(cls, *maps: np.ndarray) -> SignedScale:
        """Return a scale up to the 99.5th percentile of the absolute changes of all maps.

        >>> SignedScale.fit(np.zeros((3, 3, 3))).limit
        0.02
        """
        values = [np.abs(values[np.abs(values) > 1e-4]) for values in maps]
        pooled = np.concatenate(values) if values else np.zeros(0)
        reach = float(np.percentile(pooled, 99.5)) if pooled.size else 0.0
        # A scale below two percent of volume would show numerical noise.
        return cls(max(0.02, float(np.ceil(reach * 50) / 50)))

    def rgb(self, values: np.ndarray) -> np.ndarray:
        """Return colours (..., 3) in 0..1."""
        import matplotlib

        colours = matplotlib.colormaps[self.colours](0.5 + 0.5 * values / self.limit)
        return np.asarray(colours[..., :3])

    def over(self, grey: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Blend the map with a grey picture, which stays unchanged where the map is zero.

        Parameters
        ----------
        grey : numpy.ndarray
            Picture in 0..1.
        values : numpy.ndarray
            Log-Jacobian of the same shape.

        Returns
        -------
        numpy.ndarray
            (..., 3) in 0..1.
        """
        strength = np.clip(np.abs(values) / self.limit, 0, 1)
        # Opacity rises quickly to show weak changes, starts softly to hide noise, and never covers
        # the anatomy.
        onset = np.clip((strength - 0.03) / 0.22, 0, 1)
        alpha = (0.85 * np.sqrt(strength) * onset * onset * (3 - 2 * onset))[..., None]
        return (1 - alpha) * grey[..., None] + alpha * self.rgb(values)


def percent(log_jacobian: float) -> float:
    """Return the volume change in percent of a log-Jacobian.

    >>> round(percent(-0.1625), 1)
    -15.0
    """
    return 100.0 * float(np.expm1(log_jacobian))
