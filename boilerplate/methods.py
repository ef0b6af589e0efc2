"""Methods text of the workflows with references, as Markdown and HTML."""

from __future__ import annotations

import html
import re
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from bids_interp.bids.write.atomic import write_text
from bids_interp.boilerplate.bibliography import (
    BIBLIOGRAPHY,
    full_reference,
    references,
    short_citation,
)
from bids_interp.version import __version__

_CITATION = re.compile(r'\[(-?@[^\]]+)\]')
_KEY = re.compile(r'@([\w:.-]*\w)')


class DescribedWorkflow(Protocol):
    """Workflow with a methods text."""

    def visit_desc(self) -> str:
        """Return the methods text of the workflow and its parts."""
        ...


def methods_text(workflow: DescribedWorkflow) -> str:
    """Return the methods text of a workflow.

    Parameters
    ----------
    workflow : niworkflows.engine.LiterateWorkflow
        Workflow with ``__desc__``, its own and that of its parts.

    Returns
    -------
    str
        Markdown with citations as ``[@key]``, without repeated paragraphs.
    """
    template = files('bids_interp.boilerplate').joinpath('methods.md').read_text(encoding='utf-8')
    paragraphs = [part.strip() for part in re.split(r'\n\s*\n', workflow.visit_desc())]
    # The workflows of all images have the same text.
    body = '\n\n'.join(dict.fromkeys(part for part in paragraphs if part))
    return template.replace('VERSION', __version__).replace('BODY', body)


def cited(markdown: str) -> list[str]:
    """Return the keys that a text cites, in its order, if they are in the bibliography.

    Examples
    --------
    >>> cited('Bias was corrected [N4; @n4] with ANTs [@ants; @n4; @nobody].')
    ['n4', 'ants']
    """
    keys = _KEY.findall(markdown)
    return [key for key in dict.fromkeys(keys) if key in references()]


def render_html(markdown: str) -> str:
    """Return the methods text as HTML with a list of references.

    The text has only headings, paragraphs, emphasis, code and citations, so no converter is needed.

    Parameters
    ----------
    markdown : str
        Text with ``[@key; @other]`` citations.

    Returns
    -------
    str
        HTML fragment.

    Examples
    --------
    >>> render_html('Corrected with *N4* [@n4].').splitlines()[0]
    '<p>Corrected with <em>N4</em> (Tustison et al., 2010).</p>'
    """
    parts = []
    for block in re.split(r'\n\s*\n', markdown.strip()):
        block = ' '.join(block.split())
        heading = re.match(r'(#{1,4})\s+(.*)', block)
        if heading:
            level = min(len(heading.group(1)) + 2, 5)
            parts.append(f'<h{level}>{_inline(heading.group(2))}</h{level}>')
        elif block:
            parts.append(f'<p>{_inline(block)}</p>')
    keys = cited(markdown)
    if keys:
        items = ''.join(f'<li>{html.escape(full_reference(key))}</li>' for key in keys)
        parts.append(f'<h3>References</h3>\n<ol class="references">{items}</ol>')
    return '\n'.join(parts)


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r'`([^`]+)`', r'<code>\1</code>', text)
    text = re.sub(r'\*\*([^*]+)\*\*', r'<strong>\1</strong>', text)
    text = re.sub(r'\*([^*]+)\*', r'<em>\1</em>', text)
    return _CITATION.sub(_cite, text)


def _cite(match: re.Match[str]) -> str:
    pieces = []
    for piece in match.group(1).split(';'):
        key = _KEY.search(piece)
        pieces.append(html.escape(short_citation(key.group(1))) if key else piece.strip())
    return f'({"; ".join(pieces)})'


def write_citation(folder: str | Path, markdown: str) -> list[Path]:
    """Write ``CITATION.md``, ``CITATION.html`` and ``CITATION.bib``, each atomically.

    Several jobs may write the files at the same time.

    Parameters
    ----------
    folder : path
        Output folder, usually ``logs`` of the output directory; created if missing.
    markdown : str
        Text of :func:`methods_text`.

    Returns
    -------
    list of pathlib.Path
        The files.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
        f'<title>Methods</title></head>\n<body>\n{render_html(markdown)}\n</body></html>\n'
    )
    contents = {
        'CITATION.md': markdown.rstrip() + '\n',
        'CITATION.html': page,
        'CITATION.bib': BIBLIOGRAPHY.read_text(encoding='utf-8'),
    }
    return [write_text(Path(folder, name), text) for name, text in contents.items()]
