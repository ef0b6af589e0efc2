"""Folders that are written to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bids_interp.bids.write import folders
from bids_interp.errors import OutputError


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'below', Path('/proc/out')):
        with pytest.raises(OutputError, match=str(folder)):
            folders.check_writable(folder, 'output directory')
    made = tmp_path / 'a' / 'b'
    folders.check_writable(made, 'output directory', create=False)
    assert not made.exists()
    folders.check_writable(made, 'output directory')
    assert list(made.iterdir()) == []


def test_free_space(tmp_path: Path) -> None:
    folders.check_space({tmp_path: 1000})
    with pytest.raises(OutputError):
        folders.check_space({tmp_path: 10**18})
    below = tmp_path / 'work'
    below.mkdir()
    half = int(0.6 * shutil.disk_usage(tmp_path).free)
    with pytest.raises(OutputError):  # two halves on one disk are one whole
        folders.check_space({tmp_path: half, below: half})
