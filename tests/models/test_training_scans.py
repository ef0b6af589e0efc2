"""The packaged model recognises a real training scan in another resolution."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.processing import resample_to_output

from bids_interp.anatomical.prepared_brain import BrainOptions, prepare_brain
from bids_interp.anatomical.raw.conform import conform
from bids_interp.anatomical.registration import register_brain
from bids_interp.anatomical.templates import brain_template
from bids_interp.models.bundle.reader import default_bundle_path, load_bundle
from bids_interp.models.explain.explainer import prepare_input
from bids_interp.spatial import Grid

FLIP = np.diag([-1.0, 1.0, 1.0, 1.0])


@pytest.mark.real
@pytest.mark.slow
def test_a_training_scan_is_recognised_after_resampling(shared_data: Path, tmp_path: Path) -> None:
    """Other voxels, other axes, another type, another name."""
    bundle = load_bundle(default_bundle_path())
    source = shared_data / 'data' / 'ds002748-2mm' / 'sub-52' / 'anat' / 'sub-52_T1w.nii.gz'
    changed = resample_to_output(nib.load(source), (2.6, 2.6, 2.6), order=1)
    changed = nib.Nifti1Image(np.asarray(changed.dataobj, np.int16)[::-1], changed.affine @ FLIP)
    changed.affine[:3, 3] -= changed.affine[:3, 0] * (changed.shape[0] - 1)
    path = tmp_path / 'sub-x_T1w.nii'
    nib.save(nib.Nifti1Image(np.asarray(changed.dataobj), changed.affine), path)
    image, _ = conform(path)
    brain = prepare_brain(image, BrainOptions(fast=True), name=path.name).brain
    template = brain_template(bundle.template)
    matrix = register_brain(brain, template, name=path.name, threads=1, seed=0, fast=True)
    data = np.asarray(brain.dataobj, dtype=np.float32)
    grid = Grid.from_image(brain, 'T1w')
    found = bundle.membership(
        prepare_input(data, grid, matrix.native_to_template, bundle), '', 'elsewhere', 'x'
    )
    assert found.in_training
    assert len(found.folds) == 1
