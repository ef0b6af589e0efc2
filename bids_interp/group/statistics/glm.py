"""Linear model of one score per subject, tested by exchanging residuals within blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from bids_interp.group.statistics.design_matrix import MIN_DF, Design, Term

#: Exchanges that are computed at once: memory is this times the number of subjects.
BATCH = 500
#: Reason not to test a design without a term.
NO_VARIATION = 'no variable varies between the subjects'


@dataclass(frozen=True)
class Effect:
    """What one term adds to the model.

    Parameters
    ----------
    variable, contrast : str
        The term, and what its effect compares.
    n, df : int
        Subjects, and residual degrees of freedom.
    p : float
        Of the permutation test, two-sided.
    spread : float
        By how much the null distribution (its standard deviation) was widened, see
        :func:`freedman_lane`.
    statistic : float
        t (estimate over standard error), or F where the term has several columns.
    kind : {'t', 'F'}
        Which of them.
    estimate, se, low, high : float, optional
        Effect in units of the score per unit of the variable (or between two levels), its
        standard error and 95 % interval; None where the term has several columns.
    cohen_d, d_low, d_high : float, optional
        Adjusted difference of two levels over the residual standard deviation.
    partial_r : float, optional
        Correlation of score and variable, both without the other terms.
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
        """Plain types."""
        return asdict(self)


def why_not(design: Design) -> str:
    """Why the design cannot be tested; empty where it can."""
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
    score: np.ndarray, design: Design, *, draws: int, seed: int, spreads: dict[str, float]
) -> list[Effect]:
    """Effect and permutation p of every term, the others kept in the model.

    Parameters
    ----------
    score : numpy.ndarray
        (N,) of the complete subjects.
    design : Design
        Of the same subjects.
    draws, seed : int
        Of the permutations.
    spreads : dict
        Term to the factor by which its null distribution is widened; 1 where not named.
    """
    return [
        _effect(score, design, term, draws, seed, spreads.get(term.name, 1.0))
        for term in design.terms
    ]


def _effect(
    score: np.ndarray, design: Design, term: Term, draws: int, seed: int, spread: float
) -> Effect:
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
        return Effect(**shared, statistic=f / spread**2, kind='F')
    own = residuals(term.columns, reduced)[:, 0]
    left = residuals(score[:, None], reduced)[:, 0]
    estimate = float(own @ left / (own @ own))
    sigma = float(np.sqrt(((left - own * estimate) ** 2).sum() / df))
    # What the models have learned from the others' labels widens the interval as it does the test.
    se = spread * sigma / float(np.sqrt(own @ own))
    reach = float(stats.t.ppf(0.975, df)) * se
    has_d = bool(term.levels) and sigma > 0
    return Effect(
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
    """What a design (N, P) leaves of values (N, d)."""
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
    r"""F of the columns that the full design adds, and its p by exchanging residuals.

    The residuals of the reduced model are exchanged within blocks, added to its fit, and the full
    model is fitted again.

    Scores of cross-fitted subjects are not independent of the label that the models were trained
    for: the model of each fold has learned from the labels of the other folds. Exchanging labels
    while the models are held fixed then understates the variance of the effect of that label by
    two, as derived in :func:`bids_interp.evaluation.exchange.permutation_test`. For that term the
    null distribution is widened by a `spread` of :math:`\sqrt 2`: its F values are multiplied by
    the square of it.

    Parameters
    ----------
    score : numpy.ndarray
        (N,).
    reduced, full : numpy.ndarray
        (N, P) designs of full rank, with intercepts; the columns of the first span a part of the
        second.
    blocks : numpy.ndarray
        (N,) who may be exchanged with whom.
    draws, seed : int
        Of the exchanges.
    spread : float
        Factor on the standard deviation of the null distribution.

    Returns
    -------
    float, float
        Observed F; share of F values that reach it, the observed one among them.

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
        # A perfect fit leaves nothing but rounding.
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
