"""Tools are found by name, and a tool's module is imported for that tool alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bids_interp.cli.tools.command import TOOLS, tools

MODULES = {
    'bench': 'bids_interp.cli.tools.bench',
    'demo': 'bids_interp.cli.tools.demo',
    'hpc': 'bids_interp.cli.tools.hpc',
    'inject': 'bids_interp.cli.tools.inject',
    'model': 'bids_interp.cli.tools.model',
    'phantom': 'bids_interp.cli.tools.phantom',
    'power': 'bids_interp.cli.tools.power',
}


def test_every_tool_has_a_module() -> None:
    assert tools.list_commands(None) == sorted(MODULES)
    assert {name: entry[0].partition(':')[0] for name, entry in TOOLS.items()} == MODULES


@pytest.mark.parametrize('name', ['hpc', 'inject'])
def test_only_the_module_of_the_tool_is_imported(name: str, tmp_path: Path) -> None:
    code = (
        'import sys\n'
        'from bids_interp.cli.tools.command import main\n'
        'try:\n'
        f'    main([{name!r}, "--help"])\n'
        'except SystemExit as end:\n'
        '    assert not end.code, end.code\n'
        'print("loaded:", *(name for name in sys.modules if ".cli.tools." in name))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.rpartition('loaded:')[2].split())
    assert loaded & set(MODULES.values()) == {MODULES[name]}
