"""Read-back of written files: damage that no earlier step has noticed."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import nibabel as nib

_CHUNK = 2**20
_TEXTS = ('.tsv', '.txt')


def damage_of(path: Path) -> str:
    """Return why a file of a derivative is damaged; empty if all of it can be read.

    Images are decompressed to their end, which checks their checksum. Text must end with a line
    break, because a truncated one usually does not.

    Examples
    --------
    >>> damage_of(Path('nowhere.json')) != ''
    True
    """
    try:
        if path.name.endswith(('.nii', '.nii.gz')):
            return _damage_of_image(path)
        if path.suffix == '.json':
            json.loads(path.read_text(encoding='utf-8'))
        if path.suffix in _TEXTS and not path.read_text(encoding='utf-8').endswith('\n'):
            return 'its last line is incomplete'
    except Exception as error:  # noqa: BLE001 - nibabel raises many kinds
        return f'{error}'.strip() or type(error).__name__
    return '' if path.stat().st_size else 'it is empty'


def _damage_of_image(path: Path) -> str:
    image = nib.Nifti1Image.from_filename(path)
    voxels = math.prod(image.shape) * image.get_data_dtype().itemsize
    expected = image.dataobj.offset + voxels
    size = 0
    with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
    return '' if size >= expected else f'it has {size} bytes of voxels instead of {expected}'
