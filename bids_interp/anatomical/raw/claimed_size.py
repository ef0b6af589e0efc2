"""Claimed size of an image: what its header says, checked before anything is allocated."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import nibabel as nib

from bids_interp.errors import ImageError
from bids_interp.nifti import (
    GZIP,
    LARGEST_HEADER,
    claimed_bytes,
    claimed_shape,
    read_header,
)

#: Largest number of voxels: a cube of 200 mm in voxels of 0.2 mm.
MAX_VOXELS = 2**30
#: Largest header with its extensions, in bytes.
MAX_OFFSET = 2**26
#: DEFLATE compresses at most 1032 to 1.
MAX_RATIO = 1032
#: Memory that checks need for each voxel: the values as stored, as float64 and as float32.
BYTES_PER_VOXEL = 20


def check_claims(path: Path, memory_gb: float | None = None) -> None:
    """Refuse an image whose header claims more than a T1w image, the file or the memory can hold.

    A file without a NIfTI header is left to the reader.

    Parameters
    ----------
    path : pathlib.Path
        NIfTI file.
    memory_gb : float, optional
        Memory in GB that may be used.

    Raises
    ------
    ImageError
        If a claim is impossible.
    """
    header, is_compressed = _read_header(path)
    if header is None:
        return
    offset = float(header['vox_offset'])
    if not 0 <= offset <= MAX_OFFSET:
        raise ImageError(f'{path} is damaged: its voxels would begin at byte {offset:g}.')
    voxels = math.prod(claimed_shape(header)[:3])
    if voxels > MAX_VOXELS:
        raise ImageError(
            f'{path} claims {voxels:.3g} voxels; a T1w image has at most {MAX_VOXELS:.3g}.'
        )
    needed = voxels * BYTES_PER_VOXEL / 1e9
    if memory_gb is not None and needed > memory_gb:
        raise ImageError(
            f'{path} needs {needed:.1f} GB to be read, but only {memory_gb:.1f} GB may be used.',
            'Raise --mem, or exclude this file.',
        )
    claimed = claimed_bytes(header)
    held = path.stat().st_size * (MAX_RATIO if is_compressed else 1)
    if claimed > held:
        raise ImageError(
            f'{path} is truncated: its header claims {claimed:.3g} bytes, but the file can hold at '
            f'most {held:.3g}.',
            'Copy or fetch the file again, and compare its size with the original.',
        )


def _read_header(path: Path) -> tuple[nib.Nifti1Header | None, bool]:
    """Read the header, or None if there is none; tell whether the content is compressed."""
    is_compressed = False
    try:
        with path.open('rb') as stream:
            is_compressed = stream.read(len(GZIP)) == GZIP
        with gzip.open(path) if is_compressed else path.open('rb') as stream:
            return read_header(stream.read(LARGEST_HEADER)), is_compressed
    except (OSError, EOFError, zlib.error, nib.filebasedimages.ImageFileError):
        return None, is_compressed
