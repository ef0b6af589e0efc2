"""A subject that another run holds fails with a reason; its report is left alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_interp.bids.read.query import T1wRecord
from bids_interp.execution.locks import ResultLocks
from bids_interp.execution.outcome import Outcome, RunOutcome
from bids_interp.execution.run import Run
from bids_interp.levels import participant
from bids_interp.levels.preflight import PreflightRow
from bids_interp.settings import Settings


def test_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(tmp_path / 'bids', tmp_path / 'out')
    run = Run(settings, tmp_path / 'work', 'cpu', 1, 1, 4.0, 'second')
    records = [T1wRecord(Path(f'{n}.nii'), n, None, {'sub': n}) for n in ('01', '02')]
    rows = [PreflightRow(f'sub-{r.subject}', r, problems=()) for r in records]
    computed, reported = [], []

    def compute(run, bundle, free, excluded) -> RunOutcome:
        computed.extend(record.subject for record in free)
        return RunOutcome([Outcome(record.prefix) for record in free])

    monkeypatch.setattr(participant, '_prepare', lambda given: (run, SimpleNamespace(), rows))
    monkeypatch.setattr(participant, 'render_table', lambda rows: '')
    monkeypatch.setattr(participant, 'with_head_template', lambda given: given)
    monkeypatch.setattr(participant, '_compute', compute)
    monkeypatch.setattr(
        participant, 'report_failures', lambda run, result, names: reported.extend(names)
    )
    with ResultLocks(Run(settings, tmp_path / 'work', 'cpu', 1, 1, 4.0, 'first'), ['sub-01']):
        assert participant.run_participant(settings) == 1
    assert (computed, reported) == (['02'], ['sub-02'])
    assert 'first' in capsys.readouterr().out
    computed.clear()
    assert participant.run_participant(settings) == 0
    assert computed == ['01', '02']
