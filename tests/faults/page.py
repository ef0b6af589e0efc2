"""Page of the documentation with the outcome of every fault."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from faults.table import Row

PAGE = Path(__file__).parents[2] / 'docs' / 'reliability.md'
HEAD = """# Reliability

`make test-faults` runs the program on small datasets, makes one fault happen, and looks at what is
left: no half-written file is visible, no traceback is shown, and no process is left. Then it runs
the same command again without the fault. A row passes if this run ends with exit code 0 and all
derivatives are the same, bit for bit, as those of a run that nothing has disturbed. There is no
second run where the first one stops before it writes (a damaged model) or ends with all derivatives
(odd environments). The command writes this page. `make test` runs a few of the rows.

{count} rows passed, {others}, in {minutes:.0f} minutes ({machine}).{continued}

| level | fault | where | what the user sees | exit code | lost | the same after a rerun |
|---|---|---|---|---|---|---|
"""


CONTINUED = (
    ' The run\nwas continued after repairs of the program; rows that had passed were not run again.'
)


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


@dataclass
class Passed:
    """A test that passed.

    Parameters
    ----------
    outcomes : list of Outcome
        Its rows.
    seconds : float
        Its time.
    """

    outcomes: list[Outcome]
    seconds: float


def save(passed: Mapping[str, Passed], path: Path) -> None:
    """Save the tests that passed, by name."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name: asdict(test) for name, test in passed.items()}))


def load(path: Path) -> dict[str, Passed]:
    """Load the tests that passed, by name."""
    return {
        name: Passed(
            [Outcome(o['level'], Row(**o['row']), o['code']) for o in test['outcomes']],
            test['seconds'],
        )
        for name, test in json.loads(path.read_text()).items()
    }


def write(
    passed: Iterable[Passed], others: Mapping[str, Sequence[str]], *, continued: bool
) -> None:
    """Write the page.

    Parameters
    ----------
    passed : iterable of Passed
        Tests that passed.
    others : dict of str to list of str
        Names of the tests that failed, were skipped or were not run.
    continued : bool
        The run was continued, so some rows passed before the last changes of the program.
    """
    tests = list(passed)
    outcomes = [outcome for test in tests for outcome in test.outcomes]
    lines = [_line(outcome) for outcome in outcomes]
    left = [
        f'{len(names)} tests {kind}'
        + (f' ({", ".join(f"`{name}`" for name in names)})' if len(names) < 10 else '')
        for kind, names in others.items()
        if names
    ]
    numbers = {
        'count': len(outcomes),
        'minutes': sum(test.seconds for test in tests) / 60,
        'continued': CONTINUED if continued else '',
        'others': ', '.join(left) or 'no test failed or was skipped',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, Python '
        f'{platform.python_version()}',
    }
    PAGE.write_text(HEAD.format(**numbers) + ''.join(lines), encoding='utf-8')


def _line(outcome: Outcome) -> str:
    row = outcome.row
    seen = f'`{row.seen}`'.replace('|', '\\|') if row.seen else 'nothing'
    code = 'killed' if outcome.code < 0 else str(outcome.code)
    cells = (outcome.level, row.fault, f'`{row.where}`', seen, code, 'nothing', 'yes')
    return f'| {" | ".join(cells)} |\n'
