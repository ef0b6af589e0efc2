"""Crash files and error pages can be passed on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bids_interp.execution import crash_files
from bids_interp.execution.crash_files import hide_paths, without_paths
from bids_interp.execution.run import Run
from bids_interp.settings import Settings


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings(tmp_path / 'my bids', tmp_path / 'out')
    return Run(settings, tmp_path / 'out' / 'work', 'cpu', 1, 1, 4.0, 'run')


def test_folders_of_a_run_have_names(run: Run, tmp_path: Path) -> None:
    out = run.settings.output_dir
    text = without_paths(
        f'{run.settings.bids_dir}/sub-01/a.nii {run.work_dir}/x {out}/sub-01.html {out}-other/b.c '
        f'File "{sys.prefix}/lib/x.py" '
        "'/home/mary/models/m/config.json': https://x.org/a/b 1/2/3",
        run,
    )
    assert text == (
        'BIDS_DIR/sub-01/a.nii WORK_DIR/x OUTPUT_DIR/sub-01.html .../b.c '
        'File "PYTHON/lib/x.py" \'.../config.json\': https://x.org/a/b 1/2/3'
    )


def test_a_crash_file_has_no_login_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('LOGNAME', 'mary')
    path = tmp_path / 'crash-20260101-000000-mary-step-123.txt'
    path.write_text('Error in /home/mary/secret/x.nii\n')
    hidden = hide_paths(run, path)
    assert hidden.name == 'crash-20260101-000000-step-123.txt'
    assert hidden.read_text() == 'Error in .../x.nii\n'
    assert hide_paths(run, hidden) == hidden
    assert os.listdir(tmp_path) == [hidden.name]


def test_a_full_disk_keeps_the_crash_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'crash-1-x-step-1.txt'
    path.write_text('all of it')

    def full(self: Path, *given: object, **named: object) -> None:
        self.touch()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(crash_files.Path, 'write_text', full)
    assert hide_paths(run, path) == path
    assert path.read_text() == 'all of it'
    assert os.listdir(tmp_path) == [path.name]


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr(crash_files.getpass, 'getuser', nobody)
    assert crash_files.login_name() == f'UID{os.getuid()}'


def test_a_short_folder_is_not_a_part_of_another(tmp_path: Path) -> None:
    """In a container the dataset may be /data, which is also a name inside the package."""
    run = Run(Settings(Path('/data'), Path('/out')), Path('/work-dir'), 'cpu', 1, 1, 4.0, 'run')
    package = Path(crash_files.__file__).parents[2]
    text = without_paths(f'{package}/data/x.json /data/a.nii', run)
    assert text == 'PACKAGE/data/x.json BIDS_DIR/a.nii'


def test_a_home_folder_with_spaces_is_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', '/home/jane doe')
    assert 'jane' not in without_paths('cannot read /home/jane doe/my data/sub-01.nii', run)
