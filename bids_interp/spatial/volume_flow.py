"""Volume flow: the curl-free velocity whose flow has a wanted log-Jacobian inside the brain."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from bids_interp.spatial.fields import exponential
from bids_interp.spatial.grid import Grid
from bids_interp.spatial.jacobian import count_folded, log_jacobian
from bids_interp.spatial.poisson import gradient_velocity

#: Space around the grid in which the velocity decays.
MARGIN_MM = 32.0
#: Distance from the brain over which its surroundings begin to take up volume.
RAMP_MM = 8.0
ITERATIONS = 12
#: Root mean square difference from the wanted log-Jacobian, relative to its own, that is enough.
CLOSE = 0.01


def padded_grid(grid: Grid) -> tuple[Grid, tuple[slice, slice, slice]]:
    """Return the grid with a margin on all sides, and the slices of the original in it.

    An axis of one voxel, as in a two-dimensional image, gets no margin.
    """
    widths = np.ceil(MARGIN_MM / grid.spacing).astype(int)
    pads = np.where(np.array(grid.shape) > 1, widths, 0)
    inner = [slice(int(p), int(p) + size) for p, size in zip(pads, grid.shape, strict=True)]
    wide = grid.crop(-pads, np.array(grid.shape) + pads)
    return wide, (inner[0], inner[1], inner[2])


class VolumeFlow:
    """Velocities that flow out of sources inside a brain, without rotation.

    What flows out of the brain is taken up evenly by its surroundings, and the velocity decays
    smoothly there.

    Parameters
    ----------
    grid : Grid
        Grid of the sources.
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.
    """

    def __init__(self, grid: Grid, mask: np.ndarray) -> None:
        self.grid, self.mask = grid, mask
        self.wide, self.inner = padded_grid(grid)
        outside = np.ones(self.wide.shape, bool)
        outside[self.inner] = ~mask
        distance = distance_transform_edt(outside, sampling=self.wide.spacing)
        uptake = np.minimum(distance / RAMP_MM, 1)
        self.uptake = uptake / uptake.sum()

    def velocity(self, source: np.ndarray) -> np.ndarray:
        """Return the velocity of a source.

        Parameters
        ----------
        source : numpy.ndarray
            (X, Y, Z) divergence per unit time; values outside the brain are ignored.

        Returns
        -------
        numpy.ndarray
            (3, X, Y, Z) float32, mm along world axes: the gradient of a potential.
        """
        whole = np.zeros(self.wide.shape, np.float32)
        whole[self.inner] = np.where(self.mask, source, 0)
        whole -= (whole.sum(dtype=np.float64) * self.uptake).astype(np.float32)
        return gradient_velocity(whole, self.wide)[:, *self.inner]

    def fit_source(self, wanted: np.ndarray) -> np.ndarray:
        """Find the source whose flow has a wanted log-Jacobian inside the brain.

        The map is wanted halfway: it is log det D exp(v/2) - log det D exp(-v/2), the change from
        the one end of the flow to the other, at the points of its middle. A contrast of two classes
        is measured there, and exchanged classes then exchange the two directions. The source is
        corrected by the difference that remains, until that is small or no longer falls.

        Parameters
        ----------
        wanted : numpy.ndarray
            (X, Y, Z) log-Jacobian at dose 1.

        Returns
        -------
        numpy.ndarray
            (X, Y, Z) float32, 0 outside the brain. Its flow has no folds; if the wanted
            log-Jacobian cannot be reached without, the whole source is weakened.
        """
        wanted = np.where(self.mask, wanted, 0).astype(np.float32)
        size = float(np.sqrt(np.square(wanted[self.mask]).mean())) if self.mask.any() else 0.0
        if not size:
            return wanted
        source, best = wanted.copy(), (np.inf, wanted)
        for _ in range(ITERATIONS):
            found = self._change_halfway(source)
            if found is None:
                break
            residual = np.where(self.mask, wanted - found, 0)
            error = float(np.sqrt(np.square(residual[self.mask]).mean())) / size
            if error < best[0]:
                best = (error, source.copy())
            if error < CLOSE or error > 2 * best[0]:
                break
            source = source + residual
        source = best[1]
        while any(self._log_jacobian(sign * self.velocity(source)) is None for sign in (1, -1)):
            source = 0.8 * source
        return source.astype(np.float32)

    def _change_halfway(self, source: np.ndarray) -> np.ndarray | None:
        """Return the change (X, Y, Z) over the flow of a source at its middle; None if it folds."""
        half = self.velocity(source) / 2
        ahead, back = self._log_jacobian(half), self._log_jacobian(-half)
        return None if ahead is None or back is None else ahead - back

    def _log_jacobian(self, velocity: np.ndarray) -> np.ndarray | None:
        """Return the log-Jacobian (X, Y, Z) of the flow of a velocity; None if it folds."""
        forward = exponential(torch.from_numpy(velocity)[None], self.grid)
        inside = torch.from_numpy(self.mask)[None, None]
        if not torch.isfinite(forward).all() or count_folded(forward, self.grid, inside):
            return None
        return log_jacobian(forward, self.grid)[0, 0].numpy()
