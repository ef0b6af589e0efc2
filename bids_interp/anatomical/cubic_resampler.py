"""Cubic resampler: an image on the template's grid, through an affine.

The brain that users receive in template space deserves a cubic interpolation, which PyTorch does
not have in 3-D. Everything inside the model uses :func:`bids_interp.spatial.resample` instead,
which is linear, differentiable and runs on a GPU.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.nifti import TEMPLATE_CODE, make_image
from bids_interp.spatial.mask import main_components

#: Share of the largest brightness below which an interpolated value is background.
RINGING = 1e-4
#: Share of the brain below which a separate piece of it is such a trace, about 1 ml.
ISLAND_SHARE = 1e-3


def resample_to_template(
    img: nib.Nifti1Image,
    template: nib.Nifti1Image,
    native_to_template: np.ndarray,
    order: int = 3,
) -> nib.Nifti1Image:
    """Resample a native image onto the template's grid.

    Parameters
    ----------
    img : Nifti1Image
        Native brain, 0 outside.
    template : Nifti1Image
        Image with the target grid.
    native_to_template : ndarray (4, 4)
        Matrix from native to template world points, RAS mm.
    order : int
        Order of the spline; 1 for masks.

    Returns
    -------
    Nifti1Image
        float32 on the template's grid; not negative if the input is not.
    """
    voxel_map = np.linalg.inv(img.affine) @ np.linalg.inv(native_to_template) @ template.affine
    data = np.asarray(img.dataobj, dtype=np.float32)
    out = np.zeros(template.shape, dtype=np.float32)
    box = _image_box(data, np.linalg.inv(voxel_map), template.shape)
    offset = voxel_map[:3, :3] @ np.array([s.start for s in box]) + voxel_map[:3, 3]
    out[box] = ndimage.affine_transform(
        data,
        voxel_map[:3, :3],
        offset=offset,
        output_shape=tuple(s.stop - s.start for s in box),
        order=order,
        output=np.float32,
    )
    if data.min() >= 0:
        # Splines ring: remove the traces that they leave far from the brain.
        out[out < RINGING * data.max()] = 0
    return make_image(out, template.affine, TEMPLATE_CODE)


def brain_in_template(
    brain: nib.Nifti1Image,
    mask: nib.Nifti1Image,
    template: nib.Nifti1Image,
    native_to_template: np.ndarray,
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a brain and its mask on the template's grid.

    Parameters
    ----------
    brain, mask : Nifti1Image
        Native brain, 0 outside, and its mask, 0 and 1.
    template : Nifti1Image
        Image with the target grid.
    native_to_template : ndarray (4, 4)
        Matrix from native to template world points, RAS mm.

    Returns
    -------
    Nifti1Image, Nifti1Image
        The brain, 0 outside the mask, and the mask, 0 and 1: voxels of which at least half lies in
        the native mask, without fragments.
    """
    share = resample_to_template(mask, template, native_to_template, order=1)
    inside = main_components(np.asarray(share.dataobj) >= 0.5)
    placed = resample_to_template(brain, template, native_to_template)
    # Splines ring beyond the border of the brain, and in closed sulci of a stripped image.
    data = np.asarray(placed.dataobj) * inside
    data *= main_components(data > 0, ISLAND_SHARE)
    return (
        make_image(data, template.affine, TEMPLATE_CODE),
        make_image(inside.astype(np.uint8), template.affine, TEMPLATE_CODE),
    )


def _image_box(
    data: np.ndarray, to_target: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Return the part of the target grid that nonzero data can reach."""
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero(np.any(data != 0, axis=others))
        spans.append((used[0] - 1, used[-1] + 1) if used.size else (0, 0))
    corners = np.array(np.meshgrid(*spans, indexing='ij')).reshape(3, -1)
    reached = to_target[:3, :3] @ corners + to_target[:3, 3:]
    low = np.clip(np.floor(reached.min(axis=1)).astype(int) - 2, 0, np.array(shape) - 1)
    high = np.clip(np.ceil(reached.max(axis=1)).astype(int) + 3, low + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]
