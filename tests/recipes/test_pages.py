"""What the pages have in common: steps that can be followed, and a test for each page."""

from __future__ import annotations

import re
from pathlib import Path

from helpers.recipes import steps

PAGES = Path(__file__).resolve().parents[2] / 'docs' / 'recipes'


def test_steps_are_found_in_a_page() -> None:
    text = (
        '```bash\n# first\nbids_interp in \\\n  out group  # why\n\necho a\n```\n'
        '```text\nother program\n```\n```python\nimport os\n\nos.sep\n```\n'
    )
    found = list(steps(text))
    assert [(language, step.split()[0]) for language, step in found] == [
        ('bash', 'bids_interp'),
        ('bash', 'echo'),
        ('python', 'import'),
    ]
    assert found[0][1].split()[:4] == ['bids_interp', 'in', 'out', 'group']
    assert found[2][1] == 'import os\n\nos.sep\n'


def test_every_page_is_followed_and_linked() -> None:
    pages = {path.stem for path in PAGES.glob('*.md')} - {'index'}
    tests = {path.stem.removeprefix('test_') for path in Path(__file__).parent.glob('test_*.py')}
    assert pages == tests - {'pages'}
    links = set(re.findall(r'\]\((\w+)\.md\)', (PAGES / 'index.md').read_text()))
    assert links == pages


def test_every_page_names_the_levels_and_the_terms() -> None:
    for path in PAGES.glob('*.md'):
        lines = [step for _, step in steps(path.read_text())]
        levels = {line.split()[3] for line in lines if line.startswith('bids_interp ')}
        assert levels == (set() if path.stem == 'index' else {'train', 'participant', 'group'})
