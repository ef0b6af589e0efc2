"""A folder is recognised by itself, not by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.execution.open_folder import OpenFolder


@pytest.mark.parametrize('recreated', [True, False])
def test_a_folder_that_moves(tmp_path: Path, recreated: bool) -> None:
    path = tmp_path / 'out'
    assert OpenFolder(path).moved() == ''  # there was none yet
    path.mkdir()
    stays, moves = OpenFolder(path), OpenFolder(path)
    assert stays.moved() == ''
    path.rename(tmp_path / 'elsewhere')
    if recreated:
        path.mkdir()
    assert str(path) in moves.moved()
