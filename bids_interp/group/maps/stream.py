"""Stream statistics of maps, one map at a time: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

#: Number of values updated together, small enough for the cache of a core.
CHUNK = 1 << 15


@dataclass
class RunningStatistics:
    """Running mean, standard deviation and signs of maps (Welford 1962).

    Parameters
    ----------
    size : int
        Number of values of each map.
    """

    size: int
    n: int = 0
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)
    positive: np.ndarray = field(init=False)
    negative: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.size)
        self.squares = np.zeros(self.size)
        self.positive = np.zeros(self.size, np.int32)
        self.negative = np.zeros(self.size, np.int32)

    def add(self, values: np.ndarray) -> None:
        """Add one map (size,).

        Examples
        --------
        >>> running = RunningStatistics(1)
        >>> for value in (1.0, 2.0, 6.0):
        ...     running.add(np.array([value]))
        >>> running.mean.tolist(), running.sd.round(4).tolist()
        ([3.0], [2.6458])
        """
        self.n += 1
        for start in range(0, self.size, CHUNK):
            part = slice(start, start + CHUNK)
            new, mean = values[part], self.mean[part]
            step = new - mean
            mean += step / self.n
            self.squares[part] += step * (new - mean)
            self.positive[part] += new > 0
            self.negative[part] += new < 0

    @property
    def sd(self) -> np.ndarray:
        """Return the standard deviation between maps (divided by n - 1); NaN for fewer than two."""
        if self.n < 2:
            return np.full(self.size, np.nan)
        return np.sqrt(self.squares / (self.n - 1))

    @property
    def same_sign(self) -> np.ndarray:
        """Return the share of the maps with the sign of the mean."""
        agreeing = np.where(self.mean > 0, self.positive, self.negative)
        return np.where(self.mean == 0, 0.0, agreeing / max(self.n, 1))


def merge_statistics(parts: Iterable[RunningStatistics]) -> RunningStatistics:
    """Merge statistics of disjoint sets of maps (Chan, Golub and LeVeque 1983)."""
    parts = [part for part in parts if part.n]
    if not parts:
        raise ValueError('There are no maps to merge.')
    total = RunningStatistics(parts[0].size)
    for part in parts:
        n = total.n + part.n
        step = part.mean - total.mean
        total.squares += part.squares + step**2 * (total.n * part.n / n)
        total.mean += step * (part.n / n)
        total.positive += part.positive
        total.negative += part.negative
        total.n = n
    return total
