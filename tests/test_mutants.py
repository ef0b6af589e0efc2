"""The list of mutants fits the tree, and the runner tells what it should."""

from __future__ import annotations

import sys
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope='module')
def runner(repository: Path) -> ModuleType:
    spec = spec_from_file_location('mutants', repository / 'tests' / 'mutants.py')
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules['mutants'] = module
    spec.loader.exec_module(module)
    return module


def test_the_list_fits_the_tree(runner: ModuleType, repository: Path) -> None:
    mutants = runner.read_mutants()
    assert len(mutants) >= 60
    rooms = Counter(mutant.room for mutant in mutants)
    assert set(rooms) == {'spatial', 'models', 'training', 'group', 'bids', 'anatomical'}
    assert min(rooms.values()) >= 10
    for mutant in mutants:
        compile(mutant.mutated(mutant.file(repository).read_text()), mutant.module, 'exec')
        assert all((repository / test).exists() for test in mutant.tests), mutant


@pytest.mark.parametrize('old', ['nowhere', 'a = ', 'a = 1\nb'])
def test_a_part_that_does_not_occur_once_in_a_line_is_an_error(
    runner: ModuleType, old: str
) -> None:
    mutant = runner.Mutant('wrong', 'bids_interp.made_up', old, 'c', ())
    with pytest.raises(ValueError, match='exactly once'):
        mutant.mutated('a = 1\nb = 2\na = 3\n')


@pytest.mark.parametrize(
    ('test', 'outcome', 'killer'),
    [
        ('assert f(3) == 9', 'killed', 'test_made_up.py::test_it'),
        ('assert f(0) == 0', 'survived', ''),
        ('assert f(', 'not run', ''),
    ],
)
def test_outcomes(runner: ModuleType, tmp_path: Path, test: str, outcome: str, killer: str) -> None:
    """Of a change from a square to a double, with tests that see it, do not, or cannot run."""
    module = tmp_path / 'made_up' / 'room.py'
    module.parent.mkdir()
    module.write_text('def f(x):\n    return x**2\n')
    (tmp_path / 'tests').mkdir()
    text = f'from made_up.room import f\n\n\ndef test_it():\n    {test}\n'
    (tmp_path / 'tests' / 'test_made_up.py').write_text(text)
    trees = runner.SimpleQueue()
    trees.put(tmp_path)
    mutant = runner.Mutant('a double', 'made_up.room', 'x**2', '2 * x', ('tests',))
    result = runner.try_mutant(mutant, trees)
    assert (result.outcome, result.killer) == (outcome, killer)
    assert module.read_text() == 'def f(x):\n    return x**2\n'
    row = runner.page([mutant], [result], 60).splitlines()[-1]
    assert row.count(' | ') == 4
    assert ('test_made_up.py' in row) is (outcome == 'killed')
