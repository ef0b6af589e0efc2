from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from bids_interp.bench.bench_report import (
    Finder,
    bench_runs,
    check_goals,
    scenario_table,
    score_text,
    table_rows,
    write_results,
)
from bids_interp.bench.goals import GOALS, METRICS, goal_verdict
from bids_interp.bench.pictures import title_of
from bids_interp.bench.records import SEEDS, Provenance, ScenarioRecord, Score
from bids_interp.bids.write.atomic import write_json
from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import OutputError
from bids_interp.records import read_record, to_plain
from bids_interp.spatial import Grid

FACTS = {
    'dataset': 'made-up <brains>',
    'n_brains': 6,
    'size': 'small',
    'n_folds': 3,
    'spacing_mm': 4.0,
    'replicates': 6,
    'anatomy_mm': 1.0,
    'explained': 1,
    'strength': 'moderate',
    'draws': 100,
    'missing': [],
}
ORIGIN = Provenance(
    run='first',
    table='one',
    command='bids_interp_tools bench truth in --out out',
    version='1',
    machine='none',
    software='none',
    date='2030-01-01',
)
#: Network behind the rows of a method that does not explain ours.
EXPLAINED = {'ipmi2021': 'ipmi2021', 'exact': '', 'tbm': ''}
RECIPE = {
    'classifier': {'architecture': 'robust', 'steps': 10, 'batch': 8},
    'simulator': {'capacity': 'template', 'template_steps': 5, 'steps': 3, 'batch': 2},
}


def row(method: str, metric: str, value: float, direction: str = 'both') -> Score:
    explained = EXPLAINED.get(method, 'ours')
    return Score(method, explained, metric, direction, value, value - 1, value + 1)


def scores(
    scenario: str = 'S1', seed: int = 0, shift: float = 0.0, null: bool = False
) -> ScenarioRecord:
    rows = [
        row('ours', 'ncc_group', 0.8 + shift),
        row('ours', 'remeasured_slope', 0.85),
        row('gradient', 'ncc_group', 0.5),
        row('smoothgrad', 'ncc_group', 0.6),
        row('gradient', 'gain_ncc_group', 0.3 + shift),
        row('smoothgrad', 'gain_ncc_group', 0.2 + shift),
        row('ours', 'off_target_percent', 3.0, 'inject'),
        row('ours', 'off_target_percent', 2.0, 'remove'),
        row('ours', 'n_folded', 0.0),
        row('ipmi2021', 'n_folded', 12.0),
        row('ipmi2021', 'ncc_group', np.nan),
        row('ours', 'auc', 0.9),
        row('tbm', 'ncc_group', 0.1),
        # It knows the truth and does not compete.
        row('exact', 'ncc_group', 0.9),
        row('exact', 'gain_ncc_group', -0.1 + shift),
    ]
    if null:
        rows = [row('ours', 'reliable_percent', 0.5)]
    return ScenarioRecord(
        scenario=scenario,
        strength='moderate',
        seed=seed,
        purpose='a test',
        changes={} if null else {'hippocampus': -0.15},
        replicates=6,
        anatomy_mm=1.0,
        spacing_mm=4.0,
        stride_mm=8.0,
        n_folds=3,
        draws=100,
        methods=['gradient', 'ours', 'smoothgrad', 'ipmi2021', 'exact', 'tbm'],
        recipes=dict.fromkeys(('ours', 'ipmi2021', 'sfcn'), RECIPE),
        null=null,
        n_images=36,
        n_brains=6,
        n_explained=12,
        grid=Grid((4, 4, 4), np.eye(4)),
        skipped={'deeplift': 'no <rule>'},
        rows=rows,
        provenance=ORIGIN,
    )


def test_scores_come_back_from_their_file(tmp_path):
    path = write_json(tmp_path / 'S1.json', to_plain(scores()))
    assert json.loads(path.read_text())['rows'][10]['value'] is None
    again = read_record(ScenarioRecord, path, OutputError)
    assert np.isnan(again.rows[10].value)
    assert to_plain(replace(again, rows=[], grid=None)) == to_plain(
        replace(scores(), rows=[], grid=None)
    )
    assert [again.rows[0], again.grid.shape] == [scores().rows[0], (4, 4, 4)]


def test_several_seeds_get_a_mean():
    rows = table_rows([scores(seed=0), scores(seed=1, shift=0.1)])
    found = [r for r in rows if (r.method, r.metric) == ('ours', 'ncc_group')]
    assert [r.seed for r in found] == [0, 1, 'mean']
    assert found[2].value == pytest.approx(0.85)
    assert (found[2].low, found[2].high) == pytest.approx((0.8, 0.9))
    assert found[2].covers == SEEDS
    assert Finder(rows).value('S1', 'ours', 'ncc_group') == pytest.approx(0.85)


def test_every_run_behind_the_table_is_named():
    origin = replace(ORIGIN, run='second', command='b')
    other = replace(scores('S7', null=True), provenance=origin)
    runs = bench_runs([scores('S1'), scores('S1', seed=1), scores('S3'), other])
    assert [(run.provenance.command, run.scenarios) for run in runs] == [
        (ORIGIN.command, ['S1', 'S3']),
        ('b', ['S7']),
    ]


def test_seeds_of_different_networks_have_no_common_mean():
    made = scores(seed=1)
    changed = [replace(r, classifier='sfcn') if r.method == 'gradient' else r for r in made.rows]
    rows = table_rows([scores(), replace(made, rows=changed)])
    seeds = {
        name: {r.seed for r in rows if r.method == name} for name in ('gradient', 'smoothgrad')
    }
    assert seeds == {'gradient': {0, 1}, 'smoothgrad': {0, 1, 'mean'}}


def test_one_seed_is_its_own_mean():
    assert {r.seed for r in table_rows([scores()])} == {0}


def test_a_number_of_two_directions_is_their_mean():
    finder = Finder(table_rows([scores()]))
    assert finder.value('S1', 'ours', 'off_target_percent') == 2.5
    assert np.isnan(finder.value('S1', 'ours', 'iou'))
    assert (
        score_text(finder.get('S1', 'ours', 'off_target_percent'), 'off_target_percent') == '2.50'
    )


def test_goals_are_checked_where_they_hold():
    found = scores(), scores('S3'), scores('S7', null=True)
    rows = check_goals(Finder(table_rows(found)), found)
    by = {(r['metric'], r['scenario']): r for r in rows}
    assert by['ncc_group', 'S1']['verdict'] == 'missed'
    assert ('ncc_group', 'S7') not in by
    # The best other method and the best saliency method; `exact` knows the truth.
    gains = [r for r in rows if (r['metric'], r['scenario']) == ('gain_ncc_group', 'S3')]
    assert ['(smoothgrad)' in gain['title'] for gain in gains] == [True, True]
    assert [gain['floor'] for gain in gains] == ['0', '0.15']
    assert [gain['verdict'] for gain in gains] == ['aim met', 'floor met']
    assert gains[0]['number'] == '0.20 (-0.80 to 1.20)'
    slope = by['remeasured_slope', 'S1']
    assert (slope['floor'], slope['aim'], slope['verdict']) == (
        '0.8 to 1.2', '0.9 to 1.1', 'floor met'
    )  # fmt: skip
    assert by['n_folded', 'S1']['verdict'] == 'aim met'
    assert by['reliable_percent', 'S7']['verdict'] == 'floor met'
    assert [r for r in rows if r['scenario'] == 'S7'] == [by['reliable_percent', 'S7']]


def test_the_best_of_a_column_is_marked_whichever_way_is_better():
    finder = Finder(table_rows([scores()]))
    table = scenario_table(finder, 'S1', scores().methods, ('ncc_group', 'n_folded'))
    assert [row['method'] for row in table['rows']][:4] == [
        'exact',
        'ours',
        'smoothgrad',
        'gradient',
    ]
    assert {row['method']: row['classifier'] for row in table['rows']} == {
        **dict.fromkeys(('ours', 'smoothgrad', 'gradient'), 'ours'), **EXPLAINED
    }  # fmt: skip
    marked = {row['method']: [cell['best'] for cell in row['cells']] for row in table['rows']}
    assert marked['ours'] == [True, True]
    assert marked['exact'] == [False, False]
    assert marked['ipmi2021'] == [False, False]


def test_every_goal_has_a_metric_and_a_floor_below_its_aim():
    for goal in GOALS:
        assert goal.metric in METRICS
        start = goal.ideal or 0.0
        assert goal_verdict(goal, start + goal.aim) == 'aim met'
        assert goal_verdict(goal, start + goal.floor) in ('floor met', 'aim met')
        if goal.ideal is not None:
            assert goal_verdict(goal, start - goal.aim) == 'aim met'
            assert goal_verdict(goal, start - goal.floor - 0.01) == 'missed'


def test_every_method_has_a_heading():
    for method in (
        'truth',
        'ours',
        'otherseed',
        'ipmi2021',
        'tbm',
        'exact',
        'oracle',
        'difference',
    ):
        assert title_of(method)
    assert all('size only' in title_of(method) for method in SALIENCY_METHODS)


def test_table_and_page_are_written_without_maps(tmp_path):
    facts = {**FACTS, 'missing': ['S4, seed 0']}
    page = write_results(tmp_path, [scores(), scores('S7', null=True)], facts).read_text()
    with (tmp_path / 'table.tsv').open() as stream:
        rows = list(csv.DictReader(stream, delimiter='\t'))
    levels = json.loads((tmp_path / 'table.json').read_text())
    assert set(rows[0]) == set(levels)
    assert rows[10]['value'] == 'n/a'
    named = {row['method']: row['classifier'] for row in rows}
    assert named['tbm'] == 'n/a'
    assert {row['covers'] for row in rows} <= {*levels['covers']['Levels'], 'n/a'}
    assert set(named.values()) <= {*levels['classifier']['Levels'], 'n/a'}
    for words in (
        'S4, seed 0',
        'hippocampus -15 %',
        'no &lt;rule&gt;',
        'made-up &lt;brains&gt;',
    ):
        assert words in page, words
    text = (tmp_path / 'table.md').read_text()
    for words in (
        'S4, seed 0',
        'hippocampus -15 %',
        'ours 0.90 (-0.10 to 1.90)',
        '| ours | ours | **0.80 (-0.20 to 1.80)** |',
        '| exact |  | 0.90 (-0.10 to 1.90) |',
        '| tbm |  | 0.10 (-0.90 to 1.10) |',
        'deeplift (no <rule>)',
        '| S1 | 0.80 (-0.20 to 1.80) | 0.85 | 0.92 | missed |',
    ):
        assert words in text, words
    widths = {line.count('|') for line in text.split('## S1')[1].splitlines() if line[:1] == '|'}
    assert len(widths) == 3
