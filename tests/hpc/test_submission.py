"""Scripts on disk, which are replaced only on request."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bids_interp.errors import BidsInterpError, OutputError
from bids_interp.hpc.submission import submit, write_scripts

SCRIPTS = {'participants.txt': '01\n', 'submit.sh': 'echo submitted participant 3\n'}


def test_different_scripts_are_kept_without_overwrite(tmp_path: Path) -> None:
    written = write_scripts(tmp_path / 'jobs', SCRIPTS, overwrite=False)
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [0o644, 0o755]
    assert write_scripts(tmp_path / 'jobs', SCRIPTS, overwrite=False) == written
    changed = {**SCRIPTS, 'participants.txt': '02\n'}
    with pytest.raises(OutputError, match=r'participants\.txt'):
        write_scripts(tmp_path / 'jobs', changed, overwrite=False)
    assert written[0].read_text() == '01\n'
    write_scripts(tmp_path / 'jobs', changed, overwrite=True)
    assert written[0].read_text() == '02\n'


def test_jobs_are_submitted_where_there_is_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scripts(tmp_path, SCRIPTS, overwrite=False)
    monkeypatch.setattr('shutil.which', lambda name: None)
    with pytest.raises(BidsInterpError, match='bsub'):
        submit(tmp_path, 'lsf')
    monkeypatch.setattr('shutil.which', lambda name: f'/bin/{name}' if name == 'bsub' else None)
    assert submit(tmp_path, 'lsf') == 'submitted participant 3\n'
