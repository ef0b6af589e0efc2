"""Skeletons of known cohorts: their folder names and columns, with tiny images."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from helpers.skeletons import make_image


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], separator: str = '\t') -> None:
    """Write rows with the same keys as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    path.write_text('\n'.join(separator.join(map(str, line)) for line in lines) + '\n')


def write_study(
    root: Path, people: Sequence[Mapping[str, object]], images: Iterable[str], name: str = 'Study'
) -> None:
    """Write a dataset with the images of these names and its ``participants.tsv``."""
    root.mkdir(parents=True)
    description = {'Name': name, 'BIDSVersion': '1.7.0', 'DatasetType': 'raw'}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    content = gzip.compress(make_image((36, 40, 36), 5.0).to_bytes(), 1)
    for image in images:
        labels = image.split('_')
        folder = root.joinpath(labels[0], *(part for part in labels[1:2] if part[:4] == 'ses-'))
        path = folder / 'anat' / f'{image}_T1w.nii.gz'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if people:
        write_rows(root / 'participants.tsv', people)


def write_sessions(root: Path, subject: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write ``sub-*_sessions.tsv`` of a participant."""
    write_rows(root / f'sub-{subject}' / f'sub-{subject}_sessions.tsv', rows)
