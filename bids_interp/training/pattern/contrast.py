"""Contrast of measured volumes between classes, with covariates and family effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from bids_interp.errors import TrainingError
from bids_interp.evaluation.exchange import exchange_labels

#: Exchanges of the labels that give the standard errors.
EXCHANGES = 200
#: Smallest number of different exchanges.
FEWEST_EXCHANGES = 10
#: Share of the variance of the regressor, below which the covariates explain it completely.
NEARLY_EXPLAINED = 1e-6
#: Share of the median standard error in that of each voxel, which steadies small samples.
STEADY = 0.2


@dataclass(frozen=True)
class VolumeContrast:
    """Estimated effect of a contrast on local volumes.

    Parameters
    ----------
    effects : numpy.ndarray
        (V,) difference of log volumes per unit of the regressor.
    errors : numpy.ndarray
        (V,) standard errors.
    """

    effects: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class ContrastDesign:
    """Regressor of interest, covariates and groups of dependent images.

    Parameters
    ----------
    values : numpy.ndarray
        (N,) regressor: 0 and 1 for two classes, shares of a class, or values.
    families : numpy.ndarray
        (N,) groups of related images.
    participants : numpy.ndarray
        (N,) participants, see :func:`bids_interp.evaluation.exchange.exchange_labels`.
    covariates : numpy.ndarray
        (N, C) other columns of the model, possibly none.
    """

    values: np.ndarray
    families: np.ndarray
    participants: np.ndarray
    covariates: np.ndarray


def contrast_volumes(volumes: np.ndarray, design: ContrastDesign, seed: int) -> VolumeContrast:
    """Estimate the effect of a regressor on each voxel.

    The model has a constant, the covariates and random effects of the families. One ratio of
    variances serves all voxels. If the classes differ within families, anatomy that is common to a
    family cancels; with one image per family, the estimate is that of ordinary least squares.
    Standard errors are the standard deviations of the estimate under exchanged labels, computed
    from residuals, because the exchanges would otherwise contain the effect.

    Parameters
    ----------
    volumes : numpy.ndarray
        (N, V) log volumes.
    design : ContrastDesign
        Model of the images.
    seed : int
        Seed of the exchanges.

    Raises
    ------
    TrainingError
        If the covariates explain the regressor, or too few families can exchange their labels.

    References
    ----------
    Balestra P, Nerlove M. Pooling cross section and time series data in the estimation of a dynamic
    model. Econometrica 1966;34(3):585-612 (transformation for random effects).
    """
    others = np.column_stack([np.ones(len(volumes)), design.covariates])
    columns = np.column_stack([others, design.values])
    ratio = variance_ratio(_residuals(volumes, columns), design.families, columns.shape[1])
    volumes, others = (_whiten(part, design.families, ratio) for part in (volumes, others))
    row = _contrast_row(design.values, design.families, ratio, others)
    if not row.any():
        raise TrainingError(
            'The covariates explain the label completely, so their effects cannot be separated.',
            'Omit the covariate that has the same values as the label.',
        )
    effects = row.astype(volumes.dtype) @ volumes
    columns = np.column_stack([others, _whiten(design.values, design.families, ratio)])
    residuals = _residuals(volumes, columns)
    rng = np.random.default_rng(seed)
    drawn = exchange_labels(
        design.values,
        design.families,
        np.zeros(len(volumes), int),
        rng,
        EXCHANGES,
        participants=design.participants,
    )
    if len(np.unique(drawn, axis=0)) < FEWEST_EXCHANGES:
        raise TrainingError(
            'A class has too few families to estimate what varies by chance.',
            'Use more subjects.',
        )
    rows = np.stack([_contrast_row(one, design.families, ratio, others) for one in drawn])
    freedom = max(1, len(volumes) - columns.shape[1])
    scale = np.sqrt(len(volumes) / freedom)
    errors = scale * (rows.astype(volumes.dtype) @ residuals).std(axis=0)
    known = errors > 0
    if known.any():
        errors[known] = (1 - STEADY) * errors[known] + STEADY * np.median(errors[known])
    return VolumeContrast(effects, errors)


def variance_ratio(residuals: np.ndarray, families: np.ndarray, n_columns: int) -> float:
    """Return the variance between families divided by that within them, averaged over the voxels.

    Parameters
    ----------
    residuals : numpy.ndarray
        (N, V) residuals of the model without family effects.
    families : numpy.ndarray
        (N,) groups.
    n_columns : int
        Number of columns of that model.

    Returns
    -------
    float
        At least 0; 0 if no family has two images.
    """
    _, codes, counts = np.unique(families, return_inverse=True, return_counts=True)
    within_freedom = len(codes) - len(counts) - n_columns + 1
    if within_freedom < 1 or len(counts) < 2:
        return 0.0
    means = _family_means(residuals, codes, counts)
    within = np.square(residuals - means[codes]).sum(axis=0) / within_freedom
    between = (counts[:, None] * np.square(means)).sum(axis=0) / (len(counts) - 1)
    known = within > 0
    if not known.any():
        return 0.0
    size = (len(codes) - np.square(counts).sum() / len(codes)) / (len(counts) - 1)
    return float(max(0.0, np.median(between[known] / within[known] - 1) / size))


def _family_means(values: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    weights = (1 / counts[codes]).astype(values.dtype)
    members = csr_array((weights, (codes, np.arange(len(codes)))))
    return (members @ values.reshape(len(codes), -1)).reshape(-1, *values.shape[1:])


def _whiten(values: np.ndarray, families: np.ndarray, ratio: float) -> np.ndarray:
    """Subtract a share of the family means, which makes the errors of the images independent."""
    if not ratio:
        return values
    _, codes, counts = np.unique(families, return_inverse=True, return_counts=True)
    shares = 1 - 1 / np.sqrt(1 + counts * ratio)
    values = np.asarray(values)
    means = _family_means(values, codes, counts)
    shares = shares[codes].astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
    return values - shares * means[codes]


def _residuals(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return residuals (N, V) of least squares on columns (N, P)."""
    basis = _basis(columns).astype(values.dtype)
    return values - basis @ (basis.T @ values)


def _basis(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (N, R) of columns, of which some may depend on others."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-9 * sizes.max(initial=0)]


def _contrast_row(
    values: np.ndarray, families: np.ndarray, ratio: float, others: np.ndarray
) -> np.ndarray:
    """Return the row (N,) whose product with whitened volumes is the effect of the regressor."""
    own = _whiten(np.asarray(values, np.float64), families, ratio)
    basis = _basis(others)
    own = own - basis @ (basis.T @ own)
    size = float(own @ own)
    spread = np.square(values - values.mean()).sum()
    return own / size if size > NEARLY_EXPLAINED * spread else np.zeros_like(own)
