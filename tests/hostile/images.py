"""NIfTI files and gzip streams that claim too much, contradict themselves or are damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from hostile.case import Bases, Case

Content = Callable[[bytes], bytes]


def _file(name: str, content: Content, reader: str = 'image', **expected: Any) -> Case:
    ending = name.partition('.')[2]

    def make(folder: Path, bases: Bases) -> Path:
        path = folder / f'sub-01_T1w.{ending}'
        path.write_bytes(content(bases.image))
        return path

    return Case(f'{reader} {name}', reader, make, **expected)


def header(**fields: object) -> Content:
    """Change fields of the header, whatever they then say."""

    def change(image: bytes) -> bytes:
        changed = nib.Nifti1Header(image[:348], check=False)
        for name, value in fields.items():
            changed[name] = value
        return changed.binaryblock + image[348:]

    return change


def _nifti2(**fields: object) -> Content:
    def change(image: bytes) -> bytes:
        good = nib.Nifti1Image.from_bytes(image)
        made = nib.Nifti2Image(np.asarray(good.dataobj), good.affine).to_bytes()
        changed = nib.Nifti2Header(made[:540], check=False)
        for name, value in fields.items():
            changed[name] = value
        return changed.binaryblock + made[540:]

    return change


def _extension(size: int) -> Content:
    """Add 48 bytes for an extension that claims a size."""

    def change(image: bytes) -> bytes:
        start = header(vox_offset=400)(image)[:348]
        return start + b'\1\0\0\0' + struct.pack('<ii', size, 6) + bytes(40) + image[352:]

    return change


def _values(change: Callable[[np.ndarray], np.ndarray]) -> Content:
    def make(image: bytes) -> bytes:
        good = nib.Nifti1Image.from_bytes(image)
        data = change(np.asarray(good.dataobj, np.float64))
        return nib.Nifti1Image(data, good.affine).to_bytes()

    return make


def _with(value: float) -> Content:
    def change(data: np.ndarray) -> np.ndarray:
        data[20:25, 20:25, 20:25] = value
        return data

    return _values(change)


def _one_voxel(data: np.ndarray) -> np.ndarray:
    return (np.arange(data.size) == 9.0).reshape(data.shape) * 1.0


def _typed(code: int, bits: int, *shape: int) -> Content:
    """Claim another type of voxels, in a shape that the file still holds."""
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    return header(dim=dim, datatype=code, bitpix=bits)


def _inserted(place: int, content: bytes) -> Content:
    return lambda image: image[:place] + content + image[place + len(content) :]


def _packed_zeros(megabytes: int) -> bytes:
    """Blocks of DEFLATE with zeros, each independent of the others and of what comes before."""
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


def _bomb(image: bytes, megabytes: int = 2500) -> bytes:
    """A good image, behind whose last voxel the stream goes on for gigabytes."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(image) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + _packed_zeros(megabytes)


def _many_members(image: bytes) -> bytes:
    return gzip.compress(image) + gzip.compress(b'') * 50_000


def _member_bomb(image: bytes) -> bytes:
    return gzip.compress(image) + gzip.compress(bytes(100 * 2**20), 9) * 30


def _gzip_fields(flags: int, rest: bytes) -> Content:
    """A gzip header with optional fields, as RFC 1952 defines them."""

    def make(image: bytes) -> bytes:
        return b'\x1f\x8b\x08' + bytes([flags]) + bytes(6) + rest + gzip.compress(image)[10:]

    return make


def _tar(image: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as target:
        entry = tarfile.TarInfo('a.nii')
        entry.size = len(image)
        target.addfile(entry, io.BytesIO(image))
    return buffer.getvalue()


def _special(name: str, make: Callable[[Path], None], **expected: Any) -> Case:
    def build(folder: Path, bases: Bases) -> Path:
        path = folder / 'sub-01_T1w.nii.gz'
        make(path)
        return path

    return Case(f'image {name}', 'image', build, **expected)


_LARGE = 32767
_GEOMETRY = {'sform_code': 1, 'qform_code': 0}
_NO_SFORM = {'sform_code': 0, 'qform_code': 1}

_HEADERS: dict[str, Content] = {
    'no dimensions.nii': header(dim=[0, 45, 50, 45, 1, 1, 1, 1]),
    'minus one dimension.nii': header(dim=[-1, 45, 50, 45, 1, 1, 1, 1]),
    'two dimensions.nii': header(dim=[2, 45, 50, 45, 1, 1, 1, 1]),
    'an axis of zero.nii': header(dim=[3, 45, 0, 45, 1, 1, 1, 1]),
    'a needle.nii': header(dim=[3, _LARGE, 1, 3, 1, 1, 1, 1]),
    'a single slice.nii': header(dim=[3, 45, 50, 1, 1, 1, 1, 1]),
    'many volumes.nii.gz': lambda image: gzip.compress(
        header(dim=[4, 45, 50, 45, _LARGE, 1, 1, 1])(image)
    ),
    'seven full axes.nii': header(dim=[7, *[_LARGE] * 7]),
    'seven small axes.nii': header(dim=[7, 5, 5, 5, 3, 3, 3, 3]),
    'bits of another type.nii': header(bitpix=64),
    'type of another size.nii': header(datatype=64),
    'one bit.nii': header(datatype=1, bitpix=1),
    'colours.nii': header(datatype=128, bitpix=24),
    'colours with alpha.nii': header(datatype=2304, bitpix=32),
    'complex numbers.nii': header(datatype=32, bitpix=64),
    'long doubles.nii': header(datatype=1536, bitpix=128),
    'no type.nii': header(datatype=0),
    'negative type.nii': header(datatype=-16),
    'size of the header is 0 with many voxels.nii': header(
        sizeof_hdr=0, dim=[3, 3000, 3000, 3000, 1, 1, 1, 1]
    ),
    'magic of NIfTI-2.nii': header(magic=b'n+2'),
    'voxels at no number.nii': header(vox_offset=np.nan),
    'voxels in the header.nii': header(vox_offset=100),
    'voxels at the end.nii': header(vox_offset=2**25),
    'a pair without the other.nii': lambda image: header(magic=b'ni1', vox_offset=0)(image)[:348],
    'sform of no numbers.nii': header(srow_x=[np.nan] * 4, **_GEOMETRY),
    'sform of infinity.nii': header(srow_y=[np.inf] * 4, **_GEOMETRY),
    'sform of zeros.nii': header(
        srow_x=[0.0] * 4, srow_y=[0.0] * 4, srow_z=[0.0] * 4, **_GEOMETRY
    ),
    'sform of huge numbers.nii': header(
        srow_x=[1e38, 0, 0, 0], srow_y=[0, 1e38, 0, 0], srow_z=[0, 0, 1e38, 0], **_GEOMETRY
    ),
    'rotation that is none.nii': header(quatern_b=9.0, **_NO_SFORM),
    'rotation of no numbers.nii': header(quatern_b=np.nan, **_NO_SFORM),
    'voxel size of no numbers.nii': header(pixdim=[1, *[np.nan] * 3, *[0] * 4], **_NO_SFORM),
    'voxel size of infinity.nii': header(pixdim=[1, *[np.inf] * 3, *[0] * 4], **_NO_SFORM),
    'negative code of the sform.nii': header(sform_code=-5, qform_code=-5),
    'slope beyond float32.nii': header(scl_slope=3e38, scl_inter=0),
    'intercept of no number.nii': header(scl_slope=1, scl_inter=np.nan),
    'extension of negative size.nii': _extension(-2147483648),
    'extension larger than the file.nii': _extension(2147483632),
    'extension that does not end.nii': _extension(16),
    'extension of no size.nii': _extension(0),
    'NIfTI-2 of 2^186 voxels.nii': _nifti2(dim=[3, 2**62, 2**62, 2**62, 1, 1, 1, 1]),
    'NIfTI-2 of negative size.nii': _nifti2(dim=[3, -(2**62), 9, 9, 1, 1, 1, 1]),
    'NIfTI-2 before its beginning.nii': _nifti2(vox_offset=-(2**63)),
    'NIfTI-2 of nine axes.nii': _nifti2(dim=[9, 45, 50, 45, 1, 1, 1, 1]),
    'only NaN.nii': _values(lambda data: np.full_like(data, np.nan)),
    'minus infinity.nii': _with(-np.inf),
    'beyond float32.nii': _with(1e300),
    'one bright voxel.nii': _values(_one_voxel),
    'half of the header.nii': lambda image: image[:200],
    'header without voxels.nii': lambda image: image[:352],
    'header and one byte.nii': lambda image: image[:353],
    'nothing but zeros.nii': lambda image: bytes(10_000),
    'nothing but ones.nii': lambda image: b'\xff' * 10_000,
}  # fmt: skip

_STREAMS: dict[str, Content] = {
    'two bytes.nii.gz': lambda image: b'\x1f\x8b',
    'only a gzip header.nii.gz': lambda image: gzip.compress(image)[:10],
    'an unknown method.nii.gz': lambda image: b'\x1f\x8b\x09' + gzip.compress(image)[3:],
    'reserved flags.nii.gz': _gzip_fields(0b11100000, b''),
    'an extra field beyond the end.nii.gz': lambda image: (
        b'\x1f\x8b\x08\x04' + bytes(6) + b'\xff\xff' + b'x' * 100
    ),
    'a name without end.nii.gz': lambda image: b'\x1f\x8b\x08\x08' + bytes(6) + b'x' * 100_000,
    'a wrong size at the end.nii.gz': lambda image: gzip.compress(image)[:-4] + b'\1\2\3\4',
    'half a stream.nii.gz': lambda image: gzip.compress(image)[: len(image) // 4],
    'half of the second member.nii.gz': lambda image: (
        gzip.compress(image) + gzip.compress(image)[:5000]
    ),
    'compressed twice.nii.gz': lambda image: gzip.compress(gzip.compress(image)),
    'an empty stream.nii.gz': lambda image: gzip.compress(b''),
    'zlib without gzip.nii.gz': lambda image: zlib.compress(image),
    'bzip2.nii.gz': lambda image: bz2.compress(image),
    'xz.nii.gz': lambda image: lzma.compress(image, preset=0),
    'tar.nii.gz': _tar,
    'a bomb behind the voxels.nii.gz': _bomb,
    'a bomb without .gz in its name.nii': _bomb,
    'a bomb of zeros.nii.gz': lambda image: _bomb(b''),
    'a bomb of zeros without .gz in its name.nii': lambda image: _bomb(b''),
    'a bomb in members.nii.gz': _member_bomb,
}

CASES = [
    *(_file(name, content) for name, content in {**_HEADERS, **_STREAMS}.items()),
    _file('slope of no number.nii', header(scl_slope=np.nan), refused=False),
    _file('size of the header is 0.nii', header(sizeof_hdr=0), refused=False),
    _file('magic of a pair.nii', header(magic=b'ni1'), refused=False),
    _file('infinite slope.nii', header(scl_slope=np.inf, scl_inter=0), refused=False),
    _file('size of the header is that of NIfTI-2.nii', header(sizeof_hdr=540), refused=False),
    _file('size of the header swapped.nii', _inserted(0, struct.pack('>i', 348)), refused=False),
    _file('an odd unit.nii', header(xyzt_units=255), refused=False),
    _file('a description of any bytes.nii', header(descrip=b'\xff<script>' * 7), refused=False),
    _file('many empty members.nii.gz', _many_members, refused=False),
    _file('a name in the header.nii.gz', _gzip_fields(8, b'../../evil\0'), refused=False),
    _special('a folder', Path.mkdir),
    _special('a pipe', os.mkfifo),
    _special('a link to a device', lambda path: path.symlink_to('/dev/zero')),
    _special('a link to itself', lambda path: path.symlink_to(path)),
    _file('a mask of four axes.nii', _typed(2, 8, 45, 50, 45, 2), 'mask'),
    _file('a mask of colours.nii', _typed(128, 24, 45, 50, 15), 'mask'),
    _file('a mask of complex numbers.nii', _typed(32, 64, 45, 50, 11), 'mask'),
    _file('a mask with a bomb.nii', _bomb, 'mask'),
    _file('a mask of NaN.nii', _values(lambda data: np.full_like(data, np.nan)), 'mask'),
    _file('a mask without affine.nii', header(srow_x=[np.nan] * 4), 'mask'),
]  # fmt: skip
