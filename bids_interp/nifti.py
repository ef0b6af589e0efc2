"""NIfTI images: files read to their end, one affine in sform and qform, distances in mm."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

#: NIfTI codes: what the world coordinates of an image mean.
SCANNER_CODE, TEMPLATE_CODE = 1, 4
GZIP = b'\x1f\x8b'  # first bytes of a gzip file
#: Bytes that are unzipped at a time: a file may have thousands of members, and these become at most
#: a thousand times as many.
CHUNK = 2**16
#: Bytes behind the last voxel that are read and ignored.
TRAILER = 2**24
#: Size of the largest header, that of NIfTI-2.
LARGEST_HEADER = 540


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


def read_nifti(path: Path) -> tuple[nib.Nifti1Image, bool]:
    """Load a NIfTI file to its last byte, compressed or not, whatever its name says.

    Nibabel stops at the last voxel, before the checksum of gzip. Here the whole stream is read, so
    that a flipped bit is an error. Bytes behind the last gzip member are ignored.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2 file.

    Returns
    -------
    image : Nifti1Image
        The image.
    is_compressed : bool
        Whether the content is compressed by gzip.

    Raises
    ------
    OSError, EOFError, zlib.error, ValueError
        If the file cannot be read, is truncated or damaged, or holds much more than its header
        claims.
    nibabel.filebasedimages.ImageFileError
        If it is not a NIfTI file.
    """
    content = path.read_bytes()
    is_compressed = content.startswith(GZIP)
    if is_compressed:
        content = _unzipped(content)
    header = read_header(content)
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return image_class.from_bytes(content), is_compressed


def read_header(start: bytes) -> nib.Nifti1Header:
    """Return the header at the start of a NIfTI file, unchecked.

    Raises
    ------
    nibabel.filebasedimages.ImageFileError
        If there is none.
    """
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start):
            return kind(start[: kind.template_dtype.itemsize], check=False)
    raise nib.filebasedimages.ImageFileError('it has no NIfTI header')


def claimed_bytes(header: nib.Nifti1Header) -> float:
    """Return the size in bytes that a file needs to hold the voxels that its header claims."""
    bits = math.prod(claimed_shape(header)) * abs(int(header['bitpix']))
    return float(header['vox_offset']) + bits / 8


def claimed_shape(header: nib.Nifti1Header) -> list[int]:
    """Return the size of the image that a header claims; negative sizes are 0."""
    n_axes = max(0, int(header['dim'][0]))
    return [max(0, int(size)) for size in header['dim'][1 : 1 + n_axes]]


def _unzipped(content: bytes) -> bytes:
    """Return the content of all gzip members, but not much more than the header claims."""
    parts: list[bytes] = []
    size, limit = 0, math.inf
    for part in _inflated(content):
        parts.append(part)
        size += len(part)
        if size >= LARGEST_HEADER and limit == math.inf:
            limit = claimed_bytes(read_header(b''.join(parts))) + TRAILER
        if not size <= limit:
            raise ValueError('the gzip stream holds more than the header claims')
    return b''.join(parts)


def _inflated(content: bytes) -> Iterator[bytes]:
    """Yield the content of all gzip members in parts; test the checksum of each member."""
    start, view = 0, memoryview(content)
    while content.startswith(GZIP, start):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            chunk = view[start : start + CHUNK]
            if not chunk:
                raise EOFError('the gzip stream ends too early')
            yield member.decompress(chunk)
            start += len(chunk) - len(member.unused_data)
