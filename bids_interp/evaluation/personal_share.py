"""Personal share: the part of a map that is not common to all people."""

from __future__ import annotations

import numpy as np

#: Below this share, maps do not differ by more than the accuracy of a log-Jacobian on a grid.
ROUNDING_SHARE = 0.01


def personal_share(maps: np.ndarray, blocks: np.ndarray | None = None) -> np.ndarray:
    r"""Return the personal share of the map of each person.

    The share is :math:`\|v_i - \bar v\| / \|v_i\|` with the mean :math:`\bar v` over people. It is
    0 if the map is the same for everybody, and about 1 if maps of different people have nothing in
    common.

    Parameters
    ----------
    maps : numpy.ndarray
        (N, V) maps inside the brain, of one direction and dose.
    blocks : numpy.ndarray, optional
        (N,) models that explain each person. Maps are compared with the mean over the same models,
        because differences between models are not personal [default: the same for all].

    Returns
    -------
    numpy.ndarray
        (N,) shares; NaN for a map of zeros and for a person who is alone in a block.

    Examples
    --------
    >>> personal_share(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).round(3).tolist()
    [0.745, 0.745, 0.333]
    """
    values = np.asarray(maps)
    names = np.zeros(len(values)) if blocks is None else np.asarray(blocks)
    shares = np.full(len(values), np.nan)
    for name in np.unique(names):
        inside = np.flatnonzero(names == name)
        if len(inside) < 2:
            continue
        mean = values[inside].mean(axis=0, dtype=np.float64)
        for index in inside:
            length = np.linalg.norm(values[index].astype(np.float64))
            if length > 0:
                shares[index] = np.linalg.norm(values[index] - mean) / length
    return shares


def typical_share(shares: np.ndarray) -> float | None:
    """Return the median of the known shares; None if none is known."""
    known = np.asarray(shares, float)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else None
