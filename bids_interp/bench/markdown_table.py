"""Markdown table of the known-truth benchmark, for documents and papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.write.atomic import write_text

if TYPE_CHECKING:
    from bids_interp.bench.bench_report import BenchRun

Section = Mapping[str, Any]


def write_markdown(
    path: Path,
    setup: Mapping[str, Any],
    goals: Sequence[Mapping[str, str]],
    sections: Sequence[Section],
    notes: Sequence[str],
) -> Path:
    """Write the content of the page without its pictures.

    Parameters
    ----------
    path : pathlib.Path
        Output file.
    setup : mapping
        Dataset, numbers of brains, and runs with their commands.
    goals : sequence of mapping
        ``title``, ``scenario``, ``number``, ``floor``, ``aim``, ``verdict``.
    sections : sequence of mapping
        Sections of the page, one per scenario.
    notes : sequence of str
        Notes on reading the table.
    """
    missing = '; '.join(setup['missing'])
    parts = [
        *(_run(run) for run in setup['runs']),
        f'{setup["n_brains"]} brains of {setup["dataset"]}.'
        + (f' **Missing: {missing}.**' if missing else ''),
        '\n'.join(f'* {note}' for note in notes),
        '## Floors and aims',
        _table(
            ['', 'scenario', 'number', 'floor', 'aim', ''],
            [[goal[key] for key in ('title', 'scenario', 'number', 'floor', 'aim', 'verdict')]
             for goal in goals],
        ),
    ]  # fmt: skip
    for section in sections:
        parts += _scenario(section)
    return write_text(path, '\n\n'.join(parts) + '\n')


def _run(run: BenchRun) -> str:
    made = run.provenance
    return (
        f'```bash\n{made.command}\n```\n\n'
        f'{", ".join(run.scenarios)}: {made.date}, bids_interp {made.version}, '
        f'{made.software}; {made.machine}.'
    )


def _scenario(section: Section) -> list[str]:
    changes = ', '.join(
        f'{name} {100 * share:+.0f} %' for name, share in section['changes'].items()
    )
    parts = [f'## {section["name"]}: {section["purpose"]}']
    planted = f'Planted: {changes}.' if changes else 'Nothing is planted.'
    answers = '; '.join(
        f'{one["name"]} {one["auc"]}, p {one["p"]}' for one in section['classifiers']
    )
    parts.append(f'{planted} Out-of-fold AUC: {answers}.' if answers else planted)
    for table in section['tables']:
        headings = ['method', 'classifier', *(metric.title for metric in table['headings'])]
        rows = [
            [row['method'], row['classifier'], *(_cell(cell) for cell in row['cells'])]
            for row in table['rows']
        ]
        parts.append(_table(headings, rows))
    if section['skipped']:
        listed = '; '.join(f'{name} ({reason})' for name, reason in section['skipped'].items())
        parts.append(f'Not applicable to our classifier: {listed}.')
    return parts


def _cell(cell: Mapping[str, Any]) -> str:
    return f'**{cell["text"]}**' if cell['best'] and cell['text'] else str(cell['text'])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ['---'] * len(headings), *rows]
    return '\n'.join(
        f'| {" | ".join(str(cell).replace("|", "/") for cell in line)} |' for line in lines
    )
