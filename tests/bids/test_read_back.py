"""Every byte of a written file is read back."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.write.read_back import damage_of


@pytest.mark.parametrize('name', ['x.nii.gz', 'x.nii'])
def test_an_image_with_fewer_voxels_than_its_header_claims(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)).to_filename(path)
    assert damage_of(path) == ''
    data = gzip.decompress(path.read_bytes()) if name.endswith('.gz') else path.read_bytes()
    # A whole gzip stream of too few bytes: neither its checksum nor its length is wrong.
    path.write_bytes(gzip.compress(data[:-1]) if name.endswith('.gz') else data[:-1])
    assert str(352 + 4 * 5 * 6 * 2) in damage_of(path)


@pytest.mark.parametrize(
    ('name', 'content', 'whole'),
    [
        ('x.json', '{"a": 1}', True),
        ('x.json', '{"a": ', False),
        ('x.tsv', 'a\tb\n1\t2\n', True),
        ('x.tsv', 'a\tb\n1\t', False),
        ('x.txt', '', False),
        ('x.svg', '', False),
        ('x.svg', '<svg/>', True),
    ],
)
def test_texts(tmp_path: Path, name: str, content: str, whole: bool) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert (damage_of(path) == '') is whole
