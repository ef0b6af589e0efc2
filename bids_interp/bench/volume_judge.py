"""Volume judge: a classifier of regional volumes that judges simulations.

A classifier of another seed or family may respond to the same texture; a logistic regression on the
volumes of regions cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from bids_interp.spatial import Grid, warp


def region_volumes(
    regions: np.ndarray, grid: Grid, log_jacobian: np.ndarray | None = None
) -> np.ndarray:
    """Return the volumes of regions, before or after a change.

    Parameters
    ----------
    regions : numpy.ndarray
        (R, X, Y, Z) weights in [0, 1] on the grid of the observed image.
    grid : Grid
        Grid of the observed image.
    log_jacobian : numpy.ndarray, optional
        (X, Y, Z) of the forward map; if given, the volumes after it are returned.

    Returns
    -------
    numpy.ndarray
        (R,) mm^3.

    Examples
    --------
    >>> grid = Grid((2, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
    >>> region_volumes(np.ones((1, 2, 2, 2)), grid)
    array([64.])
    >>> region_volumes(np.ones((1, 2, 2, 2)), grid, np.full((2, 2, 2), np.log(0.5)))
    array([32.])
    """
    factor = 1.0 if log_jacobian is None else np.exp(log_jacobian.astype(np.float64))
    return (regions * factor).sum(axis=(1, 2, 3), dtype=np.float64) * grid.voxel_volume


def regions_of_image(regions: np.ndarray, pull_back: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the regions of the template in the space of an image.

    Parameters
    ----------
    regions : numpy.ndarray
        (R, X, Y, Z) weights in template space.
    pull_back : numpy.ndarray
        (3, X, Y, Z) mm, deformation that made the image from the template-space brain.
    grid : Grid
        Grid of both.
    """
    data = torch.from_numpy(regions.astype(np.float32))[None]
    field = torch.from_numpy(pull_back.astype(np.float32))[None]
    return warp(data, field, grid)[0].numpy()


@dataclass(frozen=True)
class VolumeJudge:
    """Logistic regression on the logarithms of volumes.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        Fitted model.
    """

    model: Pipeline

    @classmethod
    def fit(cls, volumes: np.ndarray, labels: np.ndarray) -> VolumeJudge:
        """Fit volumes (N, R) in mm^3 to labels (N,) 0 and 1."""
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight='balanced'))
        return cls(model.fit(np.log(volumes), labels))

    def decide(self, volumes: np.ndarray) -> np.ndarray:
        """Return logits (N,) of volumes (N, R)."""
        return np.asarray(self.model.decision_function(np.log(volumes)))
