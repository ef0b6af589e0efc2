from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.interfaces.inject import Inject, load_scan
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.inject.assignment import assign_groups
from bids_interp.phantom.inject.planted_scan import save_change
from bids_interp.phantom.inject.scenarios import SCENARIOS
from bids_interp.phantom.inject.warps import field_grid
from bids_interp.spatial import Grid

# The scan's axes run to the left and to the front, as many scanners write them.
AFFINE = np.array([[-4.0, 0, 0, 88], [0, 4, 0, -124], [0, 0, 4, -68], [0, 0, 0, 1]])
SHAPE = (45, 54, 45)


@pytest.fixture
def node(tmp_path) -> Inject:
    brain = Grid(SHAPE, np.abs(AFFINE) * np.sign([[1, 1, 1, -1]]), 'MNI152NLin2009aSym')
    x, y, z = Grid(SHAPE, AFFINE).world_coordinates()
    inside = ((x / 70) ** 2 + ((y + 17) / 88) ** 2 + ((z - 9) / 66) ** 2) < 1
    data = (inside * (600 + 3 * x + 2 * y)).astype(np.int16)
    image = nib.Nifti1Image(data, AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / 'scan.nii.gz')
    mask = nib.as_closest_canonical(nib.Nifti1Image(inside.astype(np.uint8), AFFINE))
    nib.save(mask, tmp_path / 'mask.nii.gz')
    (tmp_path / 'xfm.json').write_text(json.dumps({'native_to_template': np.eye(4).tolist()}))
    save_change(tmp_path / 'plan.npz', fit_atrophy(field_grid(brain, 5.0), {'thalamus': -0.3}))
    made = assign_groups(['07'], SCENARIOS['S1'], replicates=4, seed=1)
    pair = [next(one for one in made if one.patient is patient) for patient in (True, False)]
    return Inject(
        t1w=str(tmp_path / 'scan.nii.gz'),
        brain_mask=str(tmp_path / 'mask.nii.gz'),
        native_to_template=str(tmp_path / 'xfm.json'),
        atrophy=str(tmp_path / 'plan.npz'),
        replicates=[one.to_dict() for one in pair],
        seed=1,
        anatomy_mm=2.0,
        entities={'sub': '07', 'ses': 'a', 'run': '01'},
        sidecar={'EchoTime': 0.003},
        out_dir=str(tmp_path / 'out'),
    )


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_replicates_are_written_with_truth_and_kept(node, tmp_path):
    images = [Path(path) for path in node.run().outputs.out_files]
    out = tmp_path / 'out'
    label = node.inputs.replicates[0]['label']
    stem = f'sub-{label}_ses-a_run-01'
    assert images[0] == out / f'sub-{label}' / 'ses-a' / 'anat' / f'{stem}_T1w.nii.gz'
    assert json.loads((images[0].with_name(f'{stem}_T1w.json')).read_text()) == {'EchoTime': 0.003}
    image = nib.load(images[0])
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, AFFINE)
    original = voxels(tmp_path / 'scan.nii.gz')
    assert 5 < np.abs(voxels(images[0]) - original.astype(float)).mean() < 100
    truth = out / 'derivatives' / 'truth' / f'sub-{label}' / 'ses-a' / 'anat'
    names = sorted(path.name.removeprefix(f'{stem}_') for path in truth.glob('*.nii.gz'))
    assert names == [
        'desc-brain_mask.nii.gz',
        'desc-truthremove_logjacobian.nii.gz',
        'space-MNI152NLin2009aSym_desc-truthremove_logjacobian.nii.gz',
    ]
    native = nib.load(truth / f'{stem}_desc-truthremove_logjacobian.nii.gz')
    place = np.rint(np.linalg.inv(native.affine) @ [12, -18, 8, 1])[:3].astype(int)
    around = tuple(slice(index - 1, index + 2) for index in place)
    assert native.get_fdata()[around].max() > 0.15
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*') if path.is_file()}
    images[1].unlink()
    node.run()
    assert images[1].is_file()
    after = {path: path.stat().st_mtime_ns for path in out.rglob('*') if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    other = node.inputs.replicates[1]['label']
    assert all(other in name for name in changed)


def test_another_scan_or_seed_makes_other_images(node, tmp_path):
    first = Path(node.run().outputs.out_files[0])
    kept = voxels(first)
    node.inputs.seed = 2
    node.run()
    assert not np.array_equal(voxels(first), kept)
    node.inputs.seed = 1
    node.run()
    np.testing.assert_array_equal(voxels(first), kept)


def test_scaled_integers_become_floats(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32) + 0.5, np.diag([2.0, 2, 2, 1]))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / 'x.nii.gz')
    data, grid, kind = load_scan(str(tmp_path / 'x.nii.gz'))
    assert kind == np.float32
    assert data.max() == pytest.approx(0.5, abs=1e-3)
    assert grid.shape == (4, 5, 6)
