"""The reading paths of docs/development.md lead through the code as it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

STEP = re.compile(r'^(\d+)\. `([\w/]+\.py)`', re.MULTILINE)
MOST = 14


def paths_of(repository: Path) -> dict[str, list[str]]:
    """Return the files of each path, by the line above it."""
    text = (repository / 'docs' / 'development.md').read_text(encoding='utf-8')
    section = text.split('## Reading paths')[1].split('\n## ')[0]
    paths: dict[str, list[str]] = {}
    title = ''
    for line in section.splitlines():
        step = STEP.match(line)
        if step:
            paths.setdefault(title, []).append(step[2])
        elif line.strip():
            title = line
    return paths


def module_of(file: str) -> str:
    name = file.removesuffix('.py').replace('/', '.')
    return name if name.startswith('bids_interp.') else f'bids_interp.{name}'


def used_by(file: Path) -> str:
    """Return every module that a file imports or names, one per line."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.append(node.value.partition(':')[0])
    return '\n'.join(names)


def test_there_are_four_paths_of_at_most_fourteen_files(repository: Path) -> None:
    paths = paths_of(repository)
    assert len(paths) == 4
    for title, files in paths.items():
        assert 2 < len(files) <= MOST, title
        assert len(set(files)) == len(files), title


@pytest.mark.parametrize('index', range(4))
def test_each_file_is_used_by_one_before_it(repository: Path, index: int) -> None:
    files = list(paths_of(repository).values())[index]
    seen = used_by(repository / files[0])
    for file in files[1:]:
        assert module_of(file) in seen.split('\n'), file
        seen += '\n' + used_by(repository / file)


def test_the_table_of_rooms_is_that_of_the_contract(repository: Path) -> None:
    command = [sys.executable, str(repository / '.ci' / 'rooms.py'), '--check']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
