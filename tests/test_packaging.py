"""The package installs completely, and a checkout never runs the code of another one."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import bids_interp

SOURCE_FOLDERS = ('bids_interp', 'workflows', 'boilerplate')
PROJECT_FILES = ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in')
BUILD = ['--no-build-isolation', '--no-deps', '--no-index', '--quiet']
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
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the tree with its links, so that no build folder is left in the checkout."""
    copy = tmp_path_factory.mktemp('source')
    unwanted = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for folder in SOURCE_FOLDERS:
        shutil.copytree(repository / folder, copy / folder, symlinks=True, ignore=unwanted)
    for name in PROJECT_FILES:
        shutil.copy(repository / name, copy)
    return copy


def _build_wheel(source: Path, target: Path) -> Path:
    command = [sys.executable, '-m', 'pip', 'wheel', *BUILD, '-w', str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = target.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build_wheel(source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp('sdist')
    code = 'import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])'
    command = [sys.executable, '-c', code, str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (built,) = target.glob('*.tar.gz')
    return built


def _python_files(repository: Path) -> list[Path]:
    return [file for folder in SOURCE_FOLDERS for file in (repository / folder).rglob('*.py')]


def _third_party(file: Path) -> set[str]:
    """Top-level names that a file imports from other distributions, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - {'bids_interp'}


@pytest.mark.parametrize('room', ['workflows', 'boilerplate'])
def test_top_level_rooms_are_linked_into_the_package(repository: Path, room: str) -> None:
    assert (repository / 'bids_interp' / room).readlink() == Path('..', room)


def test_the_image_imports_nothing_from_the_current_folder(repository: Path) -> None:
    assert 'PYTHONSAFEPATH=1' in (repository / 'Dockerfile').read_text()


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
def test_a_checkout_runs_its_own_code_in_every_worker(source: Path, method: str) -> None:
    """Another checkout is installed in place; nipype runs nodes in such workers."""
    script = source / 'started.py'
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
    names = ['bids_interp', 'bids_interp.workflows.participant', 'bids_interp.boilerplate.methods']
    # A level that ran in this process before has set it for its workers.
    environ = {name: value for name, value in os.environ.items() if name != 'PYTHONSAFEPATH'}
    done = subprocess.run(
        [sys.executable, str(script), method, *names],
        env=environ,
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    script.unlink()
    assert all(Path(line).is_relative_to(source) for line in done.stdout.split()), done.stdout
    assert len(done.stdout.split()) == len(names)


def _source_files(repository: Path) -> set[str]:
    package = repository / 'bids_interp'
    folders = [package, *(path.resolve() for path in package.iterdir() if path.is_symlink())]
    found = set()
    for folder in folders:
        prefix = 'bids_interp' if folder == package else f'bids_interp/{folder.name}'
        for file in folder.rglob('*'):
            if file.is_file() and '__pycache__' not in file.parts:
                found.add(f'{prefix}/{file.relative_to(folder).as_posix()}')
    return found


def test_wheel_holds_every_source_file(repository: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert _source_files(repository) - names == set()
    assert any(name.endswith('licenses/LICENSE') for name in names)


def test_wheel_of_the_sdist_is_the_wheel_of_the_tree(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    from_sdist = _build_wheel(sdist, tmp_path)
    names = [sorted(zipfile.ZipFile(file).namelist()) for file in (from_sdist, wheel)]
    assert names[0] == names[1]


def test_an_installation_in_place_has_every_room(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'pip', 'install', *BUILD, '--target', str(tmp_path), '-e']
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=300)
    code = (
        'import site, sys; site.addsitedir(sys.argv[1])\n'
        'import bids_interp.workflows, bids_interp.boilerplate\n'
        'print(bids_interp.workflows.__file__, bids_interp.boilerplate.__file__)'
    )
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', code, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert all(Path(line).is_relative_to(source) for line in done.stdout.split()), done.stdout


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
