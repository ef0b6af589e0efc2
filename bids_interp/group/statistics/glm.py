"""GLM of one score per subject, tested by permuting residuals within blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

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
    p : float
        Two-sided p-value of the permutation test.
    spread : float
        Factor on the standard deviation of the null distribution; see :func:`freedman_lane`.
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
    score: np.ndarray, design: DesignMatrix, *, draws: int, seed: int, spreads: dict[str, float]
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
    spreads : dict
        Factor on the null distribution by term; 1 by default.
    """
    return [
        _effect(score, design, term, draws, seed, spreads.get(term.name, 1.0))
        for term in design.terms
    ]


def _effect(
    score: np.ndarray, design: DesignMatrix, term: Term, draws: int, seed: int, spread: float
) -> TermEffect:
    reduced, full = design.matrix(term.name), design.matrix()
    df, width = len(score) - full.shape[1], term.columns.shape[1]
    f, p = freedman_lane(score, reduced, full, design.blocks, draws=draws, seed=seed, spread=spread)
    shared: dict[str, Any] = {
        'variable': term.name,
        'contrast': term.contrast,
        'n': len(score),
        'df': df,
        'p': p,
        'spread': spread,
    }
    if width > 1:
        return TermEffect(**shared, statistic=f / spread**2, kind='F')
    own = residuals(term.columns, reduced)[:, 0]
    left = residuals(score[:, None], reduced)[:, 0]
    estimate = float(own @ left / (own @ own))
    sigma = float(np.sqrt(((left - own * estimate) ** 2).sum() / df))
    # Dependence through the labels of other subjects widens the interval as it does the test.
    se = spread * sigma / float(np.sqrt(own @ own))
    reach = float(stats.t.ppf(0.975, df)) * se
    has_d = bool(term.levels) and sigma > 0
    return TermEffect(
        **shared,
        statistic=float(np.sign(estimate) * np.sqrt(f)) / spread,
        kind='t',
        estimate=estimate,
        se=se,
        low=estimate - reach,
        high=estimate + reach,
        cohen_d=estimate / sigma if has_d else None,
        d_low=(estimate - reach) / sigma if has_d else None,
        d_high=(estimate + reach) / sigma if has_d else None,
        partial_r=float(own @ left / np.sqrt((own @ own) * (left @ left))) if left.any() else 0.0,
    )


def residuals(values: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Return the residuals of values (N, d) after fitting a design (N, P)."""
    basis, _ = np.linalg.qr(design)
    return values - basis @ (basis.T @ values)


def freedman_lane(
    score: np.ndarray,
    reduced: np.ndarray,
    full: np.ndarray,
    blocks: np.ndarray,
    *,
    draws: int,
    seed: int,
    spread: float = 1.0,
) -> tuple[float, float]:
    r"""Return F of the columns added by the full design, and its Freedman-Lane p-value.

    The residuals of the reduced model are permuted within blocks, added to its fit, and the full
    model is fitted again.

    Scores of cross-fitted subjects depend on the label that the models were trained for: the model
    of each fold has learned from the labels of the other folds. Permuting labels with fixed models
    underestimates the variance of the effect of that label by a factor of two, as derived in
    :func:`bids_interp.evaluation.exchange.permutation_test`. For that term the null distribution
    is widened by a `spread` of :math:`\sqrt 2`: its F values are multiplied by the square of it.

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
    spread : float
        Factor on the standard deviation of the null distribution.

    Returns
    -------
    float, float
        Observed F, and the share of F values that reach it, including the observed one.

    References
    ----------
    Freedman D, Lane D. A nonstochastic interpretation of reported significance levels. J Bus Econ
    Stat 1983;1:292-298. Winkler AM, Ridgway GR, Webster MA, Smith SM, Nichols TE. Permutation
    inference for the general linear model. NeuroImage 2014;92:381-397.
    """
    bases = np.linalg.qr(reduced)[0], np.linalg.qr(full)[0]
    df, width = len(score) - full.shape[1], full.shape[1] - reduced.shape[1]

    def f_of(values: np.ndarray) -> np.ndarray:
        total = (values**2).sum(axis=0)
        left = [total - ((basis.T @ values) ** 2).sum(axis=0) for basis in bases]
        # A perfect fit leaves only rounding errors.
        rest = np.maximum(left[1], 1e-12 * np.maximum(total, 1e-300))
        return np.asarray((left[0] - left[1]) / width / (rest / df))

    left = residuals(score[:, None], reduced)[:, 0]
    observed = float(f_of(left[:, None])[0])
    rng = np.random.default_rng(seed)
    beyond, done = 0, 0
    while done < draws:
        count = min(BATCH, draws - done)
        drawn = np.repeat(left[:, None], count, axis=1)
        for block in np.unique(blocks):
            inside = np.flatnonzero(blocks == block)
            drawn[inside] = rng.permuted(drawn[inside], axis=0)
        beyond += int((f_of(drawn) * spread**2 >= observed * (1 - 1e-9)).sum())
        done += count
    return observed, (1 + beyond) / (1 + draws)
