"""How far maps of several trainings agree, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stability_maps(maps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean, spread and agreement on the sign of maps of several trainings.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        At least two, (X, Y, Z) each: one of each fold, or of each seed.

    Returns
    -------
    dict
        ``mean``; ``sd``, the standard deviation between the maps (divided by n - 1); ``samesign``,
        the share of the maps whose sign is that of the mean, 0 where the mean is 0. (X, Y, Z)
        float32 each.

    Raises
    ------
    ValueError
        If there are fewer than two.

    Examples
    --------
    >>> found = stability_maps([np.full((1, 1, 1), 0.2), np.full((1, 1, 1), -0.1)])
    >>> {name: round(float(data[0, 0, 0]), 3) for name, data in found.items()}
    {'mean': 0.05, 'sd': 0.212, 'samesign': 0.5}
    """
    if len(maps) < 2:
        raise ValueError('Agreement needs at least two maps.')
    stacked = np.asarray(maps, np.float64)
    mean = stacked.mean(axis=0)
    same = (np.sign(stacked) == np.sign(mean)).mean(axis=0)
    found = {'mean': mean, 'sd': stacked.std(axis=0, ddof=1), 'samesign': same * (mean != 0)}
    return {name: data.astype(np.float32) for name, data in found.items()}
