"""Stability of maps over subjects or trainings, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Smallest share of subjects with the sign of the mean in a reliable voxel.
SAME_SIGN = 0.9
#: Smallest mean change of a reliable voxel (natural logarithm: two percent of volume).
MAGNITUDE = 0.02


def sign_agreement(maps: np.ndarray) -> np.ndarray:
    """Share of maps (N, V) with the sign of their mean, (V,); 0 where the mean is 0.

    Examples
    --------
    >>> sign_agreement(np.array([[1.0, -1.0], [2.0, 2.0], [3.0, -3.0], [4.0, -4.0]])).tolist()
    [1.0, 0.75]
    """
    sign = np.sign(maps.mean(axis=0))
    agree = (np.sign(maps) == sign).mean(axis=0)
    return np.where(sign == 0, 0.0, agree)


def reliable_voxels(
    mean: np.ndarray, same_sign: np.ndarray, fold_agreement: np.ndarray | None
) -> np.ndarray:
    """Select voxels with a notable mean change and a consistent sign over subjects and folds.

    Group reports and the known-truth benchmark use this definition of a reliable voxel. It
    describes the given subjects and models and is not a statistical test.

    Parameters
    ----------
    mean : numpy.ndarray
        (V,) mean log-Jacobian of the subjects, at least :data:`MAGNITUDE` in reliable voxels.
    same_sign : numpy.ndarray
        (V,) share of subjects with the sign of the mean, at least :data:`SAME_SIGN`.
    fold_agreement : numpy.ndarray, optional
        (V,) share of folds with the sign of their mean, which must be 1; None if the maps do not
        distinguish the folds.

    Returns
    -------
    numpy.ndarray
        (V,) bool.

    Examples
    --------
    >>> mean, share = np.array([0.02, -0.1, 0.01, 0.1]), np.array([0.9, 1.0, 1.0, 0.8])
    >>> reliable_voxels(mean, share, None).tolist()
    [True, True, False, False]
    >>> reliable_voxels(mean, share, np.array([1.0, 0.5, 1.0, 1.0])).tolist()
    [True, False, False, False]
    """
    voxels = (np.abs(mean) >= MAGNITUDE) & (same_sign >= SAME_SIGN)
    return voxels if fold_agreement is None else voxels & (fold_agreement == 1)


def stability_maps(maps: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Compute mean, standard deviation and sign agreement of maps of several trainings.

    Parameters
    ----------
    maps : sequence of numpy.ndarray
        At least two maps (X, Y, Z), one per fold or seed.

    Returns
    -------
    dict
        ``mean``; ``sd``, standard deviation between the maps (divided by n - 1); ``samesign``,
        share of maps with the sign of the mean, 0 where the mean is 0. (X, Y, Z) float32 each.

    Raises
    ------
    ValueError
        If there are fewer than two maps.

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
    same = sign_agreement(stacked)
    found = {'mean': mean, 'sd': stacked.std(axis=0, ddof=1), 'samesign': same}
    return {name: data.astype(np.float32) for name, data in found.items()}
