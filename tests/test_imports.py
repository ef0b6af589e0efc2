"""Imports point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    'ants',
    'bids',
    'lightning',
    'matplotlib',
    'nibabel',
    'nilearn',
    'nipype',
    'nireports',
    'niworkflows',
    'numpy',
    'pandas',
    'scipy',
    'sklearn',
    'torch',
}
METHOD_ROOMS = ['spatial', 'models', 'training', 'evaluation', 'saliency', 'phantom']


def _loaded_after(code: str, folder: Path) -> set[str]:
    """Top-level modules in memory after a fresh interpreter has run the code."""
    script = (
        f'{code}\nimport sys\nprint("loaded:", *{{name.split(".")[0] for name in sys.modules}})'
    )
    done = subprocess.run(
        [sys.executable, '-c', script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return set(done.stdout.rpartition('loaded:')[2].split())


def _modules_of(name: str) -> list[str]:
    package = importlib.import_module(name)
    found = pkgutil.walk_packages(package.__path__, f'{name}.')
    return [name, *(module.name for module in found)]


@pytest.mark.parametrize('option', ['--help', '--version'])
@pytest.mark.parametrize('module', ['app', 'tools.command'])
def test_help_and_version_load_nothing_heavy(tmp_path: Path, module: str, option: str) -> None:
    code = (
        f'from bids_interp.cli.{module} import main\n'
        'try:\n'
        f'    main([{option!r}])\n'
        'except SystemExit as end:\n'
        '    assert not end.code, end.code\n'
    )
    assert _loaded_after(code, tmp_path) & HEAVY == set()


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    assert _loaded_after('import bids_interp', tmp_path) & HEAVY == set()


def test_the_method_runs_without_nipype_pybids_and_click(tmp_path: Path) -> None:
    names = [name for room in METHOD_ROOMS for name in _modules_of(f'bids_interp.{room}')]
    loaded = _loaded_after(f'import {", ".join(names)}', tmp_path)
    assert 'torch' in loaded
    assert loaded & {'nipype', 'niworkflows', 'nireports', 'bids', 'click'} == set()


def test_import_rules_hold(repository: Path) -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name('lint-imports')),
            '--config',
            str(repository / 'setup.cfg'),
            '--no-cache',
            '--no-logo',
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_functions_are_at_the_top() -> None:
    from bids_interp import explain, load_model, log_jacobian

    assert explain.__module__.startswith('bids_interp.models')
    assert load_model.__module__.startswith('bids_interp.models')
    assert log_jacobian.__module__ == 'bids_interp.spatial.jacobian'


def test_an_unknown_name_is_an_attribute_error() -> None:
    import bids_interp

    with pytest.raises(AttributeError, match='explian'):
        _ = bids_interp.explian


def test_python_m_is_the_command() -> None:
    from bids_interp import __version__

    done = subprocess.run(
        [sys.executable, '-m', 'bids_interp', '--version'],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert __version__ in done.stdout
