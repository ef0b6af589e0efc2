"""Power page: table, data dictionary, figure and page of the power of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bids_interp.bench.power.studies import PowerRow
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.evaluation.verdict import LEVEL
from bids_interp.reports.common.montage import new_figure, save_svg
from bids_interp.reports.common.sections import PAGE, data_uri
from bids_interp.reports.scan.scan_report import html_environment
from bids_interp.reports.training.learning_curves import FOLD_COLOURS, style_axes
from bids_interp.version import __version__

#: Power that studies are usually planned for.
ENOUGH = 0.8

COLUMNS = {
    'effect': 'Planted relative volume change of the regions; 0: nothing was planted',
    'n': 'People per study, half of them with the change',
    'repeats': 'Number of studies',
    'power': f'Share of studies whose AUC is above chance (permutation p < {LEVEL})',
    'power_low': 'Lower end of the 95 % interval of the power over draws of the same scans',
    'power_high': 'Upper end of that interval',
    'auc': 'Mean area under the curve within the test folds',
    'map_ncc': 'Mean correlation of the estimated pattern with the planted change in the brain',
    'map_ncc_low': '5th percentile of that correlation over studies',
    'map_ncc_high': '95th percentile of that correlation over studies',
}


def write_power(out: Path, rows: Sequence[PowerRow], setup: Mapping[str, Any]) -> Path:
    """Write ``power.tsv``, ``power.json``, ``power.svg`` and ``power.html``; return the page.

    Parameters
    ----------
    out : pathlib.Path
        Output folder.
    rows : sequence of PowerRow
        Power for each number of people and effect.
    setup : mapping
        ``dataset``, ``n_people``, ``regions``, ``absorb``, ``spacing_mm``, ``folds``, ``command``
        and ``interpolation_error``.
    """
    write_tsv(out / 'power.tsv', [asdict(row) for row in rows], list(COLUMNS))
    described = {name: {'Description': text} for name, text in COLUMNS.items()}
    write_json(out / 'power.json', {**described, 'Setup': {**setup, 'Version': __version__}})
    figure = save_svg(draw_power(rows), out / 'power.svg')
    page = html_environment(PAGE).get_template('power.html.j2')
    style = ''.join((PAGE / name).read_text('utf-8') for name in ('style.css', 'bench.css'))
    content = page.render(
        style=style,
        version=__version__,
        setup=setup,
        rows=rows,
        smallest=smallest_effects(rows),
        figure=data_uri(figure),
        level=LEVEL,
        enough=ENOUGH,
    )
    return write_text(out / 'power.html', content)


def smallest_effects(rows: Sequence[PowerRow]) -> dict[int, float | None]:
    """Return the smallest change with enough power for each number of people.

    Larger changes must have enough power, too. None if no planted change has.

    Examples
    --------
    >>> rest = (0.0, 1.0, 0.5, 0.5, 0.5, 0.5)
    >>> rows = [PowerRow(e, 20, 9, p, *rest) for e, p in [(-0.1, 0.3), (-0.2, 0.8), (-0.3, 1.0)]]
    >>> smallest_effects(rows)
    {20: -0.2}
    """
    found: dict[int, float | None] = {}
    for number in sorted({row.n for row in rows}):
        found[number] = None
        for row in sorted((r for r in rows if r.n == number and r.effect), key=lambda r: r.effect):
            if row.power < ENOUGH:
                break
            found[number] = row.effect
    return found


def draw_power(rows: Sequence[PowerRow]) -> Any:
    """Draw power and map correlation against the planted change, one line per number of people."""
    figure = new_figure(10.0, 3.8)
    panels = (
        ('power', f'power (share with p < {LEVEL})'),
        ('map_ncc', 'correlation of map and planted change'),
    )
    for index, (name, title) in enumerate(panels):
        axes = figure.add_axes((0.07 + 0.5 * index, 0.15, 0.41, 0.72))
        for line, number in enumerate(sorted({row.n for row in rows})):
            own = sorted((row for row in rows if row.n == number), key=lambda row: -row.effect)
            losses = [-100 * row.effect for row in own]
            low, high = ([getattr(row, f'{name}_{end}') for row in own] for end in ('low', 'high'))
            colour = FOLD_COLOURS[line % len(FOLD_COLOURS)]
            values = [getattr(row, name) for row in own]
            axes.plot(losses, values, 'o-', color=colour, label=f'n = {number}')
            axes.fill_between(losses, low, high, color=colour, alpha=0.15, linewidth=0)
        if name == 'power':
            axes.axhline(LEVEL, color='#5b6774', linestyle='--', linewidth=1)
            axes.axhline(ENOUGH, color='#5b6774', linestyle=':', linewidth=1)
            axes.legend(fontsize=8.5, frameon=False, loc='upper left')
        axes.set_ylim(-0.05, 1.05)
        axes.set_xlim(-1, 1 - 100 * min(row.effect for row in rows))
        axes.set_xlabel('planted loss of volume in percent', fontsize=9)
        axes.set_title(title, fontsize=10, loc='left')
        style_axes(axes)
    return figure
