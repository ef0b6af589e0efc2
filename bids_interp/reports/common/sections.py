"""Figures collected by nireports and made part of the page.

nireports' assembler reads the specification (``page/report.yml``) and finds the figures. Its own
page is not used: it loads Bootstrap and jQuery from the network and links figures as files beside
it, and nothing in it can be told otherwise. Our template carries its style and every picture
inside, so that the one file can be mailed, archived and opened offline.
"""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_interp.bids.read.scan_files import ScanFiles

PAGE = Path(__file__).parent / 'page'
#: Quality of the pictures inside the page; the files beside it stay lossless.
WEBP_QUALITY = 82

_SOURCE = re.compile(r'(?:src|data)="\./([^"]+)"')


@dataclass(frozen=True)
class Figure:
    """One figure of the page: heading, one sentence, and its content as HTML."""

    heading: str
    caption: str
    content: str


@dataclass(frozen=True)
class Section:
    """A named part of the page."""

    name: str
    title: str
    figures: list[Figure]


def collect_sections(files: ScanFiles, words: dict[str, str]) -> list[Section]:
    """Find the figures of one scan and put them into the page.

    Parameters
    ----------
    files : ScanFiles
        Names the output directory and the scan.
    words : dict of str to str
        Words in capitals in the captions and what stands for them.

    Returns
    -------
    list of Section
        Only figures that are there, and only sections that have one.
    """
    if not files.figures.is_dir() or not any(files.figures.iterdir()):
        return []
    from nireports.assembler.report import Report

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
            for figure in _figures(files, reportlet, words)
        ]
        if figures:
            sections.append(Section(section.name, section.title, figures))
    return sections


def _figures(files: ScanFiles, reportlet: Any, words: dict[str, str]) -> list[Figure]:
    """Turn the components of a reportlet into figures, those of this scan only."""
    figures = []
    heading = _fill(reportlet.subtitle or '', words)
    for content, caption in reportlet.components:
        caption = _fill(caption or '', words)
        match = _SOURCE.search(content)
        if match is None:
            # Pieces of HTML hold their pictures already; they name their scan.
            if f'data-scan="{files.prefix}"' in content:
                figures.append(Figure(heading, caption, content))
            continue
        path = files.output_dir / match.group(1)
        if path.name.startswith(f'{files.prefix}_desc-'):
            alt = html.escape(caption, quote=True)
            picture = f'<img alt="{alt}" src="{data_uri(path)}">'
            figures.append(Figure(heading, caption, picture))
    return figures


def _fill(text: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def data_uri(path: Path) -> str:
    """Encode a picture for the page: PNG as WebP, SVG as it is."""
    if path.suffix == '.svg':
        return 'data:image/svg+xml;base64,' + base64.b64encode(path.read_bytes()).decode()
    from PIL import Image

    memory = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert('RGB').save(memory, 'WEBP', quality=WEBP_QUALITY, method=4)
    return 'data:image/webp;base64,' + base64.b64encode(memory.getvalue()).decode()
