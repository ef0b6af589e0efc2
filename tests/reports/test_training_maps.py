"""The mean maps of a training, drawn over the template."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.reports.training.training_map_figures import draw_mean_maps

SPACE = 'MNI152NLin2009aSym'


@pytest.fixture(scope='module')
def maps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('maps')
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (-80, -112, -72)
    data = np.zeros((21, 27, 22), np.float32)
    data[7:9, 12:15, 6:8] = -0.3
    paths = {}
    for name, sign in (('inject', 1), ('remove', -1)):
        paths[name] = folder / f'{name}.nii.gz'
        nib.save(nib.Nifti1Image(sign * data, affine), paths[name])
    return paths


def test_every_map_has_a_picture_of_its_own(maps: dict[str, Path]) -> None:
    drawn = draw_mean_maps(maps, SPACE)
    assert [one['title'].split()[-1] for one in drawn] == ['injected', 'removed']
    assert all(one['address'].startswith('data:image/') for one in drawn)
    # What shrinks and what grows have different colours.
    assert drawn[0]['address'] != drawn[1]['address']


def test_nothing_to_draw() -> None:
    assert draw_mean_maps({}, SPACE) == []
