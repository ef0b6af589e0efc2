"""Bias field correction with N4."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_interp.anatomical import ants_tools
from bids_interp.anatomical.ants_process import captured
from bids_interp.nifti import image_like

FIT_MM = 5.0  # the field is much smoother than this, and the fit takes only seconds


@captured()
def correct_bias(
    img: nib.Nifti1Image, *, mask: nib.Nifti1Image | None = None, threads: int = 1
) -> nib.Nifti1Image:
    """Divide a T1w image by its N4 bias field (Tustison et al. 2010).

    The field is fitted to tissue in voxels of 5 mm (a shrink factor of about 4) and evaluated on
    the image's own grid.

    Parameters
    ----------
    img : Nifti1Image
        3-D, float.
    mask : Nifti1Image, optional
        Voxels to fit, same grid; by default all tissue brighter than the background.
    threads : int
        Number of ANTs threads.

    Returns
    -------
    Nifti1Image
        float32, same grid, same median brightness within the mask.
    """
    ants = ants_tools.load_ants(threads)
    low = ants_tools.at_spacing(img, FIT_MM)
    values = np.clip(low.numpy(), 0, None)
    floor = max(float(np.percentile(values, 99.5)) * 1e-3, float(np.finfo(np.float32).tiny))
    low = low.new_image_like(np.maximum(values, floor))
    if mask is None:
        inside = values > 0.15 * np.percentile(values, 99)
    else:
        coarse = ants.resample_image_to_target(ants_tools.to_ants(mask), low, interp_type='linear')
        inside = coarse.numpy() > 0.5
    field = ants.n4_bias_field_correction(
        low,
        mask=low.new_image_like(inside.astype(np.float32)),
        shrink_factor=1,
        convergence={'iters': [20, 20, 20, 20], 'tol': 1e-5},
        return_bias_field=True,
    )
    logarithm = _extended(np.log(np.clip(field.numpy(), 0.05, 20)), inside)
    logarithm -= np.median(logarithm[inside])
    smooth = low.new_image_like(logarithm.astype(np.float32))
    target = ants_tools.to_ants(img)
    full = ants.resample_image_to_target(smooth, target, interp_type='linear').numpy()
    data = np.asarray(img.dataobj, dtype=np.float32) * np.exp(-full)
    return image_like(data, img)


def _extended(field: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Extrapolate the field beyond the fitted voxels, so that borders are not amplified."""
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return ndimage.gaussian_filter(field[tuple(nearest)], 1.0, mode='nearest')
