"""Every hostile input ends in an error that names the file and a remedy, within limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_interp.errors import BidsInterpError
from hostile.case import READERS, SECONDS, Bases, limited
from hostile.corpus import CASES, KINDS, document_rows
from hostile.test_names import LABELS


@pytest.fixture(scope='session')
def bases(tiny_bundle) -> Bases:
    return Bases(tiny_bundle.path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize('name', CASES)
def test_a_hostile_input(name: str, bases: Bases, tmp_path: Path) -> None:
    case = CASES[name]
    reader = READERS[case.reader]
    path = case.make(tmp_path, bases)
    before = sorted(tmp_path.rglob('*'))
    error = None
    with limited(tmp_path) as watch:
        try:
            reader.read(path)
        except BidsInterpError as caught:
            error = caught
    assert watch.events == []
    assert watch.seconds < SECONDS
    if case.expected is None:
        assert error is None
        return
    assert type(error) is case.expected
    assert str(path) in error.message
    assert error.advice
    assert sorted(tmp_path.rglob('*')) == before
    assert str(error).encode()  # it can be printed


def test_the_corpus_is_large_and_documented(repository: Path) -> None:
    assert len(CASES) >= 120
    assert {case.reader for case in CASES.values()} == set(READERS) == set(KINDS)
    page = (repository / 'docs' / 'hostile-inputs.md').read_text()
    assert '\n'.join(document_rows()) in page
    assert f'makes {len(CASES)} hostile inputs' in page
    assert f'A further {len(LABELS)} labels' in page
