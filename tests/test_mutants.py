"""The list of mutants fits the tree, and the runner tells what it should."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from queue import SimpleQueue

import pytest
from mutants import Mutant, page, read_mutants, try_mutant


def test_the_list_fits_the_tree(repository: Path) -> None:
    mutants = read_mutants()
    assert len(mutants) >= 60
    rooms = Counter(mutant.room for mutant in mutants)
    for room in ('spatial', 'models', 'training', 'group', 'bids', 'anatomical'):
        assert rooms[room] >= 10, room
    for mutant in mutants:
        compile(mutant.mutated(mutant.file(repository).read_text()), mutant.module, 'exec')
        for test in mutant.tests:
            path, *names = test.split('::')
            text = (repository / path).read_text()
            assert all(f'def {name}(' in text or f'class {name}:' in text for name in names), test


@pytest.mark.parametrize('old', ['nowhere', 'a = ', 'a = 1\nb'])
def test_a_part_that_does_not_occur_once_in_a_line_is_an_error(old: str) -> None:
    mutant = Mutant('wrong', 'bids_interp.made_up', old, 'c', ())
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
def test_outcomes(tmp_path: Path, test: str, outcome: str, killer: str) -> None:
    """Of a change from a square to a double, with tests that see it, do not, or cannot run."""
    tree = tmp_path / 'tree'
    module = tree / 'made_up' / 'room.py'
    module.parent.mkdir(parents=True)
    module.write_text('def f(x):\n    return x**2\n')
    (tree / 'tests').mkdir()
    text = f'from made_up.room import f\n\n\ndef test_it():\n    {test}\n'
    (tree / 'tests' / 'test_made_up.py').write_text(text)
    trees: SimpleQueue[Path] = SimpleQueue()
    trees.put(tree)
    mutant = Mutant('a double', 'made_up.room', 'x**2', '2 * x', ('tests',))
    result = try_mutant(mutant, trees)
    assert (result.outcome, result.killer) == (outcome, killer)
    assert module.read_text() == 'def f(x):\n    return x**2\n'
    row = page([mutant], [result], 60).splitlines()[-1]
    assert row.count(' | ') == 4
    assert ('test_made_up.py' in row) is (outcome == 'killed')
