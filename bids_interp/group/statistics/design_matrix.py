"""Design matrix of a linear model: complete cases, constant and collinear variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.errors import UsageError

#: Minimum residual degrees of freedom for a test.
MIN_DF = 5
#: Reason for a variable without any value.
NO_VALUES = 'no subject has a value'


@dataclass(frozen=True, eq=False)
class Term:
    """One variable of the model.

    Parameters
    ----------
    name : str
        Name of the variable.
    columns : numpy.ndarray
        (N, d) centred numbers, or centred indicators of all levels but the first.
    levels : tuple of str
        Levels in order, the reference first; empty for numbers.
    """

    name: str
    columns: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def contrast(self) -> str:
        """Return the comparison that the effect describes."""
        if not self.levels:
            return f'per unit of {self.name}'
        if len(self.levels) == 2:
            return f'{self.levels[1]} - {self.levels[0]}'
        return f'any difference between {", ".join(self.levels)}'


@dataclass(frozen=True, eq=False)
class DesignMatrix:
    """Terms and blocks of the complete images.

    Parameters
    ----------
    rows : numpy.ndarray
        Indices of the complete images.
    terms : list of Term
        Terms of the model.
    blocks : numpy.ndarray
        (N,) exchangeability block of each image; each block has an intercept.
    families : numpy.ndarray
        (N,) family of each image; families are exchanged as wholes.
    left_out : dict
        Reasons of omitted variables.
    missing : dict
        Number of images with a missing value, by variable.
    """

    rows: np.ndarray
    terms: list[Term]
    blocks: np.ndarray
    families: np.ndarray
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def intercepts(self) -> np.ndarray:
        """Return the indicators of the blocks, (N, B)."""
        names = np.unique(self.blocks)
        return (self.blocks[:, None] == names).astype(float)

    @property
    def has_families(self) -> bool:
        """Return whether any family has several images."""
        return len(np.unique(self.families)) < len(self.families)

    def matrix(self, without: str | None = None) -> np.ndarray:
        """Return intercepts and terms (N, P), optionally without one term."""
        parts = [term.columns for term in self.terms if term.name != without]
        return np.concatenate([self.intercepts, *parts], axis=1)


def make_design_matrix(
    variables: Mapping[str, Sequence[str | float | None]],
    blocks: Sequence[str],
    *,
    families: Sequence[str] | None = None,
    required: Sequence[str] = (),
    first: Mapping[str, str] | None = None,
    levels: Collection[str] = (),
) -> DesignMatrix:
    """Return the design matrix of the images that have all variables.

    Constant variables are omitted with a reason. A variable that is determined by others is an
    error if it is required; otherwise it is omitted with a reason.

    Parameters
    ----------
    variables : mapping
        N values by name, None if missing. Numbers, also as text, are numeric; other text defines
        levels.
    blocks : sequence of str
        (N,) exchangeability block of each image.
    families : sequence of str, optional
        (N,) family of each image [default: one per image].
    required : sequence of str
        Variables requested by the user.
    first : mapping, optional
        Reference levels by variable.
    levels : collection of str
        Variables that are categorical even if written as numbers.

    Raises
    ------
    UsageError
        If required variables are collinear.
    """
    n = len(blocks)
    complete = np.ones(n, bool)
    left_out, missing = {}, {}
    used: dict[str, list[str | float | None]] = {}
    for name, values in variables.items():
        lacks = np.array([value is None for value in values])
        if lacks.all():
            left_out[name] = NO_VALUES
            continue
        if lacks.any():
            missing[name] = int(lacks.sum())
        complete &= ~lacks
        used[name] = list(values)
    rows = np.flatnonzero(complete)
    kept_blocks = np.asarray(blocks, dtype=str)[rows]
    kin = np.arange(n).astype(str) if families is None else np.asarray(families, dtype=str)
    terms = []
    for name, values in used.items():
        own = [values[row] for row in rows]
        term = _term(name, own, (first or {}).get(name), is_numeric=name not in levels)
        if term is None:
            left_out[name] = f'constant over the {len(rows)} complete images'
        else:
            terms.append(term)
    design = DesignMatrix(rows, terms, kept_blocks, kin[rows], left_out, missing)
    return _without_collinear(design, required)


def _term(
    name: str, values: Sequence[str | float | None], first: str | None, *, is_numeric: bool
) -> Term | None:
    texts = [None if value is None else str(value) for value in values]
    numbers = as_numbers(texts) if is_numeric else None
    if len(set(texts)) < 2:
        return None
    if numbers is not None:
        if np.ptp(numbers) == 0:
            return None
        return Term(name, (numbers - numbers.mean())[:, None])
    levels = sorted({str(text) for text in texts})
    if first in levels:
        levels = [str(first), *(level for level in levels if level != first)]
    columns = np.array([[text == level for level in levels[1:]] for text in texts], float)
    return Term(name, columns - columns.mean(axis=0), tuple(levels))


def _without_collinear(design: DesignMatrix, required: Sequence[str]) -> DesignMatrix:
    """Omit terms that are combinations of blocks and other terms."""
    terms: list[Term] = []
    left_out = dict(design.left_out)
    ordered = sorted(design.terms, key=lambda term: term.name not in required)
    basis = design.intercepts
    for term in ordered:
        joint = np.concatenate([basis, term.columns], axis=1)
        rank = np.linalg.matrix_rank(_scaled(joint))
        if rank == joint.shape[1]:
            terms.append(term)
            basis = joint
            continue
        others = ', '.join(other.name for other in terms) or 'the folds'
        if rank > basis.shape[1]:
            others += f' in some of its {len(term.levels)} levels'
        if term.name in required:
            raise UsageError(
                f'The design is collinear: {term.name} is determined by {others} among the '
                f'{len(design.rows)} complete images.',
                'Omit one of them (--covariates), or include more subjects.',
            )
        left_out[term.name] = f'determined by {others}'
    order = [term.name for term in design.terms]
    terms.sort(key=lambda term: order.index(term.name))
    return replace(design, terms=terms, left_out=left_out)


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """Scale columns to length 1, so that the rank does not depend on units."""
    length = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(length > 0, length, 1.0)
