"""Small brains and heads for the tests, on any grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy import ndimage


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def affine_for(codes: str, spacing, shape, centre=(0.0, 0.0, 0.0), tilt=(0.0, 0.0, 0.0)):
    """Voxel-to-world affine of a grid with these axis codes around a world point."""
    linear = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        linear['LRPAIS'.index(code) // 2, axis] = spacing[axis] * (1 if code in 'RAS' else -1)
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ linear
    affine[:3, 3] = np.asarray(centre) - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def seen_on(img, shape, affine, native_to_img=None) -> nib.Nifti1Image:
    """Sample an image on a grid whose world maps to the image's world by ``native_to_img``."""
    to_img = np.eye(4) if native_to_img is None else native_to_img
    voxel_map = np.linalg.inv(img.affine) @ to_img @ affine
    data = ndimage.affine_transform(
        np.asarray(img.dataobj, dtype=np.float32),
        voxel_map[:3, :3],
        offset=voxel_map[:3, 3],
        output_shape=shape,
        order=1,
    )
    out = nib.Nifti1Image(np.where(data > 1e-3, data, 0).astype(np.float32), affine)
    out.set_sform(affine, 1)
    out.set_qform(affine, 1)
    return out
