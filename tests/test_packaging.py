"""The package installs completely, in place and from a wheel, with its mapped packages."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bids_interp

SOURCES = {
    'bids_interp': 'bids_interp',
    'bids_interp.workflows': 'workflows',
    'bids_interp.boilerplate': 'boilerplate',
}
# What is imported by another name than it is installed by.
DISTRIBUTIONS = {
    'ants': 'antspyx',
    'bids': 'pybids',
    'dask_jobqueue': 'dask-jobqueue',
    'PIL': 'pillow',
    'sklearn': 'scikit-learn',
    'yaml': 'PyYAML',
}


@pytest.fixture(scope='module')
def setup_cfg(repository: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(repository / 'setup.cfg')
    return parser


@pytest.fixture(scope='module')
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy, so that no build folder is left in the checkout."""
    copy = tmp_path_factory.mktemp('source')
    unwanted = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for folder in SOURCES.values():
        shutil.copytree(repository / folder, copy / folder, ignore=unwanted)
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in'):
        shutil.copy(repository / name, copy)
    target = tmp_path_factory.mktemp('wheel')
    options = ['--no-build-isolation', '--no-deps', '--no-index', '--quiet', '-w', str(target)]
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', *options, str(copy)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (built,) = target.glob('*.whl')
    return built


def _python_files(repository: Path) -> list[Path]:
    return [file for folder in SOURCES.values() for file in (repository / folder).rglob('*.py')]


def _third_party(file: Path) -> set[str]:
    """Top-level names that a file imports from other distributions, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - {'bids_interp'}


def test_every_folder_with_code_is_listed(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    listed = set(setup_cfg['options']['packages'].split())
    found = set()
    for package, folder in SOURCES.items():
        for init in (repository / folder).rglob('__init__.py'):
            parts = init.parent.relative_to(repository / folder).parts
            found.add('.'.join((package, *parts)))
    assert listed == found


def test_every_import_is_a_declared_dependency(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    required = setup_cfg['options']['install_requires'].split()
    required += setup_cfg['options.extras_require']['dask'].split()
    declared = {re.split(r'[<>=!~ ]', line)[0].lower() for line in required}
    undeclared = {
        f'{name} ({file.relative_to(repository)})'
        for file in _python_files(repository)
        for name in _third_party(file)
        if DISTRIBUTIONS.get(name, name).lower() not in declared
    }
    assert undeclared == set()


def test_every_dependency_is_imported(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    used = {
        DISTRIBUTIONS.get(name, name).lower()
        for file in _python_files(repository)
        for name in _third_party(file)
    }
    required = setup_cfg['options']['install_requires'].split()
    assert {re.split(r'[<>=!~]', line)[0].lower() for line in required} - used == set()


def test_the_lock_file_meets_the_bounds(
    repository: Path, setup_cfg: configparser.ConfigParser
) -> None:
    requirements = pytest.importorskip('packaging.requirements')
    utils = pytest.importorskip('packaging.utils')
    lock = (repository / 'requirements' / 'lock.txt').read_text()
    locked = dict(line.split('==') for line in lock.splitlines() if '==' in line)
    locked = {utils.canonicalize_name(name): version for name, version in locked.items()}
    extras = setup_cfg['options.extras_require'].values()
    lines = setup_cfg['options']['install_requires'].split()
    lines += [line for extra in extras for line in extra.split()]
    for line in lines:
        requirement = requirements.Requirement(line)
        assert locked[utils.canonicalize_name(requirement.name)] in requirement.specifier, line


def test_installed_version_is_the_package_version() -> None:
    assert importlib.metadata.version('bids_interp') == bids_interp.__version__


def test_commands_are_installed() -> None:
    entries = importlib.metadata.entry_points(group='console_scripts')
    names = {entry.name for entry in entries if entry.value.startswith('bids_interp.')}
    assert names == {'bids_interp', 'bids_interp_tools'}


@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
def test_mapped_packages_are_found_in_workers(tmp_path: Path, method: str) -> None:
    """nipype runs nodes in such workers, started in any folder."""
    script = tmp_path / 'started.py'
    script.write_text(
        'import importlib\n'
        'import multiprocessing\n'
        'import sys\n'
        '\n'
        '\n'
        'def locate(name):\n'
        '    return importlib.import_module(name).__file__\n'
        '\n'
        '\n'
        "if __name__ == '__main__':\n"
        '    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:\n'
        "        print('\\n'.join(pool.map(locate, sys.argv[2:])))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), method, 'bids_interp.workflows', 'bids_interp.boilerplate'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    folders = [Path(line).parent.name for line in done.stdout.split()]
    assert folders == ['workflows', 'boilerplate']


def test_wheel_holds_every_source_file(repository: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in SOURCES.items():
        source = repository / folder
        for file in source.rglob('*'):
            if file.is_dir() or '__pycache__' in file.parts:
                continue
            installed = '/'.join((*package.split('.'), *file.relative_to(source).parts))
            assert installed in names
    assert any(name.endswith('licenses/LICENSE') for name in names)


def test_wheel_installs_nothing_else_at_the_top(wheel: Path) -> None:
    tops = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith('.dist-info')} == {'bids_interp'}


def test_wheel_is_small_enough(wheel: Path) -> None:
    assert wheel.stat().st_size < 6e6


def test_package_from_the_wheel_works(wheel: Path, tmp_path: Path) -> None:
    """Without site-packages, hence without the installation in place."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'import bids_interp, bids_interp.workflows, bids_interp.boilerplate\n'
        'from importlib.resources import files\n'
        "print(bids_interp.__version__, bids_interp.workflows.__file__, files('bids_interp.data'))"
    )
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    version, workflows, data = done.stdout.split()
    assert version == bids_interp.__version__
    assert workflows == str(tmp_path / 'bids_interp' / 'workflows' / '__init__.py')
    assert data == str(tmp_path / 'bids_interp' / 'data')
