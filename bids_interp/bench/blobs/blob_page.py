"""Blob page: table, data dictionary, text and figure of the blob benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bids_interp.bench.blobs.blob_design import METHODS, PAPER, BlobUnit
from bids_interp.bench.blobs.blob_figure import draw_blobs_figure, row_title
from bids_interp.bench.blobs.blob_results import BlobRecord, load_pictures
from bids_interp.bench.blobs.blob_scores import BOTH
from bids_interp.bench.goals import METRICS
from bids_interp.bench.method_maps import OURS
from bids_interp.bids.write.atomic import write_json, write_text, write_tsv
from bids_interp.phantom.blobs.blob_image import MEANING

#: Metrics that only blobs have.
OWN_METRICS = {
    'auc': 'Area under the curve of the classifier on the tested images.',
    'lookalike_share': 'Share of the sum of squares of a map in blobs that never differ, mean over '
    'images.',
    'type_auc': 'AUC with which the maps of patients name the blob that is small in their image; '
    '0.5 if all maps are alike.',
}
COLUMNS = {
    'variant': 'Variant',
    'dim': 'Dimensions',
    'seed': 'Seed of images, split and trainings',
    'method': 'Method of the map, or classifier',
    'classifier': 'Explained classifier',
    'metric': 'Metric',
    'direction': 'Direction of the simulations',
    'value': 'Value',
    'low': 'Lower end of the 95 % bootstrap interval over the explained images (AUC: over all '
    'tested images)',
    'high': 'Upper end of that interval',
}
#: Columns of the text: metric, direction, heading, digits.
SHOWN = (
    ('ncc_group', BOTH, 'NCC, group', 2),
    ('ncc_single', BOTH, 'NCC, single', 2),
    ('average_precision', 'inject', 'AUPRC', 2),
    ('lookalike_share', 'inject', 'look-alikes', 2),
    ('type_auc', 'remove', 'type AUC', 2),
    ('crosses', BOTH, 'crosses', 2),
    ('n_folded', BOTH, 'folded', 1),
    ('reversibility_rmse', BOTH, 'reversal', 3),
    ('off_target_percent', 'inject', 'off target, %', 2),
)


class Cell(NamedTuple):
    """Mean over the seeds, with the smallest and largest value."""

    mean: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Return the mean, and the range if it shows.

        Examples
        --------
        >>> Cell(0.934, 0.93, 0.94).text(2), Cell(1.0, 1.0, 1.0).text(2)
        ('0.93 (0.93 to 0.94)', '1.00')
        """
        mean, low, high = (f'{value:.{digits}f}' for value in self)
        return mean if low == high else f'{mean} ({low} to {high})'


def write_blob_results(out: Path, records: Sequence[BlobRecord], setup: Mapping[str, Any]) -> Path:
    """Write ``table.tsv``, its data dictionary, ``paper.md`` and ``figure.png``.

    Parameters
    ----------
    out : pathlib.Path
        Output folder.
    records : sequence of BlobRecord
        Finished units.
    setup : mapping
        ``command``, ``n``, ``size`` (by dimension) and ``missing``.

    Returns
    -------
    pathlib.Path
        The text.
    """
    rows = [
        {'variant': one.variant, 'dim': one.dim, 'seed': one.seed, **vars(row)}
        for one in records
        for row in one.rows
    ]
    write_tsv(out / 'table.tsv', rows, list(COLUMNS))
    metrics = {name: metric.meaning for name, metric in METRICS.items()} | OWN_METRICS
    dictionary: dict[str, Any] = {name: {'Description': text} for name, text in COLUMNS.items()}
    dictionary['metric']['Levels'] = {
        name: metrics[name] for name in sorted({row['metric'] for row in rows})
    }
    write_json(out / 'table.json', dictionary)
    figure = _draw(out, records)
    return write_text(out / 'paper.md', _text(records, setup, figure))


def _draw(out: Path, records: Sequence[BlobRecord]) -> Path | None:
    """Draw the first seed of the variant `plain` of each dimension, or of another variant."""
    chosen: dict[int, BlobUnit] = {}
    for one in sorted(records, key=lambda one: (one.variant != 'plain', one.seed)):
        chosen.setdefault(one.dim, one.unit)
    columns = [
        (f'{unit.variant}, {unit.dim}-D', load_pictures(out, unit))
        for _, unit in sorted(chosen.items())
    ]
    return draw_blobs_figure(out / 'figure.png', columns) if columns else None


def _text(records: Sequence[BlobRecord], setup: Mapping[str, Any], figure: Path | None) -> str:
    parts = [f'```bash\n{setup["command"]}\n```']
    if setup['missing']:
        parts.append(f'**Missing: {"; ".join(setup["missing"])}.**')
    if figure is not None:
        parts.append(
            f'![Image, simulated image and map of each method beside the truth]({figure.name})'
        )
    for dim in sorted({one.dim for one in records}):
        for variant in dict.fromkeys(one.variant for one in records if one.dim == dim):
            own = [one for one in records if (one.dim, one.variant) == (dim, variant)]
            parts += _section(own, setup)
    return '\n\n'.join(parts) + '\n'


def _section(records: Sequence[BlobRecord], setup: Mapping[str, Any]) -> list[str]:
    first = records[0]
    size = ' x '.join([str(setup['size'][first.dim])] * first.dim)
    seeds = ', '.join(str(one.seed) for one in records)
    parts = [
        f'### {first.variant}, {first.dim}-D: {MEANING[first.variant]}',
        f'{setup["n"]} images of {size} voxels; seeds {seeds}.',
    ]
    for method in (OURS, PAPER):
        area = _cell(records, method, 'auc', BOTH)
        if area is not None:
            parts.append(f'AUC of the classifier of `{method}`: {area.text(2)}.')
    shown = [
        column
        for column in SHOWN
        if any(_cell(records, method, *column[:2]) is not None for method in METHODS)
    ]
    lines = [
        '| method | ' + ' | '.join(heading for _, _, heading, _ in shown) + ' |',
        '|---|' + '---|' * len(shown),
    ]
    for method in METHODS:
        cells = [_cell(records, method, metric, side) for metric, side, _, _ in shown]
        if any(cell is not None for cell in cells):
            texts = [
                '' if cell is None else cell.text(digits)
                for cell, (_, _, _, digits) in zip(cells, shown, strict=True)
            ]
            lines.append(f'| {row_title(method)} | ' + ' | '.join(texts) + ' |')
    parts.append('\n'.join(lines))
    notes = {
        f'* `{method}`, seed {one.seed}: {reason}.'
        for one in records
        for method, reason in one.notes.items()
    }
    return [*parts, '\n'.join(sorted(notes))] if notes else parts


def _cell(records: Sequence[BlobRecord], method: str, metric: str, direction: str) -> Cell | None:
    """Return the mean over the seeds that have a number."""
    wanted = (method, metric, direction)
    values = [
        row.value
        for one in records
        for row in one.rows
        if (row.method, row.metric, row.direction) == wanted and np.isfinite(row.value)
    ]
    return Cell(float(np.mean(values)), min(values), max(values)) if values else None
