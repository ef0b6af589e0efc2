"""Methods text: the sentences of the workflows with their references, as Markdown and HTML."""

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
    """A workflow that tells what it does."""

    def visit_desc(self) -> str:
        """Sentences of the workflow and of everything in it."""
        ...


def methods_text(workflow: DescribedWorkflow) -> str:
    """Write the methods text of a workflow.

    Parameters
    ----------
    workflow : niworkflows.engine.LiterateWorkflow
        Its ``__desc__`` and those of its parts are the body.

    Returns
    -------
    str
        Markdown with citations as ``[@key]``, the same sentence only once.
    """
    template = files('bids_interp.boilerplate').joinpath('methods.md').read_text(encoding='utf-8')
    paragraphs = [part.strip() for part in re.split(r'\n\s*\n', workflow.visit_desc())]
    # Many images share a workflow's sentences; nobody wants to read them once per image.
    body = '\n\n'.join(dict.fromkeys(part for part in paragraphs if part))
    return template.replace('VERSION', __version__).replace('BODY', body)


def cited(markdown: str) -> list[str]:
    """Keys that a text cites and the bibliography knows, in the order of the text.

    Examples
    --------
    >>> cited('Bias was corrected [N4; @n4] with ANTs [@ants; @n4; @nobody].')
    ['n4', 'ants']
    """
    keys = _KEY.findall(markdown)
    return [key for key in dict.fromkeys(keys) if key in references()]


def render_html(markdown: str) -> str:
    """Turn the methods text into HTML with a list of references.

    Headings, paragraphs, emphasis, code and citations are all that such a text needs, so that no
    converter has to be installed.

    Parameters
    ----------
    markdown : str
        Text with ``[@key; @other]`` citations.

    Returns
    -------
    str
        A piece of HTML.

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

    Several jobs may write them at the same time: a reader always finds a whole file.

    Parameters
    ----------
    folder : path
        Usually ``logs`` of the output directory; made where it is missing.
    markdown : str
        Of :func:`methods_text`.

    Returns
    -------
    list of pathlib.Path
        The files.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<title>Methods</title></head>\n<body>\n{render_html(markdown)}\n</body></html>\n'
    )
    contents = {
        'CITATION.md': markdown.rstrip() + '\n',
        'CITATION.html': page,
        'CITATION.bib': BIBLIOGRAPHY.read_text(encoding='utf-8'),
    }
    return [write_text(Path(folder, name), text) for name, text in contents.items()]
