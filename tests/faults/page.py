"""Page of the documentation with the outcome of every fault."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.table import Row

PAGE = Path(__file__).parents[2] / 'docs' / 'reliability.md'
HEAD = """# Reliability

`make test-faults` runs the program on small datasets, makes one fault happen, and looks at what is
left: no half-written file is visible, no traceback is shown, and no process is left. Then it runs
the same command again without the fault. A row passes if this run ends with exit code 0 and all
derivatives are the same, bit for bit, as those of a run that nothing has disturbed. The command
wrote this page. `make test` runs a few of the rows.

{count} rows passed, {others}, in {minutes:.0f} minutes ({machine}).

| level | fault | where | what the user sees | exit code | lost | the same after a rerun |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a row.

    Parameters
    ----------
    level : str
        Analysis level.
    row : Row
        The row.
    code : int
        Exit code of the run with the fault.
    """

    level: str
    row: Row
    code: int


def write(outcomes: Sequence[Outcome], others: Mapping[str, Sequence[str]], seconds: float) -> None:
    """Write the page."""
    machine = f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}'
    numbers = {'count': len(outcomes), 'minutes': seconds / 60}
    words = [
        f'{len(names)} tests were {kind}' + (f' ({", ".join(names)})' if names else '')
        for kind, names in others.items()
    ]
    words[0] = words[0].replace('were ', '')
    numbers['others'] = ', '.join(words)
    lines = [_line(outcome) for outcome in outcomes]
    PAGE.write_text(HEAD.format(**numbers, machine=machine) + ''.join(lines), encoding='utf-8')


def _line(outcome: Outcome) -> str:
    row = outcome.row
    seen = f'`{row.seen}`'.replace('|', '\\|') if row.seen else 'nothing'
    code = 'killed' if outcome.code < 0 else str(outcome.code)
    cells = (outcome.level, row.fault, f'`{row.where}`', seen, code, 'nothing', 'yes')
    return f'| {" | ".join(cells)} |\n'
