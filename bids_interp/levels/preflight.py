"""The preflight table: what would be processed, how, and what is wrong with it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.read.query import T1wRecord, list_subjects, missing_subjects
from bids_interp.bids.read.validation import validate_dataset
from bids_interp.errors import ImageError
from bids_interp.levels.image_check import ImageSummary, inspect_image
from bids_interp.settings import Settings

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle

NARROW, WIDE = 80, 120
# Compressed bytes of what is written, measured on real scans: per native voxel and image, per pair
# of simulated image and map, and in template space at 1 mm, which does not depend on the input.
NATIVE_IMAGE, NATIVE_PAIR = 3.0, 3.0
TEMPLATE_IMAGE, TEMPLATE_PAIR = 15e6, 50e6
REPORT_AND_FIGURES = 7e6
# Intermediate results are the same again, and uncompressed native images.
WORK_SHARE, WORK_NATIVE = 1.2, 12.0


@dataclass(frozen=True)
class PreflightRow:
    """One line of the table: a T1w image, or a participant without one.

    Parameters
    ----------
    name : str
        Prefix of the image's outputs, or ``sub-<label>``.
    record : T1wRecord, optional
        The image.
    facts : ImageSummary, optional
        What its header and values say; None where it cannot be read.
    model : str
        Name of the model that applies.
    problems : tuple of str
        Why it cannot be processed.
    notes : tuple of str
        What the user should know.
    """

    name: str
    record: T1wRecord | None = None
    facts: ImageSummary | None = None
    model: str = ''
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    output_bytes: int = 0
    work_bytes: int = 0

    @property
    def usable(self) -> bool:
        """Whether it can be processed."""
        return self.record is not None and not self.problems


def preflight(
    records: Sequence[T1wRecord],
    settings: Settings,
    bundle: ModelBundle | None,
    *,
    n_threads: int = 1,
) -> list[PreflightRow]:
    """Look at every image before anything is computed.

    Parameters
    ----------
    records : sequence of T1wRecord
        Images to look at.
    settings : Settings
        Choices of the user.
    bundle : ModelBundle, optional
        The model that applies; none when one is trained.
    n_threads : int
        Files read at once.

    Returns
    -------
    list of PreflightRow
        One per image, in order, then one per participant without image.
    """
    model = '' if bundle is None else bundle.name + (' (demo)' if bundle.demonstration else '')
    findings = {} if settings.skip_bids_validation else validate_dataset(settings.bids_dir)

    def look(record: T1wRecord) -> PreflightRow:
        notes = tuple(findings.get(record.path.name, ()))
        if record.problem:
            return PreflightRow(record.prefix, record, None, model, (record.problem,), notes)
        if settings.derivatives and not (record.derivative_t1w or record.derivative_mask):
            notes += ('nothing of this image alone is in the folders of --derivatives',)
        try:
            facts = inspect_image(record, settings.skull_strip_t1w)
        except ImageError as error:
            return PreflightRow(record.prefix, record, None, model, (str(error),), notes)
        need = bytes_needed(facts.shape, settings)
        return PreflightRow(record.prefix, record, facts, model, (), (*facts.notes, *notes), *need)

    with ThreadPoolExecutor(max(1, n_threads)) as pool:
        rows = list(pool.map(look, records))
    return [*rows, *_without_image(records, settings)]


def _without_image(records: Sequence[T1wRecord], settings: Settings) -> list[PreflightRow]:
    """Return rows of requested participants that are not there or have no T1w image at all."""
    missing = missing_subjects(settings)
    asked = settings.participant_label or tuple(list_subjects(settings.bids_dir))
    found = {record.subject for record in records}
    rows = []
    for label in asked:
        folder = settings.bids_dir / f'sub-{label}'
        if label in missing:
            problem = f'{settings.bids_dir} has no participant {label}. Check --participant-label.'
        elif label not in found and not _has_t1w(folder):
            problem = f'{folder} has no T1w image (anat/sub-{label}[_...]_T1w.nii[.gz]).'
        else:
            continue  # done, or left out by sessions or filter, as the user asked
        rows.append(PreflightRow(f'sub-{label}', problems=(problem,)))
    return rows


def _has_t1w(folder: Path) -> bool:
    patterns = ('anat/*_T1w.nii', 'ses-*/anat/*_T1w.nii')
    return any(True for p in patterns for end in ('', '.gz') for _ in folder.glob(p + end))


def bytes_needed(shape: Sequence[int], settings: Settings) -> tuple[int, int]:
    """Estimate bytes of output and of intermediate results of an image of so many voxels."""
    native = float(shape[0] * shape[1] * shape[2])
    pairs = 2 * len(settings.doses)
    output = NATIVE_IMAGE * native + TEMPLATE_IMAGE + REPORT_AND_FIGURES
    for space in settings.output_spaces:
        is_native = space.lower() in ('t1w', 'anat', 'native')
        output += pairs * (NATIVE_PAIR * native if is_native else TEMPLATE_PAIR)
    return int(output), int(WORK_SHARE * output + WORK_NATIVE * native)


def render_table(rows: Sequence[PreflightRow], width: int | None = None) -> str:
    """Return the table as text, 80 to 120 columns wide, problems below their lines.

    Parameters
    ----------
    rows : sequence of PreflightRow
        What is shown.
    width : int, optional
        Columns; those of the terminal if not given.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    width = min(max(width, NARROW), WIDE)
    heads: tuple[str, ...] = (
        'subject', 'session', 'T1w image', 'voxels (mm)', 'axes', 'brain', 'model', 'run'
    )  # fmt: skip
    lines: list[tuple[str, ...]] = [_cells(row) for row in rows]
    if all(line[1] in ('', '-') for line in lines):
        heads = (heads[0], *heads[2:])
        lines = [(line[0], *line[2:]) for line in lines]
    sizes = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    spare = width - sum(sizes) - 2 * (len(heads) - 1)
    # What may be cut, and how far; the model mostly is the same in all lines.
    for head, least in (('model', 13), ('T1w image', 12), ('subject', 8), ('model', 8)):
        column = heads.index(head)
        cut = min(max(0, -spare), max(0, sizes[column] - least))
        sizes[column] -= cut
        spare += cut
    text = [_join(heads, sizes), _join(['-' * size for size in sizes], sizes)]
    for row, line in zip(rows, lines, strict=True):
        text.append(_join(line, sizes))
        for mark, words in (*(('!', p) for p in row.problems), *(('-', n) for n in row.notes)):
            text += textwrap.wrap(
                words,
                width,
                initial_indent=f'    {mark} ',
                subsequent_indent='      ',
                break_on_hyphens=False,
                break_long_words=False,
            )
    return '\n'.join(text)


def _cells(row: PreflightRow) -> tuple[str, ...]:
    state = 'yes' if row.usable else 'NO'
    if row.record is None:
        return row.name.removeprefix('sub-'), '', '-', '', '', '', '', state
    facts = row.facts
    shown = ('', '', '')
    if facts is not None:
        size = 'x'.join(f'{edge:.3g}' for edge in facts.voxel_size)
        shown = (size, facts.orientation, facts.brain)
    record = row.record
    return record.subject, record.session or '-', record.path.name, *shown, row.model, state


def _join(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return '  '.join(_cut(c, n).ljust(n) for c, n in zip(cells, sizes, strict=True)).rstrip()


def _cut(text: str, size: int) -> str:
    """Shorten a text in the middle.

    Examples
    --------
    >>> _cut('sub-01_ses-a_T1w.nii.gz', 15)
    'sub-01...nii.gz'
    """
    if len(text) <= size:
        return text
    head = (size - 3) // 2
    return f'{text[:head]}...{text[len(text) - (size - 3 - head) :]}'
