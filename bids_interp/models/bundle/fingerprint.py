"""Fingerprints of scans: of the stored voxels, and of the brain on the grid of a model.

A model bundle has to recognise the scans that it was trained with, because only the fold that held
a scan out may explain it. It contains no label of a participant, and no hash of one: labels are so
few that all of them can be tried. It contains a sketch of each training scan instead. A sketch has
256 bits, each the sign of one random projection of what distinguishes the brain from the mean image
of the model (Charikar, STOC 2002). The share of bits in which two sketches differ is the angle
between the two brains, divided by 180 degrees. It hardly changes if a scan is saved again,
reoriented or resampled, and is about a half for two persons.

Whoever has a scan of a person can therefore find out whether the model was trained with that
person: this is what a sketch is for. An expensive hash, such as scrypt, cannot prevent it and would
destroy the tolerance. A sketch does not name anybody, and its 256 bits hold no image.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bids_interp.nifti import read_nifti

#: Number of bits of a sketch.
BITS = 256
#: Share of different bits up to which two sketches show the same brain; docs/demo-model.md has the
#: measured shares.
TOLERANCE = 0.2
_SEED = 20210628


def image_fingerprint(path: Path | str) -> str:
    """Return the SHA-256 of the stored voxels and the shape of a NIfTI file.

    It does not depend on compression, file name and header, so copies of a scan have the same one.
    """
    image, _ = read_nifti(Path(path))
    voxels = np.asarray(image.dataobj.get_unscaled())
    digest = hashlib.sha256(repr((voxels.shape, voxels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(voxels).data)
    return digest.hexdigest()


def scan_sketch(image: np.ndarray, mean: np.ndarray, mask: np.ndarray) -> str:
    """Return the sketch of a brain: 256 bits, hexadecimal.

    Parameters
    ----------
    image, mean : numpy.ndarray
        (X, Y, Z) input of the classifier, and the mean image of the model.
    mask : numpy.ndarray
        Brain mask of the model, (X, Y, Z) bool.
    """
    residual = image[mask].astype(np.float64) - mean[mask]
    residual -= np.median(residual)
    # A strong effect of the disease in a few voxels must not make all patients look alike.
    limit = 2 * np.median(np.abs(residual))
    residual = np.clip(residual, -limit, limit)
    residual -= residual.mean()
    # Raw bits of the generator are the same in every version of numpy; its distributions are not.
    n_words = -(-BITS * residual.size // 64)
    words = np.random.PCG64(_SEED).random_raw(n_words)
    signs = np.unpackbits(words.astype('<u8').view(np.uint8))[: BITS * residual.size]
    # Row by row: as float32, all signs of a brain at 1 mm take 2 GB.
    projections = np.array([row @ residual for row in signs.reshape(BITS, -1)])
    # Signs are 0 and 1 here, and the residual has a mean of 0: that is half of -1 and 1.
    return np.packbits(projections > 0).tobytes().hex()


def sketch_distance(first: str, second: str) -> float:
    """Return the share of bits in which two sketches differ.

    Examples
    --------
    >>> sketch_distance('ff' * 32, 'fe' * 32)
    0.125
    """
    bits = int.from_bytes(bytes.fromhex(first)) ^ int.from_bytes(bytes.fromhex(second))
    return bits.bit_count() / BITS


def salted(salt: str, text: str) -> str:
    """Return a salted SHA-256, by which bundles of version 0.1.0 recognise subjects."""
    return hashlib.sha256(f'{salt}:{text}'.encode()).hexdigest()


def subject_keys(fingerprint: str, dataset_key: str, participant: str) -> tuple[str, str]:
    """Return the two keys of a subject: the voxels of its scan, and its label in its dataset."""
    return f'image:{fingerprint}', f'subject:{dataset_key}/{participant}'
