"""Skeletons of BIDS datasets: true names, tiny but valid images."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np


def make_image(shape: tuple[int, ...] = (45, 50, 45), size: float = 4.0) -> nib.Nifti1Image:
    """A ball of 70 mm radius in a noisy box: passes every check of an image."""
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = [-size * (n - 1) / 2 for n in shape[:3]]
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape[:3]], indexing='ij'), -1)
    distance = np.linalg.norm(places * size + affine[:3, 3], axis=-1)
    values = 500.0 * (distance < 70) + np.random.default_rng(0).uniform(1, 40, shape[:3])
    img = nib.Nifti1Image(values.astype(np.int16), affine)
    img.set_qform(affine, 1)
    img.set_sform(affine, 1)
    img.header.set_xyzt_units('mm')
    return img


def make_dataset(root: Path, *names: str, empty: bool = False) -> Path:
    """A dataset with the T1w images of these names, such as ``sub-01_ses-a_T1w.nii.gz``."""
    root.mkdir(parents=True, exist_ok=True)
    description = {'Name': 'Skeleton', 'BIDSVersion': '1.10.0', 'DatasetType': 'raw'}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    (root / 'README').write_text('Made by the tests of bids_interp, has no meaning at all.\n' * 3)
    content = b'' if empty else make_image().to_bytes()
    for name in names:
        parts = name.split('_')
        folder = root / parts[0]
        if parts[1].startswith('ses-'):
            folder = folder / parts[1]
        path = folder / 'anat' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not empty and name.endswith('.gz'):
            nib.save(make_image(), path)
        else:
            path.write_bytes(content)
    return root
