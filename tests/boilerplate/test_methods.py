"""Methods text: every citation has its reference, and the HTML needs no converter."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from bids_interp.boilerplate.bibliography import (
    BIBLIOGRAPHY,
    full_reference,
    references,
    short_citation,
)
from bids_interp.boilerplate.methods import cited, methods_text, render_html, write_citation


class Workflow:
    """Tells two sentences, one of them twice."""

    def visit_desc(self) -> str:
        return 'N4 [@n4].\n\nANTs [@antsx].\n\nANTs [@antsx].'


def test_every_entry_of_the_bibliography_is_read() -> None:
    keys = re.findall(r'^@\w+\{([^,]+),', BIBLIOGRAPHY.read_text(encoding='utf-8'), re.MULTILINE)
    assert sorted(references()) == sorted(keys)
    for key in keys:
        assert references()[key].get('title')
        assert references()[key].get('author')
        assert '..' not in full_reference(key).replace('et al..', '')


def test_every_citation_of_the_workflows_has_a_reference(repository: Path) -> None:
    texts = {path.name: path.read_text() for path in (repository / 'workflows').glob('*.py')}
    texts['methods.md'] = files('bids_interp.boilerplate').joinpath('methods.md').read_text()
    for name, text in texts.items():
        for citation in re.findall(r'\[@([^\]]+)\]', text):
            for key in re.split(r'[;\s@]+', citation):
                assert not key or key in references(), (name, key)


def test_same_sentence_is_told_once() -> None:
    text = methods_text(Workflow())
    assert text.count('ANTs [@antsx].') == 1
    assert 'VERSION' not in text
    assert 'BODY' not in text
    assert cited(text)[0] == 'liu2021'


def test_html_has_citations_and_references() -> None:
    page = render_html('#### Head\n\nWith `code`, **care** & [@n4; @antsx].')
    assert '<h5>Head</h5>' in page
    assert '<code>code</code>, <strong>care</strong> &amp; (Tustison et al., 2010; Tust' in page
    assert page.count('<li>') == 2
    assert 'doi:10.1109/TMI.2010.2046908' in page


@pytest.mark.parametrize(
    ('key', 'words'), [('mni6', 'Evans et al., 2012'), ('matplotlib', 'Hunter, 2007')]
)
def test_short_citations(key: str, words: str) -> None:
    assert short_citation(key) == words


def test_citation_files_are_written(tmp_path: Path) -> None:
    written = write_citation(tmp_path / 'logs', methods_text(Workflow()))
    assert [path.name for path in written] == ['CITATION.md', 'CITATION.html', 'CITATION.bib']
    assert '(Tustison et al., 2010)' in written[1].read_text(encoding='utf-8')
    assert sorted(path.name for path in (tmp_path / 'logs').iterdir()) == sorted(
        path.name for path in written
    )
