"""NIfTI images in memory: one affine in sform and qform, distances in mm."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

#: NIfTI codes: what the world coordinates of an image mean.
SCANNER_CODE, TEMPLATE_CODE = 1, 4


def make_image(data: np.ndarray, affine: np.ndarray, code: int = SCANNER_CODE) -> nib.Nifti1Image:
    """Return an image whose sform and qform are ``affine`` (4 x 4, voxels to RAS+ mm).

    Examples
    --------
    >>> image = make_image(np.zeros((2, 2, 2), np.float32), np.eye(4), TEMPLATE_CODE)
    >>> int(image.header['sform_code']), int(image.header['qform_code'])
    (4, 4)
    """
    image = nib.Nifti1Image(data, affine)
    stamp(image, affine, code)
    return image


def image_like(data: np.ndarray, image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return a float32 image of ``data`` with the geometry of another image."""
    code = int(image.header['sform_code'])
    return make_image(np.asarray(data, dtype=np.float32), image.affine, code)


def stamp(image: nib.Nifti1Image, affine: np.ndarray, code: int) -> None:
    """Set sform and qform of an image to one affine, their code (at least 1) and the unit.

    A qform cannot hold shears; it is then left unset, so that the two never contradict.
    """
    code = max(SCANNER_CODE, code)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):
        image.set_qform(None, 0)
    image.header.set_xyzt_units('mm')


def is_stamped(image: Any, code: int) -> bool:
    """Return True if sform and qform have this code and agree; the qform may be unset."""
    qform, qcode = image.get_qform(coded=True)
    sform, scode = image.get_sform(coded=True)
    if qcode == 0:
        return bool(scode == code)
    return scode == qcode == code and np.allclose(qform, sform, atol=1e-3)
