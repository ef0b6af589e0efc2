"""Deformation between a template and a brain aligned with it, measured as local volumes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_process import scratch_folder
from bids_interp.anatomical.brain_masks import brain_mask_of
from bids_interp.anatomical.itk import itk_text
from bids_interp.constants import ANATOMY_MM
from bids_interp.errors import ImageError
from bids_interp.spatial import Grid, log_jacobian, resample

# Voxels are several mm wide: two levels and a radius of one voxel reach the same agreement as a
# radius of two voxels with more iterations, five times faster.
_SYN = ants_tools.Stage('SyN[0.2,3,0]', 'CC[%s,%s,1,1]', '40x10', '2x1', '1x0')


def measure_anatomy(
    brain: nib.Nifti1Image, template: nib.Nifti1Image, *, threads: int = 1, seed: int = 0
) -> nib.Nifti1Image:
    """Return local volumes of a brain relative to a template (tensor-based morphometry).

    Parameters
    ----------
    brain, template : nibabel.Nifti1Image
        Brains, 0 outside, aligned by an affine; their grids may differ.
    threads, seed : int
        Threads and seed of ANTs.

    Returns
    -------
    nibabel.Nifti1Image
        (X, Y, Z) float32 on the field of view of the template with voxels of
        :data:`bids_interp.constants.ANATOMY_MM`: log-Jacobian of the map from the template to the
        brain, positive where the brain is larger than the template, 0 outside the template's brain.

    Raises
    ------
    ImageError
        If ANTs gives up.
    """
    grid = Grid.from_image(template).with_spacing(ANATOMY_MM)
    mask = brain_mask_of(template)
    moving, fixed, inside = (
        resample(
            torch.from_numpy(np.asarray(image.dataobj, np.float32))[None, None],
            Grid.from_image(image),
            grid,
            antialias=True,
        )[0, 0].numpy()
        for image in (brain, template, mask)
    )
    volumes = register_log_jacobian(moving, fixed, grid, threads=threads, seed=seed)
    return grid.to_image(volumes * (inside > 0.5))


def register_log_jacobian(
    image: np.ndarray, template: np.ndarray, grid: Grid, *, threads: int = 1, seed: int = 0
) -> np.ndarray:
    """Return the log-Jacobian of the map from a template to an image (ANTs SyN, local correlation).

    Parameters
    ----------
    image, template : numpy.ndarray
        (X, Y, Z) brains, 0 outside, aligned by an affine.
    grid : Grid
        Grid of both.
    threads, seed : int
        Threads and seed of ANTs.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32 on ``grid``, positive where the image is larger than the template.

    Raises
    ------
    ImageError
        If ANTs gives up.
    """
    ants_tools.load_ants(threads)
    fixed, moving = (
        ants_tools.to_ants(grid.to_image(np.asarray(data, np.float32)))
        for data in (template, image)
    )
    with scratch_folder() as folder:
        start = folder / 'identity.txt'
        start.write_text(itk_text(np.eye(4)))
        try:
            with ants_tools.run_registration(
                fixed, moving, [_SYN], seed=seed, initial=str(start)
            ) as (forward, _):
                field = np.asarray(nib.load(forward[0]).dataobj, np.float32)
        except RuntimeError as error:
            raise ImageError(
                f'A brain could not be registered to the template: {error}.'
            ) from error
    # ITK's vectors are LPS; the voxels of the file are those of the template.
    displacement = np.moveaxis(field[..., 0, :], -1, 0) * np.array(
        [-1.0, -1.0, 1.0], np.float32
    ).reshape(3, 1, 1, 1)
    return log_jacobian(torch.from_numpy(displacement)[None], grid)[0, 0].numpy()
