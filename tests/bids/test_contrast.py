"""Two contrasts of one model never share an output folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bids_interp.bids.model_choice import check_contrast
from bids_interp.errors import UsageError


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
