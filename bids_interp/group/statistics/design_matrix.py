"""Design of a linear model: who is complete, what is constant, what is collinear."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.errors import UsageError

#: Fewer residual degrees of freedom than this are not tested.
MIN_DF = 5
#: Reason of a variable that every image lacks.
NO_VALUES = 'nobody has a value'


@dataclass(frozen=True, eq=False)
class Term:
    """One variable of the model.

    Parameters
    ----------
    name : str
        Its column.
    columns : numpy.ndarray
        (N, d) numbers, centred; indicators of all levels but the first where it has levels.
    levels : tuple of str
        Levels in order, the reference first; empty for numbers.
    """

    name: str
    columns: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def contrast(self) -> str:
        """What its effect compares."""
        if not self.levels:
            return f'per unit of {self.name}'
        if len(self.levels) == 2:
            return f'{self.levels[1]} - {self.levels[0]}'
        return f'any difference between {", ".join(self.levels)}'


@dataclass(frozen=True, eq=False)
class Design:
    """Terms, blocks and who is in.

    Parameters
    ----------
    rows : numpy.ndarray
        Indices of the images that are complete.
    terms : list of Term
        Variables of the complete images.
    blocks : numpy.ndarray
        (N,) block of each of them; exchanges stay inside of a block, and each has its mean.
    left_out : dict
        Variable to the reason why it is not in the model.
    missing : dict
        Variable to the number of images that lack it.
    """

    rows: np.ndarray
    terms: list[Term]
    blocks: np.ndarray
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def intercepts(self) -> np.ndarray:
        """(N, B) indicator of each block."""
        names = np.unique(self.blocks)
        return (self.blocks[:, None] == names).astype(float)

    def matrix(self, without: str | None = None) -> np.ndarray:
        """(N, P) intercepts and terms, one term left out if asked to."""
        parts = [term.columns for term in self.terms if term.name != without]
        return np.concatenate([self.intercepts, *parts], axis=1)


def make_design(
    variables: Mapping[str, Sequence[str | float | None]],
    blocks: Sequence[str],
    *,
    required: Sequence[str] = (),
    first: Mapping[str, str] | None = None,
    levels: Collection[str] = (),
) -> Design:
    """Make the design of the images that have all variables.

    A variable that is the same for everybody is left out and told. One that the others determine
    is an error where it is required, and is else left out and told.

    Parameters
    ----------
    variables : mapping
        Name to N values; None where missing. Numbers or text of numbers are numeric, other text
        makes levels.
    blocks : sequence of str
        (N,) block of each image.
    required : sequence of str
        Variables that the user asked for.
    first : mapping, optional
        Reference level of a variable.
    levels : collection of str
        Variables whose values are names even where they are written as numbers.

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
    terms = []
    for name, values in used.items():
        own = [values[row] for row in rows]
        term = _term(name, own, (first or {}).get(name), is_numeric=name not in levels)
        if term is None:
            left_out[name] = f'the same for all {len(rows)} complete images'
        else:
            terms.append(term)
    design = Design(rows, terms, kept_blocks, left_out, missing)
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


def _without_collinear(design: Design, required: Sequence[str]) -> Design:
    """Check that no term is a combination of blocks and other terms."""
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
                'Leave one of them out (--covariates), or choose more subjects.',
            )
        left_out[term.name] = f'determined by {others}'
    order = [term.name for term in design.terms]
    terms.sort(key=lambda term: order.index(term.name))
    return Design(design.rows, terms, design.blocks, left_out, design.missing)


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """Columns of length 1, so that units do not decide about rank."""
    length = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(length > 0, length, 1.0)
