"""Preflight table: the images to process, how they are processed, and their problems."""

from __future__ import annotations

import logging
import shutil
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bids_interp.bids.read.anat_files import Ignored, anat_files, lesion_masks, list_subjects
from bids_interp.bids.read.query import T1wRecord, anat_records, missing_subjects
from bids_interp.bids.read.validation import validate_dataset
from bids_interp.errors import ImageError, one_line
from bids_interp.execution.outcome import EXCLUDED, Outcome
from bids_interp.execution.resources import available_memory_gb
from bids_interp.levels.image_check import ImageSummary, inspect_image
from bids_interp.settings import TEMPLATE_SPACE, Settings

if TYPE_CHECKING:
    from bids_interp.models.bundle.reader import ModelBundle

logger = logging.getLogger('bids_interp')

NARROW, WIDE = 80, 120
#: Longest prefix of outputs: file names have at most 255 bytes, and endings and names of temporary
#: files need the rest.
MAX_PREFIX = 140
# Compressed bytes of the outputs, measured on real scans: per native voxel (an image, or a pair of
# simulated image and map), and per image or pair in template space at 1 mm.
NATIVE_IMAGE, NATIVE_PAIR = 3.0, 3.0
TEMPLATE_IMAGE, TEMPLATE_PAIR = 15e6, 50e6
REPORT_AND_FIGURES = 7e6
# Size of the intermediate results: a multiple of the outputs, plus bytes per native voxel.
WORK_SHARE, WORK_NATIVE = 1.2, 12.0


@dataclass(frozen=True)
class PreflightRow:
    """Row of the preflight table: a T1w image, or a participant without one.

    Parameters
    ----------
    name : str
        Prefix of the image's outputs, or ``sub-<label>``.
    record : T1wRecord, optional
        The image.
    summary : ImageSummary, optional
        Summary of the image; None if it cannot be read.
    model : str
        Name of the model.
    problems : tuple of str
        Reasons why it cannot be processed.
    notes : tuple of str
        Remarks for the user.
    output_bytes, work_bytes : int
        Estimated size of the outputs and of the intermediate results.
    """

    name: str
    record: T1wRecord | None = None
    summary: ImageSummary | None = None
    model: str = ''
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    output_bytes: int = 0
    work_bytes: int = 0

    @property
    def usable(self) -> bool:
        """True if the image can be processed."""
        return self.record is not None and not self.problems


def preflight(
    records: Sequence[T1wRecord],
    settings: Settings,
    bundle: ModelBundle | None,
    *,
    n_threads: int = 1,
) -> list[PreflightRow]:
    """Check every image and return the rows of the preflight table.

    Parameters
    ----------
    records : sequence of T1wRecord
        Images to check.
    settings : Settings
        Settings of the run.
    bundle : ModelBundle, optional
        Model to use; None for training.
    n_threads : int
        Number of files to read at once.

    Returns
    -------
    list of PreflightRow
        One row per image, in order, then one per participant without an image.
    """
    model = '' if bundle is None else bundle.name + (' (demo)' if bundle.demonstration else '')
    remarks = {} if settings.skip_bids_validation else validate_dataset(settings.bids_dir)
    memory_gb = settings.mem_gb or available_memory_gb()

    def check(record: T1wRecord) -> PreflightRow:
        notes = tuple(remarks.get(record.path.name, ()))
        if record.problem:
            return PreflightRow(record.prefix, record, None, model, (record.problem,), notes)
        if settings.derivatives and not (record.derivative_t1w or record.derivative_mask):
            notes += ('the --derivatives folders contain no files of this image',)
        notes += record.derivative_notes
        notes += _lesion_notes(record, settings)
        try:
            _check_name(record)
            summary = inspect_image(record, settings.skull_strip_t1w, memory_gb)
        except Exception as error:
            logger.debug('%s', record.path, exc_info=error)
            problem = _problem_of(record, error)
            return PreflightRow(record.prefix, record, None, model, (problem,), notes)
        need = bytes_needed(summary.shape, settings)
        notes = (*summary.notes, *notes)
        return PreflightRow(record.prefix, record, summary, model, (), notes, *need)

    with ThreadPoolExecutor(max(1, n_threads)) as pool:
        rows = list(pool.map(check, records))
    return [*rows, *_without_image(records, settings)]


def _check_name(record: T1wRecord) -> None:
    size = len(record.prefix.encode())
    if size > MAX_PREFIX:
        raise ImageError(
            f'{record.path}: its entities are {size} characters long, so that the names of its '
            f'outputs would be too long for the disk; at most {MAX_PREFIX} are possible.',
            'Shorten the labels in folders, files and tables.',
        )


def _problem_of(record: T1wRecord, error: Exception) -> str:
    if isinstance(error, ImageError):
        return str(error)
    return f'{record.path} cannot be read ({one_line(error)}). {ImageError.default_advice}'


def excluded_outcomes(rows: Sequence[PreflightRow]) -> list[Outcome]:
    """Return the outcomes of the images that cannot be processed."""
    return [Outcome(row.name, EXCLUDED, ' '.join(row.problems)) for row in rows if not row.usable]


def _without_image(records: Sequence[T1wRecord], settings: Settings) -> list[PreflightRow]:
    """Return rows of requested participants that are missing or have no T1w image."""
    missing = missing_subjects(settings)
    requested = settings.participant_label or tuple(list_subjects(settings.bids_dir))
    found = {record.subject for record in records}
    ignored = Ignored(settings.bids_dir)
    rows = []
    for label in requested:
        folder = settings.bids_dir / f'sub-{label}'
        if label in missing:
            problem = f'{settings.bids_dir} has no participant {label}. Check --participant-label.'
        elif label not in found and not anat_records(ignored, label):
            problem = f'{folder} has no T1w image (anat/sub-{label}[_...]_T1w.nii[.gz]).'
            other = [path.name for path in anat_files(settings.bids_dir, label)]
            problem += f' Other images: {", ".join(other)}.' if other else ''
        else:
            continue  # has a row, or was deselected by session or filter
        rows.append(PreflightRow(f'sub-{label}', problems=(problem,)))
    return rows


def _lesion_notes(record: T1wRecord, settings: Settings) -> tuple[str, ...]:
    """Return notes about lesion masks, which nothing uses."""
    inside = record.path.parent.relative_to(settings.bids_dir)
    roots = [settings.bids_dir, *(folder for _, folder in settings.derivatives)]
    masks = [mask for root in roots for mask in lesion_masks(root / inside)]
    return tuple(
        f'the lesion mask {mask} is ignored: the registration uses the whole brain'
        for mask in masks
    )


def bytes_needed(shape: Sequence[int], settings: Settings) -> tuple[int, int]:
    """Return the estimated bytes of the outputs and intermediate results of an image."""
    native = float(shape[0] * shape[1] * shape[2])
    pairs = 2 * len(settings.doses)
    output = NATIVE_IMAGE * native + TEMPLATE_IMAGE + REPORT_AND_FIGURES
    for space in settings.output_spaces:
        is_native = space.lower() in ('t1w', 'anat', 'native')
        output += pairs * (NATIVE_PAIR * native if is_native else TEMPLATE_PAIR)
        # The brain in the model's own template is counted above.
        output += 0 if is_native or space == TEMPLATE_SPACE else TEMPLATE_IMAGE
    return int(output), int(WORK_SHARE * output + WORK_NATIVE * native)


def render_table(rows: Sequence[PreflightRow], width: int | None = None) -> str:
    """Return the table as text, 80 to 120 columns wide, with the problems below their rows.

    Parameters
    ----------
    rows : sequence of PreflightRow
        Rows to show.
    width : int, optional
        Number of columns; the width of the terminal by default.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    width = min(max(width, NARROW), WIDE)
    heads: tuple[str, ...] = (
        'subject', 'session', 'T1w image', 'voxels (mm)', 'axes', 'brain', 'model', 'run'
    )  # fmt: skip
    lines = [tuple(map(printable, _cells(row))) for row in rows]
    if all(line[1] in ('', '-') for line in lines):
        heads = (heads[0], *heads[2:])
        lines = [(line[0], *line[2:]) for line in lines]
    sizes = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    spare = width - sum(sizes) - 2 * (len(heads) - 1)
    # Columns that may be shortened, and their minimum width.
    for head, least in (('model', 13), ('T1w image', 12), ('subject', 8), ('model', 8)):
        column = heads.index(head)
        cut = min(max(0, -spare), max(0, sizes[column] - least))
        sizes[column] -= cut
        spare += cut
    text = [_join(heads, sizes), _join(['-' * size for size in sizes], sizes)]
    for row, line in zip(rows, lines, strict=True):
        text.append(_join(line, sizes))
        for mark, remark in (*(('!', p) for p in row.problems), *(('-', n) for n in row.notes)):
            text += textwrap.wrap(
                printable(remark),
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
    summary = row.summary
    shown = ('', '', '')
    if summary is not None:
        size = 'x'.join(f'{edge:.3g}' for edge in summary.voxel_size)
        shown = (size, summary.orientation, summary.brain)
    record = row.record
    return record.subject, record.session or '-', record.path.name, *shown, row.model, state


def printable(text: str) -> str:
    r"""Return a text whose control characters, which a terminal would obey, are spelled out.

    Examples
    --------
    >>> print(printable('sub-' + chr(10)))
    sub-\n
    """
    return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _join(cells: Sequence[str], sizes: Sequence[int]) -> str:
    return '  '.join(_cut(c, n).ljust(n) for c, n in zip(cells, sizes, strict=True)).rstrip()


def _cut(text: str, size: int) -> str:
    """Shorten a text by removing its middle.

    Examples
    --------
    >>> _cut('sub-01_ses-a_T1w.nii.gz', 15)
    'sub-01...nii.gz'
    """
    if len(text) <= size:
        return text
    head = (size - 3) // 2
    return f'{text[:head]}...{text[len(text) - (size - 3 - head) :]}'
