"""Re-measured volume change: a registration measures a simulated image, whatever its map claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import linregress

from bids_interp.anatomical.deformation import register_log_jacobian
from bids_interp.spatial import Grid

#: Smallest number of regions for a slope and a correlation.
MIN_REGIONS = 3


class Agreement(NamedTuple):
    """Agreement of re-measured with claimed volume changes; NaN if it is not defined.

    Parameters
    ----------
    slope : float
        Slope of the least-squares line of re-measured on claimed changes; 1 is right.
    r : float
        Pearson correlation of the two.
    """

    slope: float
    r: float


@dataclass(frozen=True, eq=False)
class Remeasurement:
    """Claimed and re-measured volume changes of one simulation.

    Parameters
    ----------
    regions : tuple of str
        Names of the regions.
    claimed, measured : numpy.ndarray
        (R,) relative volume change of each region from the scan to the simulation: according to
        the log-Jacobian map, and according to the registration of the two images.
    """

    regions: tuple[str, ...]
    claimed: np.ndarray
    measured: np.ndarray

    @property
    def agreement(self) -> Agreement:
        """Agreement of the two over regions."""
        return remeasured_agreement(self.claimed, self.measured)


def remeasured_agreement(
    claimed: np.ndarray | Sequence[float], measured: np.ndarray | Sequence[float]
) -> Agreement:
    """Return slope and Pearson correlation of re-measured on claimed volume changes over regions.

    The line has an intercept, as the correlation has: a change that the registration sees in every
    region alike does not count as agreement.

    Parameters
    ----------
    claimed, measured : array_like
        (R,) relative volume changes; regions in which either is not finite are left out.

    Returns
    -------
    Agreement
        NaN with fewer than :data:`MIN_REGIONS` regions, and where claimed or measured changes do
        not differ between regions.

    Examples
    --------
    >>> slope, r = remeasured_agreement([-0.2, 0.0, 0.1, 0.3], [-0.1, 0.0, 0.05, 0.15])
    >>> round(slope, 6), round(r, 6)
    (0.5, 1.0)
    """
    told, found = np.asarray(claimed, float), np.asarray(measured, float)
    finite = np.isfinite(told) & np.isfinite(found)
    told, found = told[finite], found[finite]
    if len(told) < MIN_REGIONS or np.ptp(told) == 0 or np.ptp(found) == 0:
        return Agreement(float('nan'), float('nan'))
    line = linregress(told, found)
    return Agreement(float(line.slope), float(line.rvalue))


def regional_changes(log_jacobian: np.ndarray, regions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the relative volume change of each region, (R,): the mean of exp(log-Jacobian) - 1.

    Parameters
    ----------
    log_jacobian : numpy.ndarray
        (X, Y, Z) log-Jacobian.
    regions : mapping of str to numpy.ndarray
        Masks (X, Y, Z) by name; an empty one gives NaN.
    """
    return np.array(
        [np.expm1(log_jacobian[mask]).mean() if mask.any() else np.nan for mask in regions.values()]
    )


def remeasure(
    image: np.ndarray,
    simulated: np.ndarray,
    log_jacobian: np.ndarray,
    grid: Grid,
    regions: Mapping[str, np.ndarray],
    *,
    threads: int = 1,
    seed: int = 0,
) -> Remeasurement:
    """Measure a simulated image again, by a registration that does not know the model.

    The scan is registered to its simulation with the settings that measure the local volumes of
    scans (:func:`bids_interp.anatomical.deformation.register_log_jacobian`: SyN, local
    correlation).

    Parameters
    ----------
    image, simulated : numpy.ndarray
        (X, Y, Z) brains, 0 outside: the scan and its simulation.
    log_jacobian : numpy.ndarray
        (X, Y, Z) map of the simulation: the claimed change from the scan to the simulation.
    grid : Grid
        Grid of the three; a few millimetres are fine enough.
    regions : mapping of str to numpy.ndarray
        Boolean masks (X, Y, Z) by name, on the anatomy of the scan.
    threads, seed : int
        Threads and seed of ANTs.

    Raises
    ------
    ImageError
        If ANTs gives up.
    """
    found = register_log_jacobian(simulated, image, grid, threads=threads, seed=seed)
    return Remeasurement(
        tuple(regions),
        regional_changes(log_jacobian, regions),
        regional_changes(found, regions),
    )
