"""Claims of a header are compared with the file, the memory and a T1w image."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.anatomical.raw.claimed_size import BYTES_PER_VOXEL, check_claims
from bids_interp.errors import ImageError

SHAPE = (40, 50, 60)
NEEDED = 40 * 50 * 60 * BYTES_PER_VOXEL / 1e9


def saved(path: Path, kind: type = nib.Nifti1Image) -> Path:
    kind(np.ones(SHAPE, np.int16), np.eye(4)).to_filename(path)
    return path


@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
def test_memory(tmp_path: Path, name: str, kind: type) -> None:
    path = saved(tmp_path / name, kind)
    check_claims(path)
    check_claims(path, NEEDED)
    with pytest.raises(ImageError, match='--mem'):
        check_claims(path, 0.99 * NEEDED)


def test_a_plain_file_holds_what_it_claims(tmp_path: Path) -> None:
    path = saved(tmp_path / 'a.nii')
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match=str(path)):
        check_claims(path)


@pytest.mark.parametrize('order', ['<', '>'])
def test_both_byte_orders(tmp_path: Path, order: str) -> None:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape((3000, 3000, 3000))
    path = tmp_path / 'a.nii'
    path.write_bytes(header.binaryblock)
    with pytest.raises(ImageError, match=r'2\.7e\+10'):
        check_claims(path)


@pytest.mark.parametrize('content', [b'', b'x' * 600])
@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz'])
def test_a_file_without_a_header_is_left_to_the_reader(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    check_claims(tmp_path / name)
