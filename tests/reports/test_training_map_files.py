"""Map files of a training: one per name, and one per name and fold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np

from bids_interp.constants import SIGN
from bids_interp.reports.training.training_map_files import mean_map_file, write_mean_maps
from bids_interp.spatial import Grid

GRID = Grid((3, 4, 5), np.diag([2.0, 2.0, 2.0, 1.0]), 'MNI')


def test_means_and_maps_of_folds_are_written_with_their_sign(tmp_path: Path) -> None:
    results = [SimpleNamespace(maps={'inject': np.full(GRID.shape, value)}) for value in (1, 2)]
    mask = np.zeros(GRID.shape, bool)
    mask[1:, 1:, 2:] = True
    means = {'inject': np.full(GRID.shape, 1.5)}
    paths = write_mean_maps(tmp_path, GRID, mask, results, means)
    expected = {'inject': 1.5, 'injectfold0': 1.0, 'injectfold1': 2.0}
    assert paths == [mean_map_file(tmp_path, 'MNI', name) for name in expected]
    for path, value in zip(paths, expected.values(), strict=True):
        image = nib.load(path)
        np.testing.assert_array_equal(image.get_fdata(), np.where(mask, value, 0))
        np.testing.assert_allclose(image.affine, GRID.affine)
        sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert sidecar['Sign'] == SIGN
