"""Files that describe a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_interp.execution.run import Run
from bids_interp.execution.run_files import save_settings, write_graph
from bids_interp.settings import Settings


@pytest.fixture
def run(tmp_path: Path) -> Run:
    settings = Settings('/bids', tmp_path / 'out', doses=(0.25, 1.0), fast=True)
    return Run(settings, tmp_path / 'work', 'cpu', 1, 1, 4.0, 'run-1')


def test_saved_settings_are_those_of_the_run(run: Run) -> None:
    save_settings(run, ['01', '02', '01'])
    for subject in ('01', '02'):
        text = (run.log_dir(subject) / 'bids_interp.toml').read_text()
        assert Settings.from_toml(text) == run.settings


def test_the_graph_names_every_node(run: Run) -> None:
    workflow = pe.Workflow('small_wf', base_dir=str(run.work_dir))
    first = pe.Node(niu.IdentityInterface(['value']), name='first')
    second = pe.Node(niu.IdentityInterface(['value']), name='second')
    workflow.connect(first, 'value', second, 'value')
    (run.settings.output_dir / 'logs').mkdir(parents=True)
    path = write_graph(run, workflow)
    assert path == run.settings.output_dir / 'logs' / 'run-1_graph.dot'
    assert re.search(r'_first\b.*->.*_second\b', path.read_text())
