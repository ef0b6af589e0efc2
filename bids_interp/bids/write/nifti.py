"""NIfTI files: the one writer of images, each whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_interp.bids.write.atomic import atomic, check_copy, copy_file
from bids_interp.nifti import SCANNER_CODE, TEMPLATE_CODE, is_stamped, make_image

#: NIfTI code of vector data (5-D, three components in the fifth dimension).
NIFTI_INTENT_VECTOR = 1007


def save_image(image: Any, path: str | Path) -> Path:
    """Write a nibabel image atomically, with the header that it has.

    Raises
    ------
    OutputError
        If it cannot be written, for example on a full disk.
    """
    with atomic(path) as temporary:
        image.to_filename(temporary)
    return Path(path)


def write_nifti(
    path: str | Path, data: np.ndarray, affine: np.ndarray, *, template: bool, dtype: Any = None
) -> Path:
    """Write a NIfTI image atomically, sform equal to qform.

    Parameters
    ----------
    path : path
        File to write (``.nii.gz``).
    data : numpy.ndarray
        (X, Y, Z), or (3, X, Y, Z) for a vector field, which becomes a 5-D vector image
        (X, Y, Z, 1, 3).
    affine : numpy.ndarray
        4 x 4, voxel indices to world coordinates (RAS+ mm).
    template : bool
        World of a template (code 4) or of the scanner (code 1).
    dtype : numpy type, optional
        Type on disk; by default uint8 for booleans and float32 otherwise.

    Returns
    -------
    pathlib.Path
        The file written.
    """
    if dtype is None:
        dtype = np.uint8 if data.dtype == bool else np.float32
    is_vector = data.ndim == 4
    if is_vector:
        data = np.moveaxis(data, 0, -1)[..., None, :]
    image = make_image(np.asarray(data, dtype=dtype), affine, _code(template))
    if is_vector:
        image.header.set_intent(NIFTI_INTENT_VECTOR)
    return save_image(image, path)


def copy_nifti(source: str | Path, path: str | Path, *, template: bool, dtype: Any = None) -> Path:
    """Copy a NIfTI image atomically and correct its header where necessary.

    Parameters
    ----------
    source, path : path
        The image and its new file (both ``.nii.gz``).
    template : bool
        World of a template (code 4) or of the scanner (code 1).
    dtype : numpy type, optional
        Required type on disk; by default the type is kept.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    OutputError
        If the image or its copy is damaged; an earlier file at ``path`` is kept.
    """
    try:
        image = nib.Nifti1Image.from_filename(source)
    except Exception:
        check_copy(source, Path(source), path)  # names the file
        raise
    has_dtype = dtype is None or image.get_data_dtype() == dtype
    if Path(source).suffix == '.gz' and has_dtype and is_stamped(image, _code(template)):
        return copy_file(source, path)
    check_copy(source, Path(source), path)
    # Scaled integers lose their scale here, so floats are kept as floats.
    kept = np.dtype(np.float32 if dtype is None else dtype)
    data = image.get_fdata(dtype=np.float32)
    if np.issubdtype(kept, np.integer):
        data = np.rint(data)
    made = make_image(data.astype(kept), image.affine, _code(template))
    with atomic(path) as temporary:
        made.to_filename(temporary)
        check_copy(source, temporary, path)
    return Path(path)


def _code(template: bool) -> int:
    return TEMPLATE_CODE if template else SCANNER_CODE
