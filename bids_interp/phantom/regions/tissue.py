"""Tissue regions: structures cut out of the tissue maps of the MNI152 template by level sets.

They are drawn from other data than the ellipsoids of :mod:`bids_interp.phantom.regions.coarse`, so
that a benchmark may plant changes that do not depend on these.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from bids_interp.spatial import Grid, resample

#: Boxes in MNI152 mm, from corner to corner, and distance of grey matter from the midline.
_TEMPORAL_BOX = ((-37.0, -37.0, -29.0), (38.0, 4.0, -6.0))
_TEMPORAL_INNER = 14.0
_FLUID_BOX = ((-39.0, -49.0, -3.0), (40.0, 36.0, 34.0))
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
    box = _FLUID_BOX if name == 'ventricular_fluid' else _TEMPORAL_BOX
    start, stop = (_voxel(corner, image.affine) for corner in box)
    part = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
    source = Grid.from_image(image).crop(start, stop)
    grey = np.asarray(image.dataobj[part], np.float32)
    if name == 'medial_temporal_grey':
        # The middle of the box lies between both sides.
        sides = np.abs(source.world_coordinates()[0]) > _TEMPORAL_INNER
        region = (grey > 0.5) & sides
    else:
        white = np.asarray(load_mni152_wm_template(resolution=1).dataobj[part], np.float32)
        brain = np.asarray(load_mni152_brain_mask(resolution=1).dataobj[part]) > 0
        fluid = ndimage.binary_opening(brain & (grey + white < 0.5))
        parts, _ = ndimage.label(fluid)
        region = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    data = torch.from_numpy(region.astype(np.float32))[None, None]
    return resample(data, source, grid, antialias=True)[0, 0].numpy().clip(0, 1)


def _voxel(corner: tuple[float, float, float], affine: np.ndarray) -> np.ndarray:
    return np.rint((np.linalg.inv(affine) @ [*corner, 1.0])[:3]).astype(int)
