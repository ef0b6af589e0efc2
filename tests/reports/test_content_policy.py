"""Pages load nothing from outside, and run only the scripts of this package."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from bids_interp.reports.common.content_policy import content_policy
from bids_interp.reports.scan.scan_report import html_environment

PAGE = Path(__file__).resolve().parents[2] / 'bids_interp' / 'reports' / 'common' / 'page'
TEMPLATES = sorted(path.name for path in PAGE.glob('*.html.j2'))


@pytest.mark.parametrize('name', TEMPLATES)
def test_every_page_has_a_policy_before_its_content(name: str) -> None:
    text = (PAGE / name).read_text()
    place = text.index('http-equiv="Content-Security-Policy"')
    assert place < text.index('<style>') < text.index('<body>')
    kind = re.search(r'content_policy\(\'?(\w*)\'?\)', text)
    assert kind is not None
    has_viewer = '<iframe' in text
    assert (kind[1] == 'viewer') is has_viewer
    (line,) = [line for line in text.splitlines() if 'Content-Security-Policy' in line]
    made = html_environment(PAGE).from_string(line).render()
    assert '<meta' in made
    assert 'content_policy' not in made


def test_only_the_player_may_run() -> None:
    (script,) = re.findall(r'<script>(.*?)</script>', (PAGE / 'player.html').read_text(), re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = dict(part.strip().split(' ', 1) for part in content_policy('player').split(';'))
    assert policy['script-src'] == f"'sha256-{digest}'"
    assert policy['default-src'] == "'none'"
    assert policy['img-src'] == 'data:'


@pytest.mark.parametrize('kind', ['', 'player', 'viewer'])
def test_nothing_comes_from_the_network(kind: str) -> None:
    assert not re.search(r'https?:|\*', content_policy(kind))
    assert content_policy(kind).startswith("default-src 'none';")
