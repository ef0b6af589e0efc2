"""The filter file, and what one image says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.bids.read.filters import load_filters
from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import ImageError, UsageError
from bids_interp.levels.image_check import inspect_image


def test_the_query_of_t1w_is_taken_and_others_are_left(tmp_path: Path) -> None:
    path = tmp_path / 'filter.json'
    query = {'acquisition': 'mprage', 'run': 1, 'session': None}
    path.write_text('\ufeff' + json.dumps({'T1w': query, 'bold': {'task': 'rest'}}), 'utf-8')
    assert load_filters(path) == query
    assert load_filters(None) == {}


@pytest.mark.parametrize(
    'text', ['{', '[]', '{"t1w": 1}', '{"t1": {}}', '{"t1w": {"acquisitoin": "x"}}']
)
def test_filters_that_say_nothing_usable_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'filter.json'
    path.write_text(text)
    with pytest.raises(UsageError):
        load_filters(path)


def _record(path: Path, affine: np.ndarray, data: np.ndarray, **more: Path) -> T1wRecord:
    nib.Nifti1Image(data.astype(np.float32), affine).to_filename(path)
    return T1wRecord(path, '01', None, {'sub': '01'}, **more)


def _whole_head() -> np.ndarray:
    return np.random.default_rng(0).normal(300, 40, (60, 70, 80))


def test_size_and_orientation_are_given_along_world_axes(tmp_path: Path) -> None:
    affine = np.diag([-3.0, 2.5, 2.0, 1.0])
    affine[:3, 3] = [90, -80, -80]
    record = _record(tmp_path / 'a.nii.gz', affine, _whole_head())
    facts = inspect_image(record, 'force')
    assert (facts.orientation, facts.brain) == ('LAS', 'extract')
    assert facts.shape == (60, 70, 80)
    assert facts.voxel_size == pytest.approx((3.0, 2.5, 2.0))
    assert inspect_image(record, 'skip').brain == 'stripped'


def test_a_given_mask_is_used_unless_stripping_is_forced(tmp_path: Path) -> None:
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    mask = tmp_path / 'mask.nii.gz'
    record = _record(tmp_path / 'a.nii.gz', affine, _whole_head(), derivative_mask=mask)
    assert inspect_image(record, 'auto').brain == 'given'
    assert any(str(mask) in note for note in inspect_image(record, 'auto').notes)
    assert inspect_image(record, 'force').brain == 'extract'


def test_an_image_without_content_is_an_image_error(tmp_path: Path) -> None:
    record = _record(tmp_path / 'a.nii.gz', np.eye(4), np.zeros((60, 70, 80)))
    with pytest.raises(ImageError):
        inspect_image(record, 'auto')
