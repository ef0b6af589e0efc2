"""Shrinkage of noisy effects by a sparse prior that is learned from the effects themselves."""

from __future__ import annotations

import numpy as np

#: Standard deviations of the components of the prior, in standard errors. The first is a point mass
#: at zero.
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
ITERATIONS = 150


def shrink_effects(effects: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the posterior means of effects under a scale mixture of normals.

    The weights of the mixture are those with the highest marginal likelihood of all effects (EM).
    If most effects are zero, small effects are shrunk to nearly zero and large ones hardly.

    Parameters
    ----------
    effects, errors : numpy.ndarray
        (V,) estimates and their standard errors; an effect without an error becomes 0.

    Returns
    -------
    numpy.ndarray
        (V,) posterior means.

    References
    ----------
    Stephens M. False discovery rates: a new deal. Biostatistics 2017;18(2):275-294.
    """
    known = errors > 0
    shrunk = np.zeros(effects.shape)
    if not known.any():
        return shrunk
    ratios = (effects[known] / errors[known]).astype(np.float64)
    variances = 1 + np.square(SCALES)
    # Densities up to a factor per effect, so that extreme ratios do not underflow.
    logs = -0.5 * (np.square(ratios)[:, None] / variances + np.log(variances))
    densities = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights = np.full(len(SCALES), 1 / len(SCALES))
    for _ in range(ITERATIONS):
        shares = densities * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = shares.mean(axis=0)
    shares = densities * weights
    shares /= shares.sum(axis=1, keepdims=True)
    shrunk[known] = effects[known] * (shares @ (1 - 1 / variances))
    return shrunk
