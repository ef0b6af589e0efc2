"""Fingerprints: to know a training subject again without storing who it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np


def image_fingerprint(path: Path | str) -> str:
    """SHA-256 of the stored voxels and the shape of a NIfTI file.

    Compression, file name and header do not enter: a copied or renamed scan has the same one.
    """
    image = nib.load(path)
    voxels = np.asarray(image.dataobj.get_unscaled())
    digest = hashlib.sha256(repr((voxels.shape, voxels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()


def salted(salt: str, text: str) -> str:
    """Salted SHA-256: compares identities, does not reveal them."""
    return hashlib.sha256(f'{salt}:{text}'.encode()).hexdigest()


def subject_keys(fingerprint: str, dataset_key: str, participant: str) -> tuple[str, str]:
    """What identifies a subject: the voxels of its scan, or its label in its dataset."""
    return f'image:{fingerprint}', f'subject:{dataset_key}/{participant}'
