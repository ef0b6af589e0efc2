"""Preprocessing of an earlier run is taken only where it is what would be made now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bids_interp.bids.read import prepared as reuse
from bids_interp.bids.read.prepared import FINGERPRINT, PREPARED_WITH, find_prepared, prepared_with
from bids_interp.bids.read.query import T1wRecord
from bids_interp.settings import Settings

RECORD = T1wRecord(Path('/in/sub-01_ses-a_T1w.nii.gz'), '01', 'a', {'sub': '01', 'ses': 'a'})
TEMPLATE = 'MNI152NLin2009aSym'
STEM = 'sub-01/ses-a/anat/sub-01_ses-a'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / 'in', tmp_path / 'out', template=TEMPLATE)


@pytest.fixture
def files(settings: Settings) -> dict[str, Path]:
    """What an earlier run has left."""
    out = settings.output_dir
    made = {
        't1w': out / f'{STEM}_desc-preproc_T1w.nii.gz',
        'mask': out / f'{STEM}_desc-brain_mask.nii.gz',
        'transform': out / f'{STEM}_from-T1w_to-{TEMPLATE}_mode-image_xfm.txt',
        't1w_side': out / f'{STEM}_desc-preproc_T1w.json',
        'transform_side': out / f'{STEM}_from-T1w_to-{TEMPLATE}_mode-image_xfm.json',
    }
    made['t1w'].parent.mkdir(parents=True)
    for path in made.values():
        path.write_bytes(b'')
    write(
        made['t1w_side'],
        {PREPARED_WITH: prepared_with(settings), 'Conformation': {FINGERPRINT: 'abc'}},
    )
    write(made['transform_side'], {'Registration': {'native_to_template': [[1.0]]}})
    return made


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def find(settings: Settings, fingerprint: str = 'abc', template: str = TEMPLATE) -> Any:
    return find_prepared(settings, RECORD, template, fingerprint)


def test_what_fits_is_taken(settings: Settings, files: dict[str, Path]) -> None:
    found = find(settings)
    assert (found.t1w, found.mask) == (files['t1w'], files['mask'])
    assert found.transform == files['transform_side']


def test_other_voxels_or_another_template(settings: Settings, files: dict[str, Path]) -> None:
    assert find(settings, fingerprint='abd') is None
    assert find(settings, template='MNI152NLin6Asym') is None


@pytest.mark.parametrize(
    'change',
    [
        {'skull_strip_t1w': 'skip'},
        {'template': 'OASIS30ANTs'},
        {'fast': True},
        {'random_seed': 3},
        {'derivatives': (('fmriprep', Path('/f')),)},
    ],
)
def test_made_in_another_way(settings: Settings, files: dict[str, Path], change: dict) -> None:
    assert find(settings.replace(**change)) is None


def test_choices_of_the_explanation_do_not_matter(
    settings: Settings, files: dict[str, Path]
) -> None:
    assert find(settings.replace(doses=(0.5,), nprocs=3, label='group', positive='a')) is not None


def test_another_version(
    settings: Settings, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, '__version__', '99')
    assert find(settings) is None


@pytest.mark.parametrize('name', ['t1w', 'mask', 'transform', 't1w_side', 'transform_side'])
def test_a_file_is_gone(settings: Settings, files: dict[str, Path], name: str) -> None:
    files[name].unlink()
    assert find(settings) is None


@pytest.mark.parametrize('text', ['', '{"Conformation": ', '{}', '{"Conformation": null}'])
def test_a_sidecar_is_damaged_or_of_an_older_version(
    settings: Settings, files: dict[str, Path], text: str
) -> None:
    files['t1w_side'].write_text(text)
    assert find(settings) is None


def test_a_transform_without_its_matrix(settings: Settings, files: dict[str, Path]) -> None:
    write(files['transform_side'], {'Registration': None})
    assert find(settings) is None
