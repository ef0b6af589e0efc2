"""Pictures inside the page, and figures that need a file that is missing."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bids_interp.bench.markdown_table import write_markdown
from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.reports.common.sections import collect_sections, data_uri
from bids_interp.reports.common.volumes import Volume
from bids_interp.reports.scan.anatomy_figures import (
    draw_classifier_input,
    draw_mask,
    draw_registration,
    slice_rows,
)
from bids_interp.reports.scan.dose_player import draw_player
from bids_interp.spatial import Grid


def _content(uri: str, kind: str) -> bytes:
    assert uri.startswith(f'data:image/{kind};base64,')
    return base64.b64decode(uri.partition(',')[2])


def test_drawings_stay_and_pixels_become_webp(tmp_path: Path) -> None:
    drawing, picture = tmp_path / 'a.svg', tmp_path / 'a.png'
    drawing.write_text('<svg/>')
    assert _content(data_uri(drawing), 'svg+xml') == b'<svg/>'
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[:, 15:, 0] = 255
    Image.fromarray(colours).save(picture)
    with Image.open(io.BytesIO(_content(data_uri(picture), 'webp'))) as read:
        pixels = np.asarray(read.convert('RGB')).astype(int)
    assert read.format == 'WEBP'
    assert np.abs(pixels - colours).mean() < 5


def test_nothing_is_drawn_without_the_image(tmp_path: Path) -> None:
    files = ScanFiles(tmp_path, 'sub-01')
    drawers = (draw_mask, draw_registration, draw_classifier_input)
    assert [draw(files) for draw in drawers] == [None, None, None]
    assert draw_player(files, None) is None
    assert collect_sections(files, {}) == []
    assert not list(tmp_path.iterdir())


def test_files_are_read_as_utf8_in_any_locale(tmp_path: Path) -> None:
    """As nireports reads them, on a system of the last century."""
    (tmp_path / 'a.txt').write_text('“é”', encoding='utf-8')
    code = """
import sys
from pathlib import Path
from bids_interp.reports.common.sections import utf8_locale
with utf8_locale():
    found = Path(sys.argv[1]).read_text()
assert len(found) == 3, found
"""
    odd = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    words = [sys.executable, '-c', code, str(tmp_path / 'a.txt')]
    environ = {**os.environ, **odd, 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, env=environ, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_slices_lie_inside_the_mask_and_name_their_place() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, -24, -28]
    volume = Volume(np.ones((20, 24, 28), np.float32), Grid((20, 24, 28), affine, 'T1w'))
    mask = np.zeros((20, 24, 28), bool)
    mask[4:16, 6:18, 10:20] = True
    (row,) = slice_rows(volume.data, volume, mask, [(mask * 1.0, 0.5, 'red')], {'axial': 3})
    heights = [float(tile.text.split()[2]) for tile in row.tiles]
    assert heights == sorted(heights)
    assert all(-28 + 2 * 10 <= height < -28 + 2 * 20 for height in heights)
    assert all(len(tile.outlines) == 1 for tile in row.tiles)


def test_the_table_as_markdown_has_one_line_a_goal(tmp_path: Path) -> None:
    facts = {'runs': [], 'n_brains': 7, 'dataset': 'ds', 'missing': ['S4', 'S7']}
    keys = ('title', 'scenario', 'number', 'floor', 'aim', 'verdict')
    goal = dict(zip(keys, ('a|b', 'S1', '0.91', '0.8', '0.9', 'met'), strict=True))
    path = write_markdown(tmp_path / 'table.md', facts, [goal, goal], [], ['one note'])
    lines = path.read_text().splitlines()
    assert lines.count('| a/b | S1 | 0.91 | 0.8 | 0.9 | met |') == 2
    assert '* one note' in lines
    assert any('S4; S7' in line for line in lines)
