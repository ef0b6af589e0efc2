"""Tables of the group level, and the report's page around them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bids_interp.errors import InputDatasetError
from bids_interp.group.analysis import AnalysisChoices, GroupAnalysis, folder_name
from bids_interp.group.covariates import read_group_variables
from bids_interp.group.tables import write_pattern, write_scores
from bids_interp.reports.group import group_report
from bids_interp.settings import Settings
from helpers import cohorts


@pytest.fixture
def analysis(make_cohort, chosen) -> GroupAnalysis:
    cohort = make_cohort(['patient', 'control'] * 5, expression={'patient': 0.6})
    settings = Settings(cohort.bids, cohort.out, 'group')
    scans = chosen(cohort.out)
    columns = read_group_variables(settings, scans, scans[0].prediction.target)
    model = (cohorts.MODEL, cohorts.DIGEST)
    folder = cohort.out / 'group' / folder_name(model)
    choices = AnalysisChoices(random_seed=1, permutations=100)
    return GroupAnalysis(cohort.out, folder, scans, columns, model, choices)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as stream:
        return list(csv.DictReader(stream, delimiter='\t'))


def test_scores_and_their_model_are_written(analysis: GroupAnalysis) -> None:
    content = write_scores(analysis)
    written = rows_of(analysis.folder / 'scores.tsv')
    assert len(written) == len(content['rows']) == 10
    assert content['changes'] == []
    sidecar = json.loads((analysis.folder / 'scores.json').read_text())
    assert sidecar['ControlSD'] == pytest.approx(content['control_sd'])
    assert set(written[0]) <= set(sidecar)
    effects = rows_of(analysis.folder / 'scores_model.tsv')
    assert len(effects) == len(content['model']['effects'])
    assert not (analysis.folder / 'change.tsv').exists()


def test_a_comparison_with_null_models_needs_the_model(analysis: GroupAnalysis) -> None:
    with pytest.raises(InputDatasetError) as caught:
        write_pattern(replace(analysis, choices=replace(analysis.choices, bundle=None)))
    assert '--model' in caught.value.advice


def test_a_page_shows_at_most_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_report, 'SHOWN', 2)
    rows = [{'image': f'sub-{index}', 'value': index / 4} for index in range(5)]
    table = group_report._table(rows, {'image': 'image', 'value': 'value'})
    assert len(table['rows']) == 2
    assert table['more'] == 3
