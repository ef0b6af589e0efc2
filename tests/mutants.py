"""Runner of the mutants: one-line changes of the package, each of which its tests must notice.

``python tests/mutants.py`` applies the changes of ``mutants.toml`` one by one to a copy of the
tree and writes the result to ``docs/mutants.md``; it fails where a change survives. Words after the
command choose the changes whose module or description holds one of them; nothing is written then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / 'tests' / 'mutants.toml'
TABLE = ROOT / 'docs' / 'mutants.md'
COPIED = ('bids_interp', 'workflows', 'boilerplate', 'tests', 'docs', 'pyproject.toml', 'setup.cfg')
WORKERS = 2
LIMIT_S = 300
UNCHANGED_LIMIT_S = 1800
#: Every run is a fork of a process that holds these libraries, whose import takes most of its time.
SERVER = multiprocessing.get_context('forkserver')
PRELOADED = (
    'ants', 'lightning.pytorch', 'nibabel', 'nilearn.image', 'nilearn.mass_univariate', 'pytest',
    'safetensors.torch', 'scipy.ndimage', 'scipy.stats', 'sklearn.linear_model', 'torch',
)  # fmt: skip
SINGLE = {'OMP_NUM_THREADS': '1', 'ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS': '1', 'COLUMNS': '400'}
#: Exit codes of pytest: a failed test is what kills; a run that could not start does not.
PASSED, FAILED = 0, 1
HEAD = """# Mutants

A mutant is a one-line change that makes the package wrong. `make mutants` applies each change of
`tests/mutants.toml` to a copy of the tree and runs the tests that must notice it. The command fails
if a mutant survives, or if these tests fail without any change. It wrote this page.

{killed} of {count} mutants were killed in {minutes:.1f} minutes, two at a time ({machine}).

| room | what is wrong | module | change | killed by |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Mutant:
    """One change: a part of one line of a module, which occurs in it once.

    Parameters
    ----------
    what : str
        What is wrong under the change.
    module : str
        Dotted name of the module.
    old, new : str
        The part of the line, and what takes its place.
    tests : tuple of str
        Tests that must fail, as arguments of pytest.
    """

    what: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def room(self) -> str:
        """Subpackage of the module."""
        return self.module.split('.')[1]

    def file(self, root: Path) -> Path:
        """File of the module in a tree."""
        return root.joinpath(*self.module.split('.')).with_suffix('.py')

    def mutated(self, text: str) -> str:
        """Text of the module under the change.

        Raises
        ------
        ValueError
            If the old part does not occur exactly once, or spans lines.
        """
        if text.count(self.old) != 1 or '\n' in self.old + self.new:
            raise ValueError(f'{self.module} does not hold {self.old!r} exactly once in one line.')
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Result:
    """Outcome of the tests under a change: killed, survived or not run, and the failed test."""

    outcome: str
    killer: str
    seconds: float


def say(text: str) -> None:
    """Print at once: a run takes minutes."""
    print(text, flush=True)  # noqa: T201


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """Read the list; every change is checked against the tree."""
    entries = tomllib.loads(path.read_text(encoding='utf-8'))['mutant']
    mutants = [Mutant(**{**entry, 'tests': tuple(entry['tests'])}) for entry in entries]
    for mutant in mutants:
        mutant.mutated(mutant.file(ROOT).read_text(encoding='utf-8'))
    return mutants


def copy_tree(target: Path) -> Path:
    """Copy what the tests need, links as links."""
    unwanted = shutil.ignore_patterns('__pycache__', '*.egg-info')
    target.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


def pytest_in(tree: Path, tests: tuple[str, ...], output: Path) -> None:
    """Be the process of some tests: its package is that of a copy, its words go to a file."""
    with output.open('w') as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    import pytest

    options = ['-x', '-q', '-rfE', '-p', 'no:cacheprovider', '--tb=line']
    sys.exit(pytest.main([*options, *tests]))


def run_tests(tree: Path, tests: tuple[str, ...], limit: float) -> tuple[int | None, str]:
    """Run tests in a copy until one fails; exit code (None for a run without end) and words."""
    output = tree.with_suffix('.txt')
    process = SERVER.Process(target=pytest_in, args=(tree, tests, output))
    process.start()
    process.join(limit)
    code = process.exitcode
    process.kill()
    return code, output.read_text(encoding='utf-8', errors='replace')


def try_mutant(mutant: Mutant, trees: SimpleQueue[Path]) -> Result:
    """Apply a change to a free copy, run its tests there, and take the change back."""
    tree, start = trees.get(), time.monotonic()
    file = mutant.file(tree)
    whole = file.read_text(encoding='utf-8')
    try:
        file.write_text(mutant.mutated(whole), encoding='utf-8')
        code, words = run_tests(tree, mutant.tests, LIMIT_S)
    finally:
        file.write_text(whole, encoding='utf-8')
        trees.put(tree)
    outcome = {PASSED: 'survived', FAILED: 'killed'}.get(code, 'not run')
    failed = re.search(r'^(?:FAILED|ERROR) \S*/(\S+?)(?:\[.*?\])?(?: - .*)?$', words, re.M)
    result = Result(
        outcome,
        failed[1] if failed and outcome == 'killed' else '',
        time.monotonic() - start,
    )
    say(f'{outcome:9}{result.seconds:6.1f} s  {mutant.module}: {mutant.what}  {result.killer}')
    if outcome == 'not run':
        say(words[-4000:])
    return result


def run_unchanged(tests: tuple[str, ...], trees: SimpleQueue[Path]) -> bool:
    """Run tests without any change; what fails is told."""
    tree = trees.get()
    code, words = run_tests(tree, tests, UNCHANGED_LIMIT_S)
    trees.put(tree)
    if code != PASSED:
        say(f'Tests fail without any change:\n{words[-8000:]}')
    return code == PASSED


def page(mutants: list[Mutant], results: list[Result], seconds: float) -> str:
    """Table of the results as Markdown."""
    machine = f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}'
    rows = []
    for mutant, result in sorted(zip(mutants, results, strict=True), key=lambda pair: pair[0].room):
        change = f'`{mutant.old}` → `{mutant.new}`'.replace('|', '\\|')
        killer = f'`{result.killer}`' if result.outcome == 'killed' else f'**{result.outcome}**'
        rows.append(f'| {mutant.room} | {mutant.what} | `{mutant.module}` | {change} | {killer} |')
    killed = sum(result.outcome == 'killed' for result in results)
    numbers = {'killed': killed, 'count': len(mutants), 'minutes': seconds / 60}
    return HEAD.format(**numbers, machine=machine) + '\n'.join(rows) + '\n'


def main() -> int:
    """Run the mutants; 1 where one survives, or where tests fail without any change."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('words', nargs='*', help='only mutants with one of these words')
    words = parser.parse_args().words
    everything = read_mutants()
    mutants = [m for m in everything if not words or any(w in m.module + m.what for w in words)]
    start = time.monotonic()
    os.environ.update(SINGLE)
    SERVER.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            trees.put(copy_tree(Path(folder) / str(number)))
        tests = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
        parts = [tests[number::WORKERS] for number in range(min(WORKERS, len(tests)))]
        with ThreadPoolExecutor(WORKERS) as pool:
            if not all(list(pool.map(lambda part: run_unchanged(part, trees), parts))):
                return 1
            say(f'The tests pass without any change ({time.monotonic() - start:.0f} s).')
            results = list(pool.map(lambda mutant: try_mutant(mutant, trees), mutants))
    if not words:
        TABLE.write_text(page(mutants, results, time.monotonic() - start), encoding='utf-8')
    left = [m.what for m, r in zip(mutants, results, strict=True) if r.outcome != 'killed']
    say('\n'.join([f'{len(mutants) - len(left)} of {len(mutants)} killed.', *left]))
    return int(bool(left))


if __name__ == '__main__':
    sys.exit(main())
