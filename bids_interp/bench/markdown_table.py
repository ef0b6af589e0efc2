"""The table of the known-truth benchmark as Markdown, to be put into documents and papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_interp.bids.write.atomic import write_text

if TYPE_CHECKING:
    from bids_interp.bench.bench_report import BenchRun

if TYPE_CHECKING:
    pass

Section = Mapping[str, Any]


def write_markdown(
    path: Path,
    facts: Mapping[str, Any],
    goals: Sequence[Mapping[str, str]],
    sections: Sequence[Section],
    notes: Sequence[str],
) -> Path:
    """Write what the page says, without its pictures.

    Parameters
    ----------
    path : pathlib.Path
        File to write.
    facts : mapping
        Runs with their commands, numbers of brains and so on.
    goals : sequence of mapping
        ``title``, ``scenario``, ``number``, ``floor``, ``aim``, ``verdict``.
    sections : sequence of mapping
        Of each scenario, as the page has them.
    notes : sequence of str
        What has to be known to read the table.
    """
    missing = '; '.join(facts['missing'])
    parts = [
        *(_run(run) for run in facts['runs']),
        f'{facts["n_brains"]} brains of {facts["dataset"]}.'
        + (f' **Missing: {missing}.**' if missing else ''),
        '\n'.join(f'* {note}' for note in notes),
        '## Floors and aims',
        _table(
            ['', 'scenario', 'found', 'floor', 'aim', ''],
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
    parts.append(f'{planted} Out-of-fold AUC: {answers}.')
    for table in section['tables']:
        headings = ['method', 'classifier', *(metric.title for metric in table['headings'])]
        rows = [
            [row['method'], row['classifier'], *(_cell(cell) for cell in row['cells'])]
            for row in table['rows']
        ]
        parts.append(_table(headings, rows))
    for key, words in (
        ('skipped', 'Not applicable'),
        ('replaced', 'Explaining the SFCN, since they do not apply to our classifier'),
    ):
        if section[key]:
            listed = '; '.join(f'{name} ({why})' for name, why in section[key].items())
            parts.append(f'{words}: {listed}.')
    return parts


def _cell(cell: Mapping[str, Any]) -> str:
    return f'**{cell["text"]}**' if cell['best'] and cell['text'] else str(cell['text'])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ['---'] * len(headings), *rows]
    return '\n'.join(
        f'| {" | ".join(str(cell).replace("|", "/") for cell in line)} |' for line in lines
    )
