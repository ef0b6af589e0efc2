"""Two contrasts of one model never share an output folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bids_interp.errors import ModelError, UsageError
from bids_interp.models.bundle.choice import check_contrast, choose_bundle, output_spaces
from bids_interp.settings import Settings


def a_bundle(version_hash: str) -> Any:
    return SimpleNamespace(name='dx', version_hash=version_hash, contrast_name='CN-AD')


@pytest.fixture
def out_dir(tmp_path: Path) -> Path:
    makers = [{'Name': 'bids_interp', 'Version': '0.1.0'}, {'Name': 'dx', 'Version': 'abc-1'}]
    text = json.dumps({'Name': 'x', 'GeneratedBy': makers})
    (tmp_path / 'dataset_description.json').write_text(text)
    return tmp_path


@pytest.mark.parametrize('version', ['abc', 'abc-2'])
def test_another_contrast_is_refused(out_dir: Path, version: str) -> None:
    with pytest.raises(UsageError, match='dx .*CN-AD'):
        check_contrast(out_dir, a_bundle(version))


@pytest.mark.parametrize('version', ['abc-1', 'def', 'def-1'])
def test_the_same_contrast_and_other_models_are_not(out_dir: Path, version: str) -> None:
    check_contrast(out_dir, a_bundle(version))


@pytest.mark.parametrize('text', [None, 'no json', '[]', '{}'])
def test_a_new_folder_is_fine(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / 'dataset_description.json').write_text(text)
    check_contrast(tmp_path, a_bundle('abc'))


def test_the_order_of_models(tmp_path: Path) -> None:
    settings = Settings('/bids', tmp_path)
    environ = {'BIDS_INTERP_MODEL': '/of/the/environment'}
    assert choose_bundle(settings, {}).name == 'demo_model'
    assert choose_bundle(settings, environ) == Path('/of/the/environment')
    first = tmp_path / 'models' / 'first'
    first.mkdir(parents=True)
    (tmp_path / 'models' / 'notes').mkdir()
    (first / 'config.json').write_text('{}')
    assert choose_bundle(settings, environ) == first
    second = tmp_path / 'models' / 'second'
    second.mkdir()
    (second / 'config.json').write_text('{}')
    with pytest.raises(ModelError, match='first, second'):
        choose_bundle(settings, environ)
    assert choose_bundle(settings.replace(model='/mine'), environ) == Path('/mine')


def test_output_spaces() -> None:
    settings = Settings('/bids', '/out', output_spaces=('MNI152X', 'template', 'T1w'))
    assert output_spaces(settings, 'MNI152X') == ('template', 'T1w')
    other = settings.replace(output_spaces=('MNI152Y:res-1', 'anat', 'MNI152Y'))
    assert output_spaces(other, 'MNI152X') == ('MNI152Y', 'T1w')
    for name in ('MNI152Y:res-2', 'MNIPediatricAsym:cohort-1', 'MNI_152'):
        with pytest.raises(UsageError, match=name):
            output_spaces(settings.replace(output_spaces=(name,)), 'MNI152X')
