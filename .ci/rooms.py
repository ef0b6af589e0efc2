"""Tables of docs/development.md that are generated: rooms and their floors.

`python .ci/rooms.py` rewrites the table between its marks; `--check` fails if it is out of date.
"""

from __future__ import annotations

import ast
import configparser
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'development.md'
BEGIN, END = '<!-- rooms: begin -->', '<!-- rooms: end -->'


def summary(room: str) -> str:
    """First line of a room's docstring."""
    path = ROOT / 'bids_interp' / room
    source = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    return (ast.get_docstring(ast.parse(source.read_text(encoding='utf-8'))) or '').split('\n')[0]


def table() -> str:
    """Floors of the import contract, from the top, with what each room is for."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg', encoding='utf-8')
    floors = config['importlinter:contract:layers']['layers'].split('\n')
    lines = ['| floor | room | what it is for |', '|---|---|---|']
    rooms = [[room.strip() for room in floor.split('|')] for floor in floors if floor.strip()]
    for number, floor in zip(range(len(rooms), 0, -1), rooms, strict=True):
        lines += [f'| {number} | `{room}` | {summary(room)} |' for room in floor]
    return '\n'.join(lines)


def main() -> int:
    """Write or check the page."""
    text = PAGE.read_text(encoding='utf-8')
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    made = f'{before}{BEGIN}\n{table()}\n{END}{after}'
    if '--check' in sys.argv[1:]:
        if made != text:
            print(f'{PAGE} is out of date: run python .ci/rooms.py', file=sys.stderr)
        return int(made != text)
    PAGE.write_text(made, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
