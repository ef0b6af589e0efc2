"""Conform step: check a T1w image and make it 3-D, float32, closest to RAS+, qform = sform."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_interp.anatomical.raw.claimed_size import check_claims
from bids_interp.anatomical.raw.headers import trusted_affine
from bids_interp.anatomical.raw.intensities import (
    without_frame,
    without_level,
    without_outliers,
)
from bids_interp.anatomical.raw.nan_background import fill_nan_background
from bids_interp.anatomical.raw.noise_background import suppress_noise_background
from bids_interp.errors import ImageError
from bids_interp.nifti import make_image, read_nifti

VOXEL_RANGE = (0.2, 5.0)  # mm
THICK_SLICE = 8.0  # mm, along one axis at most
EXTENT_RANGE = (80.0, 600.0)  # mm, field of view along each axis
SATURATED = 0.001  # share of voxels at the top of an integer type
# Share of voxels below the same negative share of the brightness that causes a warning.
NEGATIVE = 0.02


@dataclass
class ConformReport:
    """Properties of an input image, and warnings.

    Attributes
    ----------
    source : str
        Input file name, without its folder.
    shape, voxel_sizes : list
        Voxels and mm along R, A and S, after reorientation.
    orientation : str
        Axis codes of the input, e.g. ``LAS``.
    oblique_degrees : float
        Largest angle between a voxel axis and its world axis.
    data_type : str
        Data type on disk.
    warnings : list of str
        Warnings for the user.
    """

    source: str
    shape: list[int] = field(default_factory=list)
    voxel_sizes: list[float] = field(default_factory=list)
    orientation: str = ''
    oblique_degrees: float = 0.0
    data_type: str = ''
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Return plain types with the keys of a BIDS sidecar."""
        return {
            ''.join(part.title() for part in name.split('_')): value
            for name, value in asdict(self).items()
        }


def conform(
    path: str | Path, memory_gb: float | None = None
) -> tuple[nib.Nifti1Image, ConformReport]:
    """Load, check and reorient one T1w image without resampling.

    Parameters
    ----------
    path : str or Path
        NIfTI file.
    memory_gb : float, optional
        Memory in GB that may be used.

    Returns
    -------
    img : Nifti1Image
        float32, axes closest to RAS+ (obliqueness and voxel sizes kept), qform = sform.
    report : ConformReport
        Properties of the input, and warnings.

    Raises
    ------
    ImageError
        If the file cannot be read or cannot be a T1w image.
    """
    path = Path(path)
    report = ConformReport(source=path.name)
    img = open_scan(path, report.warnings, memory_gb)
    report.data_type = str(img.get_data_dtype())
    shape = _spatial_shape(img, path, report)
    affine, code, warnings = trusted_affine(img, path)
    report.warnings += warnings
    _check_geometry(shape, affine, img, path, report)
    data = read_voxels(img, path, report.warnings).reshape(shape)
    _check_values(data, path, report)
    data, notes = _standard_values(data, nib.affines.voxel_sizes(affine))
    report.warnings += notes
    _warn_of_negative(data, report)
    report.orientation = ''.join(nib.aff2axcodes(affine))
    report.oblique_degrees = round(float(np.degrees(nib.affines.obliquity(affine).max())), 2)
    out = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    out = make_image(np.asarray(out.dataobj, dtype=np.float32), out.affine, code)
    report.shape = [int(n) for n in out.shape]
    report.voxel_sizes = [round(float(v), 4) for v in nib.affines.voxel_sizes(out.affine)]
    return out, report


def _standard_values(data: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, list[str]]:
    """Return voxels (X, Y, Z) with a dark background of 0, and the changes that were needed."""
    data, frame = without_frame(data)
    data, share = suppress_noise_background(data, spacing)
    noise = (
        'The background is noise, as in a uniform image (UNIT1) of MP2RAGE; '
        f'{100 * share:.0f} % of the voxels were set to a dark value.'
    )
    data, level = without_level(data)
    data, outliers = without_outliers(data)
    notes = (frame, noise if share else '', level, outliers)
    return data, [note for note in notes if note]


def open_scan(path: Path, warnings: list[str], memory_gb: float | None = None) -> nib.Nifti1Image:
    """Open a NIfTI file of plain numbers, and add its oddities to the warnings.

    Raises
    ------
    ImageError
        If the file is missing, damaged or not a NIfTI file.
    """
    if not path.is_file():
        raise ImageError(f'{path} does not exist.', 'Fetch it (datalad get) or exclude it.')
    check_claims(path, memory_gb)
    try:
        img, is_compressed = read_nifti(path)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise ImageError(f'{path} is not a readable NIfTI file: {error}.') from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(path, error) from error
    if is_compressed != (path.suffix.lower() == '.gz'):
        state = 'compressed' if is_compressed else 'not compressed'
        warnings.append(f'The file is {state}, unlike its name; it was read nevertheless.')
    if img.get_data_dtype().kind not in 'iuf':
        raise ImageError(
            f'{path} contains {img.get_data_dtype()} values, not plain numbers.',
            'Provide the magnitude image with plain grey values.',
        )
    return img


def _damaged(path: Path, error: Exception) -> ImageError:
    return ImageError(
        f'{path} is damaged or truncated ({type(error).__name__}: {error}).',
        'Copy or fetch the file again, and compare its size with the original.',
    )


def _spatial_shape(img: nib.Nifti1Image, path: Path, report: ConformReport) -> tuple[int, ...]:
    shape = img.shape
    if len(shape) > 3 and all(n == 1 for n in shape[3:]):
        report.warnings.append(
            f'The image is {len(shape)}-D with one volume; it was reduced to 3-D.'
        )
        shape = shape[:3]
    if len(shape) > 3:
        raise ImageError(
            f'{path} contains several volumes (shape {shape}).',
            'Provide each volume, or their average, as a separate 3-D file.',
        )
    if len(shape) < 3 or min(shape) < 2:
        raise ImageError(
            f'{path} is not a volume (shape {shape}).',
            'Exclude localisers and single slices. `bids_interp_tools bench blobs` trains on '
            'synthetic images of one slice.',
        )
    return tuple(int(n) for n in shape)


def _check_geometry(
    shape: tuple[int, ...],
    affine: np.ndarray,
    img: nib.Nifti1Image,
    path: Path,
    report: ConformReport,
) -> None:
    spacing = nib.affines.voxel_sizes(affine)
    size = ' x '.join(f'{v:.3g}' for v in spacing)
    in_plane, thickest = sorted(spacing)[1:]
    if spacing.min() < VOXEL_RANGE[0] or in_plane > VOXEL_RANGE[1] or thickest > THICK_SLICE:
        raise ImageError(
            f'{path} has voxels of {size} mm, not {VOXEL_RANGE[0]} to {VOXEL_RANGE[1]} mm '
            f'(slices: up to {THICK_SLICE} mm).',
            'Correct the voxel size in the header (the unit must be mm), or exclude this file.',
        )
    if thickest > VOXEL_RANGE[1]:
        report.warnings.append(
            f'The slices are {thickest:.3g} mm thick; maps cannot show anything thinner.'
        )
    extent = spacing * np.asarray(shape)
    if extent.min() < EXTENT_RANGE[0] or extent.max() > EXTENT_RANGE[1]:
        covered = ' x '.join(f'{v:.0f}' for v in extent)
        raise ImageError(
            f'{path} covers {covered} mm, which cannot be a head.',
            'Provide an image of the whole brain, and check its voxel size.',
        )
    pixdim = np.asarray(img.header['pixdim'][1:4], dtype=float)
    if np.all(pixdim > 0) and np.any(np.abs(pixdim / spacing - 1) > 0.02):
        report.warnings.append(
            f'The voxel size in the header ({" x ".join(f"{v:.3g}" for v in pixdim)} mm) '
            f'differs from that of the affine ({size} mm); the affine was used.'
        )


def read_voxels(img: nib.Nifti1Image, path: Path, warnings: list[str]) -> np.ndarray:
    """Return the scaled voxels as float32, with NaN outside of the brain as background.

    Raises
    ------
    ImageError
        If the file is damaged, or its values are not those of a scan.
    """
    slope, inter = img.dataobj.slope, img.dataobj.inter
    if slope < 0:
        raise ImageError(
            f'{path} has a negative scl_slope ({slope:g}), which inverts the contrast.',
            'Correct scl_slope and scl_inter in the header.',
        )
    try:
        raw = np.asarray(img.dataobj.get_unscaled())
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(path, error) from error
    if raw.dtype.kind in 'iu':
        _check_overflow(raw, path, warnings)
    with np.errstate(over='ignore', invalid='ignore'):
        data = (raw.astype(np.float64) * slope + inter).astype(np.float32)
    data, filled, _ = fill_nan_background(data)
    if filled:
        warnings.append(f'{filled} voxel(s) are NaN; they were taken for background.')
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        cause = (
            f'after scaling by scl_slope {slope:g}, scl_inter {inter:g}'
            if np.isfinite(raw).all()
            else 'as stored'
        )
        raise ImageError(
            f'{path} has {bad} voxel(s) with NaN inside the head or infinite values ({cause}).',
            'Replace them (fslmaths IN -nan OUT) or correct scl_slope in the header.',
        )
    return data


def _check_overflow(raw: np.ndarray, path: Path, warnings: list[str]) -> None:
    """Refuse values that overflowed a signed type; warn of values clipped at its limit."""
    info = np.iinfo(raw.dtype)
    low, high = int(raw.min()), int(raw.max())
    if info.min < 0 and low < 0.9 * info.min and high > 0.9 * info.max:
        raise ImageError(
            f'{path} spans the full range of {raw.dtype} ({low} to {high}): its values overflowed.',
            'Convert it again from the original data with a wider data type.',
        )
    if high == info.max and raw.dtype.itemsize > 1 and (raw == high).mean() > SATURATED:
        warnings.append(f'Values are clipped at {high}, the largest {raw.dtype}.')


def _check_values(data: np.ndarray, path: Path, report: ConformReport) -> None:
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = 'zero' if low == 0 else f'{low:g}'
        raise ImageError(f'Every voxel of {path} is {what}.', 'Convert it again, or exclude it.')
    if np.percentile(data, 99.9) <= np.percentile(data, 1):
        raise ImageError(f'{path} is empty except for a few voxels.', 'Exclude it.')


def _warn_of_negative(data: np.ndarray, report: ConformReport) -> None:
    negative = float((data < -NEGATIVE * np.percentile(data, 99)).mean())
    if negative > NEGATIVE:
        report.warnings.append(
            f'{100 * negative:.0f} % of the voxels are negative, unlike in a magnitude image.'
        )
