"""The script for a GPU, tried on a CPU with tiny images."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.scripts import load_script


@pytest.fixture(scope='module')
def script(repository: Path):
    # The scripts import one another from their own folder.
    sys.path.insert(0, str(repository / 'benchmarks'))
    try:
        return load_script(repository / 'benchmarks' / 'gpu_paper.py')
    finally:
        sys.path.pop(0)


@pytest.mark.slow
def test_a_try_prints_a_row_for_each_number_of_iterations_and_goes_on(
    script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['gpu_paper.py', str(tmp_path), '--device', 'cpu', '--try']
    monkeypatch.setattr(sys, 'argv', words)
    tables = []
    for _ in range(2):
        script.main()
        rows = re.findall(r'^\| (\d+) \| (\S+) \| (\S+) \|', capsys.readouterr().out, re.MULTILINE)
        assert [row[0] for row in rows] == ['1', '2']
        assert np.isfinite([float(value) for row in rows for value in row]).all()
        tables.append(rows)
    # The second run ends where the first one did.
    assert tables[1][-1] == tables[0][-1]
