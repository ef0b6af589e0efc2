"""Names of folders and files that a shell, a page or a terminal would obey."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bids_interp.cli import app
from helpers import skeletons
from hostile.case import limited

LABELS = [
    '<script>alert(1)<', '$(id)', '`id`', ';id', '|id', '&& id', '-rf', '--help', '*', '?', ' ',
    "'", '"', '\\', '%s', '{0}', '{{7*7}}', 'a\nb', 'a\tb', 'a\r', '\x1b[2J', '\x07', '\u202e',
    '..', '.', '0' * 200, 'é', '\udcff', '=cmd()', '01_T1w',
]  # fmt: skip


@pytest.mark.parametrize('label', LABELS, ids=map(ascii, LABELS))
def test_a_label_is_a_row_of_plain_text(
    label: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bids = tmp_path / 'bids'
    skeletons.make_dataset(bids, 'sub-01_T1w.nii')
    folder = os.fsencode(bids) + b'/sub-' + os.fsencode(label) + b'/anat'
    try:
        os.makedirs(folder)
        Path(os.fsdecode(folder), f'sub-{label}_T1w.nii').write_bytes(b'')
    except OSError:
        pytest.skip('this file system does not allow the name')
    before = sorted(tmp_path.rglob('*'))
    words = [str(bids), str(tmp_path / 'out'), 'participant', '--dry-run', '--skip-bids-validation']
    with limited(tmp_path) as watch, pytest.raises(SystemExit) as end:
        app.main([*words, '-w', str(tmp_path / 'work')])
    assert end.value.code == 1
    assert [event for event in watch.events if 'cache' not in event.lower()] == []
    assert sorted(tmp_path.rglob('*')) == before
    said = capsys.readouterr()
    assert 'Traceback' not in said.out + said.err
    rows = [line for line in said.out.splitlines() if line.rstrip().endswith('NO')]
    assert len(rows) == 1
    assert all(line.isprintable() for line in said.out.splitlines())
