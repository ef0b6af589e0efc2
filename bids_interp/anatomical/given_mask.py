"""Given masks: brains that another tool has found, on the grid of the image.

Tools write masks, label images, tissue images or brains, on the grid of the image or on their own
(FreeSurfer: 256 voxels of 1 mm). All are positive in the brain and 0 or NaN outside, and above 0.5
in most of a voxel that is brain. Grids are matched by their world coordinates.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from bids_interp.anatomical.brain_extraction import BRAIN_LITRES
from bids_interp.anatomical.brain_masks import brain_mask_of, brain_parts, volume_litres
from bids_interp.errors import ImageError
from bids_interp.nifti import image_like, read_nifti

ADVICE = 'Provide the mask of this image, or omit --derivatives.'
#: Tissue images of SPM: grey matter, white matter and fluid make the brain.
SPM_TISSUES = ('c1', 'c2', 'c3')
#: Largest share of a mask outside the field of view of the image.
OUTSIDE = 0.02
#: Largest share of a mask in the background, below a twentieth of the brightness of the brain.
#: It is at most 0.05 in 35 stripped brains; a mask that is shifted by 20 mm has at least 0.2.
DARK, DARK_SHARE = 0.05, 0.15


def load_mask(path: Path, img: nib.Nifti1Image) -> nib.Nifti1Image:
    """Load a brain mask of another tool, on the grid of an image in the same world.

    Parameters
    ----------
    path : pathlib.Path
        Mask, label image, tissue image or brain, NIfTI or MGH. The image ``c1`` of SPM stands for
        ``c1``, ``c2`` and ``c3`` beside it.
    img : Nifti1Image
        (X, Y, Z), closest to RAS+.

    Returns
    -------
    Nifti1Image
        0 and 1, float32, on the grid of ``img``.

    Raises
    ------
    ImageError
        If it cannot be read, does not have the volume of a brain, or lies elsewhere.
    """
    given = _read(path)
    total = np.asarray(given.dataobj)
    first, *others = SPM_TISSUES
    for tissue in others if path.name.startswith(first) else ():
        other = _read(path.with_name(tissue + path.name.removeprefix(first)))
        if other.shape != given.shape:
            raise ImageError(f'{path} and its {tissue} image are on different grids.', ADVICE)
        total = total + np.asarray(other.dataobj)
    mask = image_like(total > 0.5, given)
    is_on_grid = mask.shape == img.shape and np.allclose(mask.affine, img.affine, atol=1e-2)
    if not is_on_grid:
        mask = _cropped(mask)
    if ((total != 0) & (total != total.max(initial=0.0))).any():
        mask = brain_mask_of(mask)  # tissue labels leave out the fluid between the gyri
    _check_view(path, img, mask)
    if not is_on_grid:
        mask = image_like(resample_from_to(mask, img, order=1).get_fdata() > 0.5, img)
    inside = brain_parts(np.asarray(mask.dataobj) > 0.5)
    out = image_like(inside, img)
    _check_place(path, img, inside, volume_litres(out))
    return out


def _read(path: Path) -> nib.Nifti1Image:
    """Return the one volume of a file in memory, closest to RAS+: float32, 0 where it is NaN."""
    try:
        if path.suffix in ('.mgz', '.mgh'):
            loaded = nib.Nifti1Image.from_image(nib.load(path))
        else:
            loaded = read_nifti(path)[0]
        image = nib.as_closest_canonical(nib.funcs.squeeze_image(loaded))
        data = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32))
    except Exception as error:  # nibabel, zlib and the system raise different ones
        raise ImageError(f'The brain mask {path} cannot be read: {error}.', ADVICE) from error
    if image.ndim != 3:
        raise ImageError(
            f'The brain mask {path} (shape {image.shape}) is not a single volume.', ADVICE
        )
    return image_like(data, image)


def _cropped(mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the box around a mask with a margin for its interpolation."""
    where = np.argwhere(np.asarray(mask.dataobj) > 0.5)
    if not len(where):
        return mask
    low, high = np.maximum(where.min(axis=0) - 2, 0), where.max(axis=0) + 3
    return mask.slicer[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]


def _check_view(path: Path, img: nib.Nifti1Image, mask: nib.Nifti1Image) -> None:
    """Refuse a mask of which too much lies outside the field of view of the image."""
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0.5)
    if not len(voxels):
        raise ImageError(f'The brain mask {path} is empty.', ADVICE)
    places = nib.affines.apply_affine(np.linalg.inv(img.affine) @ mask.affine, voxels)
    inside = ((places >= -0.5) & (places <= np.array(img.shape) - 0.5)).all(axis=1)
    if inside.mean() < 1 - OUTSIDE:
        raise ImageError(
            f'{1 - inside.mean():.0%} of the brain mask {path} lie outside of its T1w image. It '
            'belongs to another image, or to another space.',
            ADVICE,
        )


def _check_place(path: Path, img: nib.Nifti1Image, inside: np.ndarray, litres: float) -> None:
    """Check volume and place of a mask (X, Y, Z) on the grid of its image."""
    if not BRAIN_LITRES[0] <= litres <= BRAIN_LITRES[1]:
        raise ImageError(
            f'The brain mask {path} has an implausible volume of {litres:.2f} litres.', ADVICE
        )
    values = np.asarray(img.dataobj, dtype=np.float32)[inside]
    dark = float((values < DARK * np.percentile(values, 99)).mean())
    if dark > DARK_SHARE:
        raise ImageError(
            f'{dark:.0%} of the brain mask {path} lie in the background of its T1w image. It '
            'belongs to another image, or to another space.',
            ADVICE,
        )
