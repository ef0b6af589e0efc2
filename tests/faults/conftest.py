"""Undisturbed runs, the program, and the page about all faults.

``make test-faults`` runs every row and writes docs/reliability.md; other commands run a few.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from faults import page, scenes
from faults.harness import Place, Program
from faults.table import Row

ALL = os.environ.get('BIDS_INTERP_FAULTS') == '1'
CONTINUED = os.environ.get('BIDS_INTERP_FAULTS_CONTINUE') == '1'


@pytest.fixture
def every_row() -> None:
    """Skip a test that only ``make test-faults`` runs."""
    if not ALL:
        pytest.skip('`make test-faults` runs all faults')


@pytest.fixture(scope='session')
def program() -> Iterator[Program]:
    """The program."""
    made = Program()
    yield made
    made.close()


class Scenes:
    """Places of each level, before any run and after one that nothing has disturbed.

    All places have the same path, one after the other: steps that write into the output know it.

    Parameters
    ----------
    root : Path
        Folder of the undisturbed runs and of the place.
    program : Program
        The program.
    makers : dict of str to function
        Function that makes the place of a level in a folder.
    """

    def __init__(
        self, root: Path, program: Program, makers: Mapping[str, Callable[[Path], Place]]
    ) -> None:
        self._root, self._program, self._makers = root, program, makers
        self._clean: dict[str, Place] = {}

    def before(self, level: str, *, work: bool = False) -> Place:
        """Return the place of a level, with the work directory of a finished run or none."""
        clean = self.clean(level)
        place = replace(clean, root=self._root / f'{level}-before').copy(self._new())
        if work:
            shutil.copytree(clean.work, place.work, symlinks=True)
        return place

    def after(self, level: str) -> Place:
        """Return the place of a finished run."""
        return self.clean(level).copy(self._new())

    def clean(self, level: str) -> Place:
        """Return a copy of the undisturbed run, which nobody may change."""
        if level not in self._clean:
            self._clean[level] = self._load(level) or self._run(level)
        return self._clean[level]

    def _load(self, level: str) -> Place | None:
        """Return what an earlier session has kept, if any."""
        options = self._root / f'{level}.json'
        if not options.exists():
            return None
        return Place(self._root / level, level, tuple(json.loads(options.read_text())))

    def _run(self, level: str) -> Place:
        place = self._makers[level](self._root / f'{level}-before').copy(self._new())
        ended = self._program.run(place)
        assert ended.code == 0, ended.words[-4000:]
        done = place.copy(self._root / level)
        (self._root / f'{level}.json').write_text(json.dumps(place.options))
        return done

    def _new(self) -> Path:
        place = self._root / 'place'
        shutil.rmtree(place, ignore_errors=True)
        return place


@pytest.fixture(scope='session')
def scene(
    tmp_path_factory: pytest.TempPathFactory,
    program: Program,
    request: pytest.FixtureRequest,
) -> Iterator[Scenes]:
    """Places of each level."""

    def participant(root: Path) -> Place:
        bundle = request.getfixturevalue('tiny_bundle')
        template = request.getfixturevalue('template_brain')
        return scenes.participant(root, template, bundle.path)

    kept = os.environ.get('BIDS_INTERP_FAULTS_SCENES')
    root = Path(kept) if kept else tmp_path_factory.mktemp('faults')
    makers = {'participant': participant, 'group': scenes.group, 'train': scenes.train}
    yield Scenes(root, program, makers)
    if not kept:
        shutil.rmtree(root, ignore_errors=True)


#: Tests that passed, with their rows and seconds; kept, so that a run can be continued.
KEPT = page.PAGE.parents[1] / 'build' / 'faults.json'
_PASSED: dict[str, page.Passed] = {}
_OTHERS: dict[str, list[str]] = {'failed': [], 'skipped': []}


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[str, Row, int], None]:
    """Keep the rows of a test that passes."""
    passed = _PASSED[request.node.name] = page.Passed([], 0.0)

    def keep(level: str, row: Row, code: int) -> None:
        passed.outcomes.append(page.Outcome(level, row, code))

    return keep


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that have passed before, if a run is continued."""
    if CONTINUED and KEPT.exists():
        _PASSED.update(page.load(KEPT))
        items[:] = [item for item in items if item.name not in _PASSED]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test."""
    name = report.nodeid.split('::')[-1]
    if name in _PASSED and report.when == 'call':
        if report.passed:
            _PASSED[name].seconds = report.duration
            if ALL:
                page.save(_PASSED, KEPT)
        else:
            del _PASSED[name]
    if report.outcome in _OTHERS and '/faults/' in report.nodeid:
        _OTHERS[report.outcome].append(name)
        if ALL and report.failed:  # the others may take half an hour
            sys.stderr.write(f'\n{report.longreprtext}\n')


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page."""
    if ALL and not session.config.option.keyword:
        page.write(_PASSED.values(), _OTHERS, continued=CONTINUED)
