"""Mean maps that a training leaves: names, sidecars and values."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np

from bids_interp.constants import SIGN
from bids_interp.reports.training.training_map_files import mean_map_file, write_mean_maps
from bids_interp.spatial import Grid

AFFINE = np.array([[0, 4.0, 0, -7], [-3.0, 0, 0, 5], [0, 0, 2.5, 11], [0, 0, 0, 1]])
GRID = Grid((4, 5, 6), AFFINE, 'MNI152NLin2009aSym')


def test_maps_of_all_folds_and_of_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folds = [SimpleNamespace(maps={'inject': rng.normal(size=GRID.shape)}) for _ in range(2)]
    mean = (folds[0].maps['inject'] + folds[1].maps['inject']) / 2
    written = write_mean_maps(tmp_path, GRID, folds, {'inject': mean})
    names = [('inject', mean), *((f'injectfold{i}', f.maps['inject']) for i, f in enumerate(folds))]
    assert written == [mean_map_file(tmp_path, GRID.space, name) for name, _ in names]
    for path, (_, data) in zip(written, names, strict=True):
        image = nib.load(path)
        np.testing.assert_allclose(image.get_fdata(), data, atol=1e-6)
        np.testing.assert_allclose(image.affine, AFFINE)
        sidecar = json.loads(path.with_name(path.name.replace('.nii.gz', '.json')).read_text())
        assert sidecar['Sign'] == SIGN
