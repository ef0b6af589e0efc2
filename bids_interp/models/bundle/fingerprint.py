"""Fingerprints that recognise training subjects without storing their identity."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bids_interp.nifti import read_nifti


def image_fingerprint(path: Path | str) -> str:
    """Return the SHA-256 of the stored voxels and the shape of a NIfTI file.

    It does not depend on compression, file name and header, so copies of a scan have the same one.
    """
    image, _ = read_nifti(Path(path))
    voxels = np.asarray(image.dataobj.get_unscaled())
    digest = hashlib.sha256(repr((voxels.shape, voxels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()


def salted(salt: str, text: str) -> str:
    """Return a salted SHA-256, which compares identities without revealing them."""
    return hashlib.sha256(f'{salt}:{text}'.encode()).hexdigest()


def subject_keys(fingerprint: str, dataset_key: str, participant: str) -> tuple[str, str]:
    """Return the two keys of a subject: the voxels of its scan, and its label in its dataset."""
    return f'image:{fingerprint}', f'subject:{dataset_key}/{participant}'
