"""Sections of a report, with the figures that nireports finds.

nireports' assembler reads the specification (``page/report.yml``) and finds the figures. Its own
page loads Bootstrap and jQuery from the network and links to figure files. Our template contains
its style and all pictures, so that the single file can be mailed, archived and opened offline.
"""

from __future__ import annotations

import base64
import html
import io
import locale
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.read.scan_files import ScanFiles

PAGE = Path(__file__).parent / 'page'
#: Quality of the pictures in the page; the figure files are lossless.
WEBP_QUALITY = 82

_SOURCE = re.compile(r'(?:src|data)="\./([^"]+)"')


@dataclass(frozen=True)
class Figure:
    """One figure of the page: heading, caption, and content as HTML."""

    heading: str
    caption: str
    content: str


@dataclass(frozen=True)
class Section:
    """Part of the page with its figures."""

    name: str
    title: str
    figures: list[Figure]


def collect_sections(files: ScanFiles, replacements: dict[str, str]) -> list[Section]:
    """Return the sections with the figures of one scan.

    Parameters
    ----------
    files : ScanFiles
        Derivatives of the scan.
    replacements : dict of str to str
        Replacements of the placeholders in the captions.

    Returns
    -------
    list of Section
        Sections with at least one figure.
    """
    if not files.figures.is_dir() or not any(files.figures.iterdir()):
        return []
    from nireports.assembler.report import Report

    with utf8_locale():
        report = Report(
            files.output_dir,
            None,
            bootstrap_file=PAGE / 'report.yml',
            out_filename=files.report.name,
            reportlets_dir=files.figures,
            metadata={'template_path': str(PAGE / 'report.html.j2')},
            subject=files.entities['sub'],
        )
    sections = []
    for section in report.sections:
        figures = [
            figure
            for reportlet in section.reportlets
            for figure in _figures(files, reportlet, replacements)
        ]
        if figures:
            sections.append(Section(section.name, section.title, figures))
    return sections


@contextmanager
def utf8_locale() -> Iterator[None]:
    """Let files be read as UTF-8 by packages that read them in the encoding of the locale.

    On old systems it is Latin-1 or ASCII.
    """
    before = locale.setlocale(locale.LC_CTYPE)
    with suppress(locale.Error):  # the system has no such locale
        locale.setlocale(locale.LC_CTYPE, 'C.UTF-8')
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _figures(files: ScanFiles, reportlet: Any, replacements: dict[str, str]) -> list[Figure]:
    """Figures of a reportlet that belong to this scan."""
    figures = []
    heading = _fill(reportlet.subtitle or '', replacements)
    for content, caption in reportlet.components:
        caption = _fill(caption or '', replacements)
        match = _SOURCE.search(content)
        if match is None:
            # Pieces of HTML contain their pictures and name their scan.
            if f'data-scan="{files.prefix}"' in content:
                figures.append(Figure(heading, caption, content))
            continue
        path = files.output_dir / match.group(1)
        if path.name.startswith(f'{files.prefix}_desc-'):
            alt = html.escape(caption, quote=True)
            picture = f'<img alt="{alt}" src="{data_uri(path)}">'
            figures.append(Figure(heading, caption, picture))
    return figures


def _fill(text: str, replacements: dict[str, str]) -> str:
    for placeholder, value in replacements.items():
        text = text.replace(placeholder, value)
    return text


def data_uri(path: Path) -> str:
    """Return a picture as a data URI: PNG converted to WebP, SVG unchanged."""
    if path.suffix == '.svg':
        return 'data:image/svg+xml;base64,' + base64.b64encode(path.read_bytes()).decode()
    from PIL import Image

    memory = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert('RGB').save(memory, 'WEBP', quality=WEBP_QUALITY, method=4)
    return 'data:image/webp;base64,' + base64.b64encode(memory.getvalue()).decode()
