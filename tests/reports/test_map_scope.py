"""Scope of the maps: the first sentence of the report of a scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_interp.bids.prediction import PatternFacts
from bids_interp.bids.read.scan_files import COUNTERFACTUAL, ScanFiles
from bids_interp.records import to_plain
from bids_interp.reports import build_report
from bids_interp.reports.scan.map_scope import pattern_details
from bids_interp.reports.scan.summary import summarise_scan
from helpers.pages import Page

PREFIX = 'sub-01_run-1'
COMMON = PatternFacts(
    capacity='pattern', personal=False, personal_share=0.01, subtypes=1, weights_ncc=0.2
)
PERSONAL = PatternFacts(
    capacity='pattern',
    personal=True,
    personal_share=0.41,
    subtypes=2,
    stability=0.93,
    removed=[0.62, 0.03],
    injected=[0.11, 0.89],
    consent=12.3,
    weights_ncc=0.23,
    measured_dose=0.47,
)
ONE = PatternFacts(capacity='pattern', personal=True, subtypes=1, removed=[0.78], injected=[1.0])
NOTHING = PatternFacts(capacity='pattern', personal=False, found=False)


def change(out: Path, **fields: object) -> ScanFiles:
    files = ScanFiles(out, PREFIX)
    assert files.prediction is not None
    plain = json.loads(files.prediction.read_text()) | fields
    files.prediction.write_text(json.dumps(plain))
    return files


@pytest.mark.parametrize(
    ('facts', 'warranted', 'name', 'words'),
    [
        (COMMON, True, 'common', ['“patient”']),
        (PatternFacts(capacity='template', personal=False), True, 'common', ['“patient”']),
        (PatternFacts(capacity='residual', personal=True), True, 'simulated', []),
        (PERSONAL, True, 'personal', ['0.62', '0.03', '11%', '89%', '“patient”']),
        (ONE, True, 'personal', ['0.78', 'same for everybody']),
        (COMMON, False, 'chance', []),
        (NOTHING, False, 'no-pattern', []),
        (PatternFacts(capacity='ipmi2021', personal=True), True, 'simulated', []),
        (PatternFacts(capacity='ipmi2021', personal=True, found=False), True, 'untrained', []),
    ],
)
def test_the_first_sentence_says_whether_the_map_is_about_this_scan(
    derivatives: Path, facts, warranted, name, words
) -> None:
    change(derivatives, Pattern=to_plain(facts), ExplanationWarranted=warranted)
    page = Page(build_report(derivatives, PREFIX))
    scope = page.find('scope')
    assert scope.attributes['data-scope'] == name
    assert [word for word in words if word not in scope.text] == []
    assert page.ids.index('scope') < page.ids.index('summary')
    # Without a finding, no region is named in the summary.
    is_finding = name not in ('chance', 'no-pattern', 'untrained')
    assert ('hippocampus' in page.find('summary').text) == is_finding
    assert ('maps-unwarranted' in page.ids) != is_finding


def test_old_predictions_have_no_scope(derivatives: Path) -> None:
    summary = summarise_scan(ScanFiles(derivatives, PREFIX))
    assert summary.scope is None
    assert summary.is_finding
    assert 'scope' not in Page(build_report(derivatives, PREFIX)).ids


def test_a_regression_names_its_label(derivatives: Path) -> None:
    target = {'kind': 'regression', 'label': 'age', 'negative': 'lower', 'positive': 'higher'}
    files = change(derivatives, Pattern=to_plain(COMMON), Target=target)
    scope = summarise_scan(files).scope
    assert scope is not None
    assert '“higher age”' in scope.text


def test_facts_about_the_pattern_are_listed(derivatives: Path) -> None:
    files = change(derivatives, Pattern=to_plain(PERSONAL))
    values = [value for _, value in pattern_details(PERSONAL)]
    assert values == ['0.41', '2, stability 0.93', '12.3', '0.23', '0.47']
    assert set(pattern_details(PERSONAL)) <= set(summarise_scan(files).details)
    assert [value for _, value in pattern_details(COMMON)] == ['0.01', '1', '0.20']
    assert pattern_details(None) == pattern_details(NOTHING) == []


@pytest.mark.parametrize(('share', 'is_low'), [('0.95', False), ('0.94', True), ('n/a', False)])
def test_a_low_volume_share_is_marked(derivatives: Path, share: str, is_low: bool) -> None:
    stats = ScanFiles(derivatives, PREFIX).native('desc-counterfactual_stats.tsv')
    first, *rows = stats.read_text().splitlines()
    shares = [share, '0.99']
    lines = [f'{first}\tvolume_share', *(f'{r}\t{s}' for r, s in zip(rows, shares, strict=True))]
    stats.write_text('\n'.join(lines) + '\n')
    assert len(ScanFiles(derivatives, PREFIX).table(COUNTERFACTUAL)) == 2
    page = Page(build_report(derivatives, PREFIX))
    assert page.values('data-caution').count('volume-share') == is_low
    cells = [e for e in page.having('data-number') if e.attributes['data-number'] == 'volume_share']
    assert [e.attributes.get('class') for e in cells] == ['low' if is_low else None, None]
