"""Headers of NIfTI images: the choice of a valid affine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.errors import ImageError

ROTATION_TOLERANCE = 1.0  # degrees
SPACING_TOLERANCE = 0.02  # relative
ORIGIN_TOLERANCE = 2.0  # mm
# Cosines between two axes: below the first, rounding of float32; above the second (half a degree),
# not rounding any more.
EXACT_SHEAR, SHEAR_TOLERANCE = 1e-3, float(np.sin(np.radians(0.5)))
NO_AFFINE = (
    'Convert the original DICOM files again (dcm2niix), '
    'or set the sform if you know which side is left.'
)


def trusted_affine(img: nib.Nifti1Image, path: Path) -> tuple[np.ndarray, int, list[str]]:
    """Return the affine of an image: the sform, unless it is invalid or pixdim confirms the qform.

    A shear below half a degree is rounding; the nearest affine without shear is returned.

    Parameters
    ----------
    img : Nifti1Image
        Image as loaded.
    path : Path
        File name for messages.

    Returns
    -------
    affine : ndarray (4, 4)
        Voxel to world, RAS+ mm.
    code : int
        NIfTI code of the form that was used.
    warnings : list of str
        Warnings about damaged or contradictory forms.

    Raises
    ------
    ImageError
        If neither form is valid, or the chosen one is sheared.
    """
    sform, sform_word = _form(img, 'sform')
    qform, qform_word = _form(img, 'qform')
    if sform is None and qform is None:
        detail = f'sform: {sform_word}; qform: {qform_word}'
        raise ImageError(f'The orientation of {path} is unknown ({detail}).', NO_AFFINE)
    warnings = []
    if sform is None and sform_word != 'not set':
        warnings.append(f'The sform is {sform_word}; the qform was used.')
    if qform is None and qform_word != 'not set':
        warnings.append(f'The qform is {qform_word}; the sform was used.')
    if sform is not None and qform is not None:
        difference = disagreement(sform, qform)
        loses = not _has_pixdim(sform, img) and _has_pixdim(qform, img)
        if difference:
            used = 'qform, which has the voxel size of the header,' if loses else 'sform'
            warnings.append(
                f'qform and sform disagree ({difference}); the {used} was used. '
                'Check left and right in the report.'
            )
        sform = None if loses else sform
    affine = np.asarray(qform if sform is None else sform, dtype=np.float64)
    code = int(img.header['qform_code' if sform is None else 'sform_code'])
    return _without_shear(affine, img.shape[:3], path, warnings), code, warnings


def disagreement(first: np.ndarray, second: np.ndarray) -> str:
    """Describe how two affines (4, 4) differ; empty if they agree within the tolerances.

    Examples
    --------
    >>> disagreement(np.eye(4), np.diag([-1, 1, 1, 1]))
    'one of them is mirrored'
    >>> disagreement(np.eye(4), np.eye(4))
    ''
    """
    spacings = [np.linalg.norm(a[:3, :3], axis=0) for a in (first, second)]
    if np.any(np.abs(spacings[0] / spacings[1] - 1) > SPACING_TOLERANCE):
        return 'voxel sizes differ'
    if np.linalg.det(first[:3, :3]) * np.linalg.det(second[:3, :3]) < 0:
        return 'one of them is mirrored'
    axes = [a[:3, :3] / s for a, s in zip((first, second), spacings, strict=True)]
    cosine = (np.trace(axes[0].T @ axes[1]) - 1) / 2
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    if angle > ROTATION_TOLERANCE:
        return f'rotated by {angle:.1f} degrees'
    shift = float(np.linalg.norm(first[:3, 3] - second[:3, 3]))
    return f'shifted by {shift:.1f} mm' if shift > ORIGIN_TOLERANCE else ''


def _form(img: nib.Nifti1Image, which: str) -> tuple[np.ndarray | None, str]:
    """Return a form and its status; None if it is not valid."""
    if int(img.header[f'{which}_code']) <= 0:
        return None, 'not set'
    try:
        affine = np.asarray(getattr(img.header, f'get_{which}')(), dtype=np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None, 'damaged'
    if not np.all(np.isfinite(affine)):
        return None, 'not finite'
    if abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        return None, 'singular'
    return affine, 'valid'


def _has_pixdim(affine: np.ndarray, img: nib.Nifti1Image) -> bool:
    """Return whether an affine has the voxel size of the header, or the header has none."""
    pixdim = np.asarray(img.header['pixdim'][1:4], dtype=float)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.any(pixdim <= 0) or np.all(np.abs(spacing / pixdim - 1) <= SPACING_TOLERANCE))


def _without_shear(
    affine: np.ndarray, shape: Sequence[int], path: Path, warnings: list[str]
) -> np.ndarray:
    """Return the nearest affine with right angles, which keeps voxel sizes and image centre."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / spacing
    shear = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if shear <= EXACT_SHEAR:
        return affine
    degrees = np.degrees(np.arcsin(min(shear, 1.0)))
    if shear > SHEAR_TOLERANCE:
        raise ImageError(
            f'The axes of {path} are not at right angles (off by {degrees:.3f} degrees).',
            'Resample it to an orthogonal grid, or provide the original image of the scanner.',
        )
    warnings.append(f'A shear of {degrees:.2f} degrees in the header was taken for rounding.')
    left, _, right = np.linalg.svd(axes)
    centre = (np.asarray(shape) - 1) / 2
    upright = affine.copy()
    upright[:3, :3] = left @ right * spacing
    upright[:3, 3] += (affine - upright)[:3, :3] @ centre
    return upright
