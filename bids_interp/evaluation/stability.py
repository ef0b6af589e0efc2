"""Agreement of maps of several subjects or trainings, voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: A voxel is reliable where at least this share of the subjects has the sign of the mean ...
SAME_SIGN = 0.9
#: ... and the mean change is at least this large (natural logarithm: two percent of volume).
MAGNITUDE = 0.02


def sign_agreement(maps: np.ndarray) -> np.ndarray:
    """Share of the maps (N, V) that have the sign of their mean, (V,); 0 where the mean is 0.

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
    """Voxels whose change is notable and of one sign over subjects and over folds.

    This is the only definition of a reliable voxel: group reports and the known-truth benchmark
    use it. It describes these subjects and these models; it is not a test.

    Parameters
    ----------
    mean : numpy.ndarray
        (V,) mean log-Jacobian of the subjects; has to reach :data:`MAGNITUDE`.
    same_sign : numpy.ndarray
        (V,) share of the subjects with the sign of the mean; has to reach :data:`SAME_SIGN`.
    fold_agreement : numpy.ndarray, optional
        (V,) share of the folds with the sign of their mean, which has to be 1; not asked for where
        the folds cannot be told apart.

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
    same = sign_agreement(stacked)
    found = {'mean': mean, 'sd': stacked.std(axis=0, ddof=1), 'samesign': same}
    return {name: data.astype(np.float32) for name, data in found.items()}
