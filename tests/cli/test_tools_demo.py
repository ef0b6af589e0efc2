"""``bids_interp_tools demo`` explains made-up heads and ends with the code of that run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bids_interp.cli.tools.demo import demo
from bids_interp.levels import participant as running
from bids_interp.phantom.heads import head_dataset as dataset


@pytest.mark.parametrize('code', [0, 1])
def test_heads_are_made_once_and_the_exit_code_is_that_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    made, runs = [], []

    def make(bids: Path, **choices: object) -> None:
        made.append(choices)
        bids.mkdir(parents=True)
        (bids / 'dataset_description.json').touch()

    monkeypatch.setattr(dataset, 'make_phantom_dataset', make)
    monkeypatch.setattr(running, 'run_participant', lambda given: runs.append(given) or code)
    for _ in range(2):
        result = CliRunner().invoke(demo, [str(tmp_path), '--seed', '3', '--nprocs', '1'])
        assert result.exit_code == code
    assert [(choices['n'], choices['seed']) for choices in made] == [(2, 3)]
    assert len(runs) == 2
    assert runs[0].bids_dir == tmp_path / 'bids'
    assert (runs[0].offline, runs[0].nprocs) == (True, 1)
