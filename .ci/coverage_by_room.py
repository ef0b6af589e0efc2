"""Coverage of each room: the share of statements that the tests run."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import coverage


def room_of(file: str) -> str:
    """Folder below ``bids_interp`` (or the top-level folder) that a file belongs to."""
    parts = Path(file).parts
    return parts[1] if parts[0] == 'bids_interp' and len(parts) > 2 else parts[0]


def table(files: dict[str, tuple[int, int]]) -> list[str]:
    """Lines of a table, one a room, from the statements and covered statements of each file."""
    statements: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for file, (total, run) in files.items():
        for room in (room_of(file), 'all'):
            statements[room] += total
            covered[room] += run
    rooms = [*sorted(statements.keys() - {'all'}), 'all']
    lines = [f'{"room":<14}{"statements":>12}{"covered":>9}']
    return lines + [
        f'{room:<14}{statements[room]:>12}{100 * covered[room] / statements[room]:>8.1f}%'
        for room in rooms
        if statements[room]
    ]


def main() -> None:
    """Read the data of the last measured run and print the table."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, 'coverage.json')
        measured.json_report(outfile=str(report))
        files = json.loads(report.read_text())['files']
    counts = {
        name: (entry['summary']['num_statements'], entry['summary']['covered_lines'])
        for name, entry in files.items()
    }
    print('\n'.join(table(counts)))


if __name__ == '__main__':
    main()
