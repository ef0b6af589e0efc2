"""Report of a group: a single self-contained HTML file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bids_interp.bids.read.scan_files import parse_number
from bids_interp.version import __version__

logger = logging.getLogger('bids_interp.reports')

Rows = Sequence[Mapping[str, Any]]

#: Largest number of rows of a table in the page; the files contain all rows.
SHOWN = 400


def write_group_report(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the report of a group.

    A figure that cannot be drawn is logged, and the page says that it is missing.

    Parameters
    ----------
    path : pathlib.Path
        Output file; pictures go into ``figures`` in the same folder.
    content : mapping
        Content of :func:`bids_interp.group.tables.report_content`.

    Returns
    -------
    pathlib.Path
        ``path``.
    """
    from bids_interp.boilerplate.methods import render_html
    from bids_interp.reports.common.montage import write_bytes
    from bids_interp.reports.common.sections import PAGE
    from bids_interp.reports.group.group_text import methods_of, report_text
    from bids_interp.reports.scan.scan_report import html_environment

    names = ('style.css', 'training.css', 'group.css')
    style = ''.join((PAGE / name).read_text('utf-8') for name in names)
    pictures, viewer = _maps(path.parent / 'figures', content)
    page = (
        html_environment(PAGE)
        .get_template('group.html.j2')
        .render(
            content=content,
            text=report_text(content),
            subjects=_subjects(content['inclusion']),
            pictures=pictures,
            viewer=viewer,
            figures=_figures(content),
            effects=_effects(content['scores']['model']),
            change=_effects(content['scores'].get('change_model') or {}),
            confounds=_confounds(content['scores']['confounds']),
            clusters=_clusters(content['clusters']),
            regions=_regions(content['regions']),
            missing=_table(content['missing'], {'image': 'image', 'lacks': 'lacks'}),
            methods=render_html(methods_of(content)),
            style=style,
            version=__version__,
        )
    )
    return write_bytes(Path(path), page.encode('utf-8'))


def _maps(folder: Path, content: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    from bids_interp.reports.group.group_map_figures import draw_maps

    try:
        return draw_maps(folder, content['maps'], content['space'])
    except Exception:
        logger.exception('The mean maps could not be drawn.')
        return [], ''


def _figures(content: Mapping[str, Any]) -> dict[str, Any]:
    """Data URIs of the figures; empty without data."""
    from bids_interp.reports.group.group_figures import (
        draw_forest,
        draw_logits,
        draw_responses,
        draw_scores,
    )
    from bids_interp.reports.training.answer_figures import figure_uri

    positive = str(content['target'].get('positive') or 'positive')
    simulated = [
        key for row in content['logits'] for key in row if key not in ('image', 'group', 'observed')
    ]
    rows = content['scores']['rows']
    # Constant covariates are not drawn.
    covariates = [
        name
        for name in (*content['covariates'], 'brain_volume_ml')
        if len({str(row[name]) for row in rows if row[name] is not None}) > 1
    ]
    return {
        'forests': [
            {
                'name': one['name'],
                'dose': f'{int(one["name"][-3:]) / 100:g}',
                'address': figure_uri(
                    partial(draw_forest, content['regions'], one['name']), f'regions{one["name"]}'
                ),
            }
            for one in content['maps']
        ],
        'logits': figure_uri(
            partial(draw_logits, content['logits'], list(dict.fromkeys(simulated))), 'logits'
        ),
        'responses': figure_uri(partial(draw_responses, content['response'], positive), 'responses')
        if content['response']
        else '',
        'scores': figure_uri(
            partial(draw_scores, rows, content['group_column'], covariates, content['levels']),
            'scores',
        ),
    }


def _table(rows: Rows, columns: Mapping[str, str]) -> dict[str, Any]:
    """Headings, cells and flags of numeric columns; empty without rows."""
    if not rows:
        return {}
    cells = [[_cell(row.get(column)) for column in columns] for row in rows[:SHOWN]]
    numeric = [all(_numeric(row[index]) for row in cells) for index in range(len(columns))]
    more = max(0, len(rows) - SHOWN)
    return {'headings': list(columns.values()), 'rows': cells, 'numeric': numeric, 'more': more}


def _cell(value: Any) -> str:
    if value is None:
        return 'n/a'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.3g}' if value == value else 'n/a'
    return str(value)


def _numeric(text: str) -> bool:
    return text == 'n/a' or parse_number(text) is not None


def _subjects(inclusion: Rows) -> dict[str, Any]:
    """Included and excluded images with reasons."""
    included = [row for row in inclusion if row['included']]
    excluded = [row for row in inclusion if not row['included']]
    columns = {'image': 'image', 'group': 'group', 'reason': 'reason', 'folds': 'explained by'}
    included_columns = {**columns, 'reason': 'note', 'in_training_set': 'in training set'}
    excluded_columns = {**columns, 'model': 'model', 'model_hash': 'hash', 'version': 'version'}
    reasons: dict[str, int] = {}
    for row in excluded:
        reasons[str(row['reason'])] = reasons.get(str(row['reason']), 0) + 1
    return {
        'n_in': len(included),
        'n_out': len(excluded),
        'reasons': reasons,
        'inside': _table(included, included_columns),
        'outside': _table(excluded, excluded_columns),
    }


def _effects(model: Mapping[str, Any]) -> dict[str, Any]:
    """Table of the effects in the model of the scores."""
    rows = []
    for effect in model.get('effects', ()):
        rows.append(
            {
                'variable': effect['variable'].replace('_', ' '),
                'contrast': effect['contrast'],
                'effect': _with_interval(effect, 'estimate', 'low', 'high', '.3g'),
                'd': _with_interval(effect, 'cohen_d', 'd_low', 'd_high', '.2f'),
                'r': effect['partial_r'],
                'statistic': f'{effect["kind"]}({effect["df"]}) = {effect["statistic"]:.2f}',
                'p': _p(effect['p']),
            }
        )
    columns = {
        'variable': 'variable',
        'contrast': 'contrast',
        'effect': 'effect [95 %]',
        'd': "Cohen's d [95 %]",
        'r': 'partial r',
        'statistic': 'statistic',
        'p': 'p',
    }
    return _table(rows, columns)


def _with_interval(
    effect: Mapping[str, Any], key: str, low: str, high: str, form: str
) -> str | None:
    """Return a number with its interval, if they are known."""
    if effect[key] is None:
        return None
    shown = format(effect[key], form)
    if effect[low] is None:
        return shown
    return f'{shown} [{effect[low]:{form}}, {effect[high]:{form}}]'


def _p(value: float) -> str:
    return f'{value:.2g}' if value >= 0.001 else f'{value:.1g}'


def _confounds(rows: Rows) -> dict[str, Any]:
    shown = [{**row, 'covariate': row['covariate'].replace('_', ' ')} for row in rows]
    columns = {
        'covariate': 'covariate',
        'group': 'group',
        'n': 'n',
        'summary': 'mean (SD) or counts',
        'imbalance': 'imbalance of the groups',
        'r_score': 'r with the score',
    }
    return _table(shown, columns)


def _clusters(rows: Rows) -> dict[str, Any]:
    columns = {
        'map': 'map',
        'cluster': 'cluster',
        'x': 'x',
        'y': 'y',
        'z': 'z',
        'peak_pct': 'peak, % of volume',
        'size_mm3': 'mm³',
    }
    return _table(rows, columns)


def _regions(rows: Rows) -> dict[str, Any]:
    """Table of the regions over all subjects, strongest first."""
    own = sorted(
        (row for row in rows if row['group'] == 'all'), key=lambda row: (row['map'], row['rank'])
    )
    shown = [
        {
            **row,
            'region': row['region'].replace('_', ' '),
            'volume': f'{row["pct"]:+.2f} %',
            'interval': f'{row["pct_low"]:+.2f} to {row["pct_high"]:+.2f}'
            if parse_number(row['pct_low']) is not None
            else None,
            'mm3': None if parse_number(row['mm3']) is None else f'{row["mm3"]:+.0f}',
            'null': None
            if parse_number(row['null_percentile']) is None
            else f'{row["null_percentile"]:.0f}',
            'lat': None if row['laterality'] is None else f'{row["laterality"]:+.2f}',
        }
        for row in own
    ]
    columns = {
        'map': 'map',
        'rank': 'rank',
        'region': 'region',
        'side': 'side',
        'volume': 'volume',
        'interval': '95 % (subjects)',
        'mm3': 'mm³',
        'lat': 'laterality',
        'null': 'null percentile',
    }
    return _table(shown, columns)
