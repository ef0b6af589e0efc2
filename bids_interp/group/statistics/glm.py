"""GLM of one score per subject, tested by permuting residuals within blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from bids_interp.evaluation.exchange import exchange_orders
from bids_interp.group.statistics.design_matrix import MIN_DF, DesignMatrix, Term

#: Permutations per batch; memory grows with this times the number of subjects.
BATCH = 500
#: Reason for a design without terms.
NO_VARIATION = 'no variable varies between the subjects'


@dataclass(frozen=True)
class TermEffect:
    """Effect of one term of the model.

    Parameters
    ----------
    variable, contrast : str
        Name of the term, and the comparison that its effect describes.
    n, df : int
        Number of subjects, and residual degrees of freedom.
    p, least_p : float
        Two-sided p-value of the permutation test, and the smallest one that its exchanges allow.
    spread : float
        Factor on the standard deviation of the null distribution; see :func:`freedman_lane`. For a
        term with several columns, the largest factor.
    statistic : float
        t (estimate over standard error), or F for a term with several columns.
    kind : {'t', 'F'}
        Kind of the statistic.
    estimate, se, low, high : float, optional
        Effect on the score per unit of the variable (or between two levels), standard error and
        95 % interval; None for a term with several columns.
    cohen_d, d_low, d_high : float, optional
        Adjusted difference between two levels over the residual standard deviation.
    partial_r : float, optional
        Correlation of score and variable, both adjusted for the other terms.
    """

    variable: str
    contrast: str
    n: int
    df: int
    p: float
    least_p: float
    spread: float
    statistic: float
    kind: str
    estimate: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    cohen_d: float | None = None
    d_low: float | None = None
    d_high: float | None = None
    partial_r: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


def untestable_reason(design: DesignMatrix) -> str:
    """Return the reason why the design cannot be tested; empty if it can."""
    if not design.terms:
        return NO_VARIATION
    df = len(design.rows) - design.matrix().shape[1]
    if df < MIN_DF:
        return (
            f'{len(design.rows)} complete subjects leave {max(df, 0)} degrees of freedom for '
            f'{design.matrix().shape[1]} coefficients; at least {MIN_DF} are needed'
        )
    return ''


def fit_terms(
    score: np.ndarray,
    design: DesignMatrix,
    *,
    draws: int,
    seed: int,
    learned: np.ndarray | None = None,
) -> list[TermEffect]:
    """Return effect and permutation p-value of every term, adjusted for the others.

    Parameters
    ----------
    score : numpy.ndarray
        (N,) scores of the complete subjects.
    design : DesignMatrix
        Design matrix of the same subjects.
    draws, seed : int
        Number of permutations, and random seed.
    learned : numpy.ndarray, optional
        (N, L) directions of the labels that the models have learned; see :func:`freedman_lane`.
    """
    return [_effect(score, design, term, draws, seed, learned) for term in design.terms]


def _effect(
    score: np.ndarray,
    design: DesignMatrix,
    term: Term,
    draws: int,
    seed: int,
    learned: np.ndarray | None,
) -> TermEffect:
    reduced, full = design.matrix(term.name), design.matrix()
    df, width = len(score) - full.shape[1], term.columns.shape[1]
    f, p, least = freedman_lane(
        score,
        reduced,
        full,
        design.blocks,
        draws=draws,
        seed=seed,
        families=design.families,
        learned=learned,
    )
    spread = null_spread(added_basis(reduced, full), learned)
    shared: dict[str, Any] = {
        'variable': term.name,
        'contrast': term.contrast,
        'n': len(score),
        'df': df,
        'p': p,
        'least_p': least,
        'spread': spread,
    }
    if width > 1:
        return TermEffect(**shared, statistic=f, kind='F')
    own = residuals(term.columns, reduced)[:, 0]
    left = residuals(score[:, None], reduced)[:, 0]
    estimate = float(own @ left / (own @ own))
    sigma = float(np.sqrt(((left - own * estimate) ** 2).sum() / df))
    # Dependence through the labels of other subjects widens the interval as it does the test.
    se = spread * sigma / float(np.sqrt(own @ own))
    reach_df = df
    if design.has_families:
        se = spread * _family_error(own, left - own * estimate, design.families, df)
        reach_df = min(df, len(np.unique(design.families)) - full.shape[1])
    # With fewer families than coefficients the error is not known.
    reach = float(stats.t.ppf(0.975, reach_df)) * se if reach_df > 0 else None
    has_d = bool(term.levels) and sigma > 0
    has_interval = reach is not None
    low, high = (estimate - reach, estimate + reach) if reach is not None else (None, None)
    return TermEffect(
        **shared,
        statistic=float(np.sign(estimate) * np.sqrt(f)),
        kind='t',
        estimate=estimate,
        se=se if has_interval else None,
        low=low,
        high=high,
        cohen_d=estimate / sigma if has_d else None,
        d_low=low / sigma if has_d and low is not None else None,
        d_high=high / sigma if has_d and high is not None else None,
        partial_r=float(own @ left / np.sqrt((own @ own) * (left @ left))) if left.any() else 0.0,
    )


def _family_error(own: np.ndarray, rest: np.ndarray, families: np.ndarray, df: int) -> float:
    """Return the standard error of an effect with families as clusters (Liang and Zeger 1986)."""
    index = np.unique(families, return_inverse=True)[1]
    sums = np.bincount(index, weights=own * rest)
    n, count = len(own), len(sums)
    correction = (n - 1) / df * count / max(count - 1, 1)
    return float(np.sqrt(correction * (sums @ sums)) / (own @ own))


def residuals(values: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return the residuals of values (N, d) after fitting a design (N, P)."""
    basis, _ = np.linalg.qr(design)
    return values - basis @ (basis.T @ values)


def added_basis(reduced: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (N, d) of what a full design adds to a reduced one."""
    width = full.shape[1] - reduced.shape[1]
    return np.asarray(np.linalg.svd(residuals(full, reduced), full_matrices=False)[0][:, :width])


def null_spread(added: np.ndarray, learned: np.ndarray | None) -> float:
    """Return the largest factor on the null deviation of a term: 1 to the square root of two.

    Parameters
    ----------
    added : numpy.ndarray
        (N, d) orthonormal basis of the term, adjusted for the others.
    learned : numpy.ndarray, optional
        (N, L) orthonormal directions of the labels that the models have learned.

    Examples
    --------
    >>> label = np.array([[1.0], [-1.0], [1.0], [-1.0]]) / 2
    >>> other = np.array([[1.0], [1.0], [-1.0], [-1.0]]) / 2
    >>> [round(null_spread(x, label) ** 2, 2) for x in (label, 0.6 * label + 0.8 * other, other)]
    [2.0, 1.36, 1.0]
    """
    if learned is None or learned.shape[1] == 0:
        return 1.0
    return float(np.sqrt(1 + np.linalg.norm(added.T @ learned, 2) ** 2))


def freedman_lane(
    score: np.ndarray,
    reduced: np.ndarray,
    full: np.ndarray,
    blocks: np.ndarray,
    *,
    draws: int,
    seed: int,
    families: np.ndarray | None = None,
    learned: np.ndarray | None = None,
) -> tuple[float, float, float]:
    r"""Return F of the columns added by the full design, and its Freedman-Lane p-value.

    The residuals of the reduced model are permuted within blocks, added to its fit, and the full
    model is fitted again.

    Scores of cross-fitted subjects depend on the label that the models were trained for: the model
    of each fold has learned from the labels of the other folds. To first order the score of subject
    *i* is :math:`s_i = \sum_j y_j k_{ij}` over the subjects *j* of other folds, with the centred
    label *y* and the similarity *k* of two brains, :math:`k_{ij} = k_{ji}`. The effect of a
    covariate *x*, adjusted for the others, is proportional to :math:`\sum_{ij} x_i y_j k_{ij}`.
    Each pair occurs twice, so that its variance is proportional to
    :math:`\sum_{i<j} (x_i y_j + x_j y_i)^2 = |x|^2 |y|^2 (1 + r^2)` with the correlation *r* of
    *x* and *y*. Permutations with fixed models only show :math:`|x|^2 |y|^2`. For the label itself
    (:math:`r^2 = 1`) this is the factor of two of
    :func:`bids_interp.evaluation.exchange.permutation_test`; for a covariate that has nothing to
    do with the label it is 1. The observed effects are divided by the root of that factor. In a
    term with several columns only the part along the label is: their covariance under the null is
    :math:`1 + g g^T` with :math:`g = U^T y / |y|` in an orthonormal basis *U* of the term.

    Parameters
    ----------
    score : numpy.ndarray
        (N,) scores.
    reduced, full : numpy.ndarray
        (N, P) nested designs of full rank, with intercepts.
    blocks : numpy.ndarray
        (N,) exchangeability block of each subject.
    draws, seed : int
        Number of permutations, and random seed.
    families : numpy.ndarray, optional
        (N,) families, which are exchanged as wholes [default: one per subject].
    learned : numpy.ndarray, optional
        (N, L) orthonormal directions of the labels that the models have learned, 0 for subjects
        that were not used in the training [default: none].

    Returns
    -------
    float, float, float
        Observed F, the share of F values that reach it, including the observed one, and the
        smallest share that these exchanges allow.

    References
    ----------
    Freedman D, Lane D. A nonstochastic interpretation of reported significance levels. J Bus Econ
    Stat 1983;1:292-298. Winkler AM, Ridgway GR, Webster MA, Smith SM, Nichols TE. Permutation
    inference for the general linear model. NeuroImage 2014;92:381-397.
    """
    basis, added = np.linalg.qr(reduced)[0], added_basis(reduced, full)
    df, width = len(score) - full.shape[1], added.shape[1]
    along = added.T @ (np.zeros((len(score), 0)) if learned is None else learned)
    plain, narrowed = np.eye(width), np.linalg.inv(np.eye(width) + along @ along.T)

    def f_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total, effect = (values**2).sum(axis=0), added.T @ values
        rest = total - ((basis.T @ values) ** 2).sum(axis=0) - (effect**2).sum(axis=0)
        # A perfect fit leaves only rounding errors.
        rest = np.maximum(rest, 1e-12 * np.maximum(total, 1e-300))
        return np.asarray((effect * (weights @ effect)).sum(axis=0) / width / (rest / df))

    left = residuals(score[:, None], reduced)
    observed, unmoved = (float(f_of(left, weights)[0]) for weights in (narrowed, plain))
    kin = np.arange(len(score)) if families is None else families
    rng = np.random.default_rng(seed)
    beyond, equal, done = 0, 0, 0
    while done < draws:
        count = min(BATCH, draws - done)
        drawn = f_of(left[exchange_orders(kin, blocks, rng, count), 0].T, plain)
        beyond += int((drawn >= observed * (1 - 1e-9)).sum())
        equal += int((np.abs(drawn - unmoved) <= 1e-9 * unmoved).sum())
        done += count
    return observed, (1 + beyond) / (1 + draws), (1 + equal) / (1 + draws)
