"""Faults that no check foresees end with one line, a crash file and a code."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from bids_interp.cli import app
from bids_interp.cli.faults import faults_reported
from bids_interp.cli.tools import command
from bids_interp.errors import ModelError

PATH = re.compile(r'\S*crash-bids_interp-\w+\.txt')


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (KeyError('sub'), 1),
        (MemoryError(), 1),
        (RecursionError('deep'), 1),
        (OSError(errno.ESTALE, 'Stale file handle'), 1),
        (OSError(errno.ENAMETOOLONG, 'File name too long'), 2),
        (PermissionError(errno.EACCES, 'Permission denied'), 2),
        (ModelError('bad'), 5),
    ],
)
def test_one_line_a_crash_file_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    with pytest.raises(SystemExit) as end, faults_reported(tmp_path):
        raise error
    assert end.value.code == code
    said = capsys.readouterr().err
    crashes = [Path(path.strip('()')) for path in PATH.findall(said)]
    assert [path.parent for path in crashes] == [tmp_path] * (not isinstance(error, ModelError))
    assert 'Traceback' not in said
    for path in crashes:
        assert len(said.splitlines()) == 1
        assert type(error).__name__ in said
        assert 'Traceback' in path.read_text()


def test_a_crash_file_needs_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    with pytest.raises(SystemExit), faults_reported(tmp_path / 'nowhere'):
        raise KeyError
    assert len(list(tmp_path.glob('crash-*'))) == 1


@pytest.mark.parametrize('level', ['participant', 'group'])
def test_a_level_that_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    def broken(settings: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(app, '_runner', lambda level: broken)
    logs = tmp_path / 'out' / 'logs'
    logs.mkdir(parents=True)
    with pytest.raises(SystemExit) as end:
        app.main([str(tmp_path), str(tmp_path / 'out'), level])
    assert end.value.code == 1
    (path,) = logs.glob('crash-*')
    assert str(path) in capsys.readouterr().err


def test_a_name_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bids, out in ((tmp_path, tmp_path / ('x' * 300)), (tmp_path / ('x' * 300), tmp_path)):
        with pytest.raises(SystemExit) as end:
            app.main([str(bids), str(out), 'participant', '--work-dir', str(tmp_path / 'w')])
        assert end.value.code in (2, 4)
        assert 'Traceback' not in capsys.readouterr().err


@pytest.mark.parametrize('main', [app.main, command.main])
def test_a_current_folder_that_was_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, main
) -> None:
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as end:
        main(['in', 'out', 'participant'])
    os.chdir(tmp_path)
    assert end.value.code == 2
    assert PATH.search(capsys.readouterr().err) is None


DEEP = 100_000


@pytest.mark.parametrize(
    ('option', 'name', 'text'),
    [
        ('--bids-filter-file', 'f.json', '[' * DEEP),
        ('--config-file', 'f.toml', f'a = {"[" * DEEP}'),
        ('--use-plugin', 'f.yml', '[' * DEEP),
    ],
)
def test_files_that_are_nested_too_deeply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str, text: str
) -> None:
    (tmp_path / 'bids' / 'sub-01').mkdir(parents=True)
    description = tmp_path / 'bids' / 'dataset_description.json'
    description.write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    file = tmp_path / name
    file.write_text(text)
    words = [str(tmp_path / 'bids'), str(tmp_path / 'out'), 'participant', option, str(file)]
    with pytest.raises(SystemExit) as end:
        app.main(words)
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert PATH.search(said) is None
    description.write_text('{"a":' * DEEP)
    with pytest.raises(SystemExit) as end:
        app.main(words[:3])
    assert end.value.code == 4
    assert str(description) in capsys.readouterr().err


def test_a_closed_pipe_is_no_fault(tmp_path: Path) -> None:
    """As in `bids_interp_tools model show MODEL | head`."""
    with pytest.raises(BrokenPipeError), faults_reported(tmp_path):
        raise BrokenPipeError
    assert not list(tmp_path.iterdir())
