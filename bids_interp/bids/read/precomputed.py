"""Precomputed T1w images and brain masks of other tools, matched to the input images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_interp.bids.read.tools import SEGMENTED, find_tool_file
from bids_interp.errors import UsageError

if TYPE_CHECKING:
    from bids_interp.bids.read.query import T1wRecord

PATTERNS = {'derivative_t1w': 'desc-preproc_T1w', 'derivative_mask': 'desc-brain_mask'}


def find_precomputed(
    records: Sequence[T1wRecord],
    siblings: Sequence[T1wRecord],
    derivatives: Sequence[tuple[str, Path]],
    segmentation: str | None = None,
) -> list[T1wRecord]:
    """Add to each record its native ``desc-preproc_T1w`` and ``desc-brain_mask``, or another mask.

    A file belongs to an image if the image has all entities of the file. A file that fits several
    images is their average and is not used. Without them, the brain of one of the tools in
    :data:`bids_interp.bids.read.tools.TOOLS` is used.

    Parameters
    ----------
    records : sequence of T1wRecord
        Images to look for.
    siblings : sequence of T1wRecord
        All T1w images of these subjects, selected or not.
    derivatives : sequence of (str, Path)
        Named folders; the first one that has a file is used.
    segmentation : str, optional
        Regions to look for as well, one of :data:`bids_interp.bids.read.tools.SEGMENTED`.

    Raises
    ------
    UsageError
        If a folder does not exist or is one of Clinica, or no image has the regions.
    """
    for name, folder in derivatives:
        if not folder.is_dir():
            raise UsageError(f'--derivatives {name}={folder} is not a folder.')
        if any(folder.glob('subjects/sub-*/ses-*/t1_linear')):
            raise UsageError(
                f'--derivatives {name}={folder} is a CAPS folder of Clinica. Images of t1-linear '
                'are whole heads on a cropped grid of MNI152NLin2009cSym: they have no brain mask, '
                'and their maps could not be put back into the scans.',
                'Leave it out: bids_interp aligns the scans of BIDS_DIR itself. '
                'docs/own-classifier.md describes classifiers that were trained on t1-linear.',
            )
    completed = []
    for record in records:
        found: dict[str, Path] = {}
        notes: tuple[str, ...] = ()
        for _, folder in derivatives:
            if not found:
                found = _of_record(record, siblings, folder)
            if 'derivative_mask' not in found:
                mask = find_tool_file(record, siblings, folder)
                notes += mask.notes
                if mask.path is not None:
                    found['derivative_mask'] = mask.path
        if segmentation is not None:
            regions, lacking = _segmentation(record, siblings, derivatives, segmentation)
            found |= {'segmentation': regions} if regions else {}
            notes += tuple(note for note in lacking if note not in notes)
        completed.append(
            replace(
                record,
                derivative_t1w=found.get('derivative_t1w'),
                derivative_mask=found.get('derivative_mask'),
                segmentation=found.get('segmentation'),
                derivative_notes=notes,
            )
        )
    if segmentation is not None and not any(record.segmentation for record in completed):
        shown = ', '.join(f'{name}={folder}' for name, folder in derivatives)
        raise UsageError(
            f'--atlas {segmentation}: no T1w image has these regions in --derivatives '
            f'({shown or "none"}).',
            'Give the folder of FreeSurfer, FastSurfer or SynthSeg to --derivatives; docs/usage.md '
            'lists the files that are looked for.',
        )
    return completed


def _segmentation(
    record: T1wRecord,
    siblings: Sequence[T1wRecord],
    derivatives: Sequence[tuple[str, Path]],
    name: str,
) -> tuple[Path | None, tuple[str, ...]]:
    """Return the label image of a scan, or what is missing."""
    notes: tuple[str, ...] = ()
    for _, folder in derivatives:
        found = find_tool_file(record, siblings, folder, SEGMENTED[name])
        if found.path is not None:
            return found.path, ()
        notes += found.notes
    return None, (*notes, f'no {name} in the --derivatives folders: no table of its regions')


def _of_record(record: T1wRecord, siblings: Sequence[T1wRecord], folder: Path) -> dict[str, Path]:
    """Return the files of one record in one folder; image and mask may also occur alone."""
    subject = folder / f'sub-{record.subject}'
    anats = [subject / 'anat']
    if record.session:
        anats.insert(0, subject / f'ses-{record.session}' / 'anat')
    found: dict[str, Path] = {}
    for field, ending in PATTERNS.items():
        candidates = [
            path
            for anat in anats
            for path in sorted(anat.glob(f'sub-{record.subject}_*{ending}.nii*'))
            if _only_of(record, siblings, _entities(path))
        ]
        if candidates:
            found[field] = max(candidates, key=lambda path: len(_entities(path)))
    return found


def _only_of(record: T1wRecord, siblings: Sequence[T1wRecord], entities: dict[str, str]) -> bool:
    def fits(other: T1wRecord) -> bool:
        return entities.items() <= other.entities.items()

    return fits(record) and sum(fits(other) for other in siblings) == 1


def _entities(path: Path) -> dict[str, str]:
    """Return the entities of a derivative without ``desc``.

    Examples
    --------
    >>> _entities(Path('sub-01_ses-a_space-MNI_desc-brain_mask.nii.gz'))
    {'sub': '01', 'ses': 'a', 'space': 'MNI'}
    """
    entities = dict(re.findall(r'(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9+]+)', path.name))
    entities.pop('desc', None)
    return entities
