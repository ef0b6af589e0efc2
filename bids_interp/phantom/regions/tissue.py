"""Tissue regions: structures cut out of the tissue maps of the MNI152 template by level sets.

They are drawn from other data than the ellipsoids of :mod:`bids_interp.phantom.regions.coarse`, so
that a benchmark may plant changes that do not depend on these.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from bids_interp.spatial import Grid, resample

#: Boxes in MNI152 mm, from corner to corner: of the right side, and of both sides.
_TEMPORAL_BOX = ((14.0, -38.0, -30.0), (38.0, 4.0, -6.0))
_FLUID_BOX = ((-40.0, -50.0, -4.0), (40.0, 36.0, 34.0))
TISSUE_REGIONS = ('medial_temporal_grey', 'ventricular_fluid')


def tissue_mask(name: str, grid: Grid) -> np.ndarray:
    """Return a tissue region on a grid in MNI152 space.

    Parameters
    ----------
    name : {'medial_temporal_grey', 'ventricular_fluid'}
        Grey matter of both medial temporal lobes, or the lateral ventricles.
    grid : Grid
        Grid to draw on.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32, share of each voxel in [0, 1].

    References
    ----------
    Fonov V, Evans AC, Botteron K, et al. Unbiased average age-appropriate atlases for pediatric
    studies. NeuroImage 2011;54(1):313-327. The tissue maps are those of nilearn's wheel.
    """
    from nilearn.datasets import (
        load_mni152_brain_mask,
        load_mni152_gm_template,
        load_mni152_wm_template,
    )

    image = load_mni152_gm_template(resolution=1)
    source = Grid.from_image(image)
    grey = image.get_fdata()
    points = source.world_coordinates()
    if name == 'medial_temporal_grey':
        sides = np.stack([np.abs(points[0]), points[1], points[2]])
        region = (grey > 0.5) & _in_box(sides, _TEMPORAL_BOX)
    else:
        tissue = grey + load_mni152_wm_template(resolution=1).get_fdata()
        brain = load_mni152_brain_mask(resolution=1).get_fdata() > 0
        fluid = brain & (tissue < 0.5) & _in_box(points, _FLUID_BOX)
        parts, _ = ndimage.label(ndimage.binary_opening(fluid))
        region = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    data = torch.from_numpy(region.astype(np.float32))[None, None]
    return resample(data, source, grid, antialias=True)[0, 0].numpy().clip(0, 1)


def _in_box(points: np.ndarray, box: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    low, high = (np.array(corner)[:, None, None, None] for corner in box)
    return np.asarray(((points > low) & (points < high)).all(axis=0))
