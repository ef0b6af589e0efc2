"""Grid and brain mask of a model, derived from a template."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import binary_dilation

from bids_interp.errors import UsageError
from bids_interp.spatial import Grid, resample

#: Margin around the template's brain, for larger brains.
MARGIN_MM = 8.0
#: Divisor of the grid sizes, because the stages of the networks halve them.
MULTIPLE = 4
#: Smallest share of brain in a voxel of the mask, before the mask is dilated.
SHARE = 0.3


def model_grid(
    template: nib.Nifti1Image, space: str, spacing_mm: float, cube: int = 0
) -> tuple[Grid, np.ndarray]:
    """Make a grid around the brain of a template, and the mask in which brains may lie.

    Parameters
    ----------
    template : nibabel.Nifti1Image
        Brain image, 0 outside.
    space : str
        Name of the template.
    spacing_mm : float
        Isotropic voxel size.
    cube : int
        Voxels along each axis. With 0, the grid fits the brain and a margin.

    Returns
    -------
    grid : Grid
        RAS+, centred on the brain.
    mask : numpy.ndarray
        (X, Y, Z) bool, the template's brain dilated by one voxel.

    Raises
    ------
    UsageError
        If the brain does not fit into the cube.
    """
    data = np.asarray(template.dataobj)
    fine = Grid.from_image(template, space)
    corners = fine.world_coordinates()[:, data > 0]
    low, high = corners.min(axis=1), corners.max(axis=1)
    needed = np.ceil((high - low) / spacing_mm).astype(int) + 1
    if cube:
        if (needed > cube).any():
            raise UsageError(
                f'{cube} voxels of {spacing_mm:g} mm are too few for the brain of {space}, which '
                f'needs {" x ".join(map(str, needed))}.',
                'Choose a coarser --resolution.',
            )
        shape = np.full(3, cube)
    else:
        roomy = (high - low + 2 * MARGIN_MM) / spacing_mm
        shape = (np.ceil(roomy / MULTIPLE) * MULTIPLE).astype(int)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (low + high) / 2 - spacing_mm * (shape - 1) / 2
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine, space)
    return grid, template_mask(template, grid)


def template_mask(template: nib.Nifti1Image, grid: Grid) -> np.ndarray:
    """Resample the brain of a template to a grid and dilate it by one voxel, (X, Y, Z) bool."""
    brain = torch.from_numpy((np.asarray(template.dataobj) > 0).astype(np.float32))[None, None]
    share = resample(brain, Grid.from_image(template), grid, antialias=True)[0, 0].numpy()
    return binary_dilation(share > SHARE)
