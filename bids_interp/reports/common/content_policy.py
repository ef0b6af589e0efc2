"""Content policy of a page: a browser loads nothing from outside, and runs only our scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

_PAGE = Path(__file__).parent / 'page'
_SCRIPT = re.compile(r'<script>(.*?)</script>', re.DOTALL)
_BASE = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


@cache
def content_policy(kind: str = '') -> str:
    """Return the Content-Security-Policy of a page.

    Parameters
    ----------
    kind : {'', 'player', 'viewer'}
        Scripts of the page: none; the dose player of this package; or a viewer of nilearn in a
        frame, which inherits the policy and needs scripts of its own.

    Examples
    --------
    >>> 'script-src' in content_policy(), content_policy('viewer').count('data:')
    (False, 3)
    """
    if kind == 'player':
        scripts = _SCRIPT.findall((_PAGE / 'player.html').read_text(encoding='utf-8'))
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in scripts]
        return f'{_BASE}; script-src ' + ' '.join(f"'sha256-{one.decode()}'" for one in digests)
    if kind == 'viewer':
        return f"{_BASE}; script-src 'unsafe-inline'; frame-src data:; font-src data:"
    return _BASE
