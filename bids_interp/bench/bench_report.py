"""Report of the known-truth benchmark: table and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.bench.design import ALL_KNOWING
from bids_interp.bench.goals import GOALS, METRICS, data_dictionary, goal_verdict, reading_notes
from bids_interp.bench.method_maps import OURS
from bids_interp.bench.records import SEEDS, Provenance, ScenarioRecord, Score, TableRow
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.constants import DIRECTIONS, SALIENCY_METHODS
from bids_interp.records import to_plain
from bids_interp.version import __version__

COLUMNS = (
    'scenario',
    'strength',
    'seed',
    'method',
    'classifier',
    'direction',
    'metric',
    'value',
    'low',
    'high',
    'covers',
)
#: Columns of the two tables of the page: maps and simulations. Empty columns are not shown.
MAP_COLUMNS = (
    'ncc_group',
    'gain_ncc_group',
    'ncc_single',
    'sign_accuracy',
    'average_precision',
    'iou',
    'off_target_percent',
    'reliable_percent',
    'agreeing_percent',
    'subtype_auc',
    'subtype_auc_share',
    'personal_share',
    'between_subject_ncc',
    'regions_found',
    'prediction_r',
)
SIMULATION_COLUMNS = (
    'roi_error_percent',
    'crosses',
    'effectiveness',
    'monotone',
    'transfer_right_way',
    'transfer_crosses',
    'volume_right_way',
    'volume_crosses',
    'realism',
    'n_folded',
    'reversibility_rmse',
    'minimality_mm',
    'volume_share',
    'displacement_ncc',
    'motion_outside_mm',
    'remeasured_slope',
    'remeasured_r',
)
MEAN = 'mean'
#: Classifiers, as named in the rows.
CLASSIFIERS = ('ours', 'otherseed', 'ipmi2021', 'sfcn', 'sham')


@dataclass
class BenchRun:
    """Run of the benchmark and the scenarios that it scored."""

    provenance: Provenance
    scenarios: list[str] = field(default_factory=list)


def write_results(out: Path, scores: Sequence[ScenarioRecord], setup: Mapping[str, Any]) -> Path:
    """Write ``table.tsv``, its data dictionary, ``table.md``, ``table.html`` and pictures.

    Parameters
    ----------
    out : pathlib.Path
        Output folder; group maps are read from its folder ``maps``.
    scores : sequence of ScenarioRecord
        Scores of every scenario and seed.
    setup : mapping
        Dataset, numbers of brains and images, folds and voxel size.

    Returns
    -------
    pathlib.Path
        The page.
    """
    rows = table_rows(scores)
    write_tsv(out / 'table.tsv', [to_plain(row) for row in rows], COLUMNS)
    write_json(out / 'table.json', data_dictionary())
    return write_page(out, scores, rows, {**setup, 'runs': bench_runs(scores)})


def bench_runs(scores: Sequence[ScenarioRecord]) -> list[BenchRun]:
    """Return the runs that made the scores."""
    runs: dict[str, BenchRun] = {}
    for one in scores:
        if one.provenance is None:
            continue
        own = runs.setdefault(one.provenance.run, BenchRun(one.provenance)).scenarios
        if one.scenario not in own:
            own.append(one.scenario)
    return list(runs.values())


def table_rows(scores: Sequence[ScenarioRecord]) -> list[TableRow]:
    """Return all rows, and for several seeds also rows with mean, smallest and largest value."""
    rows: list[TableRow] = []
    groups: dict[tuple[str, ...], list[TableRow]] = {}
    for one in scores:
        for found in one.rows:
            row = TableRow(
                **vars(found), scenario=one.scenario, strength=one.strength, seed=one.seed
            )
            rows.append(row)
            # The classifier is part of the key: maps of different networks have no common mean.
            names = (
                row.scenario,
                row.strength,
                row.method,
                row.classifier,
                row.direction,
                row.metric,
            )
            groups.setdefault(names, []).append(row)
    for own in groups.values():
        if len(own) > 1:
            values = [row.value for row in own]
            mean, low, high = (float(f(values)) for f in (np.mean, np.min, np.max))
            rows.append(replace(own[0], seed=MEAN, value=mean, low=low, high=high, covers=SEEDS))
    return rows


class Finder:
    """Look-up of numbers in the rows; of several seeds it returns the mean.

    Parameters
    ----------
    rows : sequence of TableRow
        Rows of :func:`table_rows`.
    """

    def __init__(self, rows: Sequence[TableRow]) -> None:
        self.rows: dict[tuple[str, ...], TableRow] = {}
        for row in rows:
            # The mean comes after the seeds and replaces them.
            self.rows[row.scenario, row.method, row.metric, row.direction] = row

    def get(self, scenario: str, method: str, metric: str) -> TableRow | None:
        """Return the row of both directions, or the mean of the two."""
        found = self.rows.get((scenario, method, metric, 'both'))
        if found is not None:
            return found
        sides = [self.rows.get((scenario, method, metric, direction)) for direction in DIRECTIONS]
        found_sides = [side for side in sides if side is not None]
        if not found_sides:
            return None
        value = float(np.mean([row.value for row in found_sides]))
        return replace(found_sides[0], direction='both', value=value, low=np.nan, high=np.nan)

    def value(self, scenario: str, method: str, metric: str) -> float:
        """Return the number, or NaN."""
        found = self.get(scenario, method, metric)
        return float('nan') if found is None else found.value

    def classifier(self, scenario: str, method: str) -> str:
        """Return the network that a method explains; empty for methods without one."""
        names = (row.classifier for key, row in self.rows.items() if key[:2] == (scenario, method))
        return next(names, '')


def best_saliency(finder: Finder, scenario: str, methods: Sequence[str]) -> str | None:
    """Return the saliency method with the largest group NCC."""
    scores = {
        name: finder.value(scenario, name, 'ncc_group')
        for name in methods
        if name in SALIENCY_METHODS
    }
    scores = {name: value for name, value in scores.items() if np.isfinite(value)}
    return max(scores, key=lambda name: scores[name]) if scores else None


def best_rival(finder: Finder, scenario: str, methods: Sequence[str]) -> str | None:
    """Return the other method with the largest group NCC that does not know the truth."""
    ours = (OURS, 'otherseed', *ALL_KNOWING)
    scores = {
        name: finder.value(scenario, name, 'ncc_group') for name in methods if name not in ours
    }
    scores = {name: value for name, value in scores.items() if np.isfinite(value)}
    return max(scores, key=lambda name: scores[name]) if scores else None


def check_goals(finder: Finder, scores: Sequence[ScenarioRecord]) -> list[dict[str, str]]:
    """Return the verdict on every goal in every scenario that it applies to."""
    rows = []
    for goal in GOALS:
        for scenario, null in dict.fromkeys((one.scenario, one.null) for one in scores):
            if scenario not in goal.scenarios and (goal.scenarios or null):
                continue
            methods = [m for one in scores if one.scenario == scenario for m in one.methods]
            method: str | None = goal.method
            if goal.method in _CHOICES:
                method = _CHOICES[goal.method](finder, scenario, methods)
            found = None if method is None else finder.get(scenario, method, goal.metric)
            if found is None or not np.isfinite(found.value):
                continue
            name = f' ({method})' if goal.method in _CHOICES else ''
            rows.append(
                {
                    'metric': goal.metric,
                    'title': goal.title + name,
                    'scenario': scenario,
                    'number': score_text(found, goal.metric),
                    'floor': goal.limit_text(goal.floor),
                    'aim': goal.limit_text(goal.aim),
                    'verdict': goal_verdict(goal, found.value),
                }
            )
    return rows


_CHOICES = {'saliency': best_saliency, 'rival': best_rival}


def score_text(row: Score | None, metric: str) -> str:
    """Return value and interval as text.

    Examples
    --------
    >>> score_text(Score('ours', 'ours', 'ncc_group', 'both', 0.5, 0.25, 0.625), 'ncc_group')
    '0.50 (0.25 to 0.62)'
    >>> score_text(None, 'ncc_group')
    ''
    """
    if row is None or not np.isfinite(row.value):
        return ''
    digits = METRICS[metric].digits
    text = f'{row.value:.{digits}f}'
    if np.isfinite(row.low) and np.isfinite(row.high):
        text += f' ({row.low:.{digits}f} to {row.high:.{digits}f})'
    return text


def scenario_table(
    finder: Finder, scenario: str, methods: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    """Return the table of a scenario with the best number of each column marked."""
    columns = [
        metric for metric in metrics if any(finder.get(scenario, m, metric) for m in methods)
    ]
    rivals = [method for method in methods if method not in ALL_KNOWING]
    best = {}
    for metric in columns:
        sign = METRICS[metric].better if not metric.startswith('gain') else 0
        values = {m: sign * finder.value(scenario, m, metric) for m in rivals}
        finite = [value for value in values.values() if np.isfinite(value)]
        best[metric] = {m for m, v in values.items() if sign and finite and v == max(finite)}
    order = sorted(methods, key=lambda m: -np.nan_to_num(finder.value(scenario, m, 'ncc_group')))
    rows = [
        {
            'method': method,
            'classifier': finder.classifier(scenario, method),
            'cells': [
                {
                    'text': score_text(finder.get(scenario, method, metric), metric),
                    'best': method in best[metric] and len(methods) > 1,
                }
                for metric in columns
            ],
        }
        for method in order
        if any(finder.get(scenario, method, metric) for metric in columns)
    ]
    return {'headings': [METRICS[metric] for metric in columns], 'rows': rows}


def _section(out: Path, finder: Finder, records: Sequence[ScenarioRecord]) -> dict[str, Any]:
    """Section of the page about one scenario, from the records of all its seeds."""
    from bids_interp.bench.pictures import draw_scenario

    first, scenario = records[0], records[0].scenario
    methods = list(dict.fromkeys(method for one in records for method in one.methods))
    tables = [
        scenario_table(finder, scenario, methods, metrics)
        for metrics in (MAP_COLUMNS, SIMULATION_COLUMNS)
    ]
    return {
        'name': scenario,
        'purpose': first.purpose,
        'changes': first.changes,
        'null': first.null,
        'tables': [table for table in tables if table['rows']],
        'has_maps': bool(methods),
        'classifiers': [
            {
                'name': name,
                'auc': score_text(finder.get(scenario, name, 'auc'), 'auc'),
                'p': score_text(finder.get(scenario, name, 'permutation_p'), 'permutation_p'),
            }
            for name in CLASSIFIERS
            if finder.get(scenario, name, 'auc')
        ],
        'ceiling': score_text(finder.get(scenario, 'ours', 'ncc_over_ceiling'), 'ceiling'),
        'skipped': first.skipped,
        'pictures': draw_scenario(out, first, [row['method'] for row in tables[0]['rows']]),
    }


def write_page(
    out: Path,
    scores: Sequence[ScenarioRecord],
    rows: Sequence[TableRow],
    setup: Mapping[str, Any],
) -> Path:
    """Write the page (one self-contained file), its text as Markdown, and its pictures."""
    from bids_interp.bench.markdown_table import write_markdown
    from bids_interp.bench.pictures import draw_summary
    from bids_interp.reports.common.sections import PAGE
    from bids_interp.reports.scan.scan_report import html_environment

    finder = Finder(rows)
    by_scenario: dict[str, list[ScenarioRecord]] = {}
    for one in scores:
        by_scenario.setdefault(one.scenario, []).append(one)
    sections = [_section(out, finder, records) for records in by_scenario.values()]
    rivals = {one.scenario: best_saliency(finder, one.scenario, one.methods) for one in scores}
    draw_summary(out, scores, rivals)
    goals = check_goals(finder, scores)
    remarks = reading_notes(setup, [one.recipes for one in scores])
    write_markdown(out / 'table.md', setup, goals, sections, remarks)
    style = ''.join(
        (PAGE / name).read_text('utf-8') for name in ('style.css', 'training.css', 'bench.css')
    )
    page = html_environment(PAGE).get_template('bench.html.j2')
    content = page.render(
        style=style,
        version=__version__,
        setup=setup,
        sections=sections,
        goals=goals,
        notes=remarks,
        metrics=METRICS,
        seeds=sorted({one.seed for one in scores}),
    )
    return write_text(out / 'table.html', content)
