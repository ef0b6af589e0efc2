"""A dataset that appears only when all of it is written, and never replaces what is not its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.errors import OutputError, UsageError
from bids_interp.phantom.truth import IGNORED
from bids_interp.spatial import Grid

#: Who made a phantom dataset.
GENERATOR = 'bids_interp phantom'
BIDS_VERSION = '1.10.0'


def check_cohort(n: int, severity: tuple[float, float], seed: int, fraction: float) -> None:
    """Raise `UsageError` where no cohort has such numbers."""
    if n < 1:
        raise UsageError(f'A dataset of {n} subjects cannot be made.', 'Ask for at least one.')
    if not 0 <= fraction <= 1:
        raise UsageError(f'{fraction} is not a share of patients.', 'Give 0 to 1.')
    if not 0 < severity[0] <= severity[1]:
        raise UsageError(
            f'{severity[0]} to {severity[1]} is no range of severities.',
            'Give two positive numbers, the smaller one first.',
        )
    if seed < 0:
        raise UsageError(f'The seed {seed} is negative.', 'Give 0 or more.')


def check_free(out: Path, overwrite: bool) -> None:
    """Raise `OutputError` where a folder holds anything but, with `overwrite`, a phantom."""
    if out.is_file():
        raise OutputError(f'{out} is a file.', 'Give the name of a folder.')
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise OutputError(f'{out} exists and is not empty.', 'Give another folder, or --overwrite.')
    try:
        description = json.loads((out / 'dataset_description.json').read_text('utf-8'))
        ours = description['GeneratedBy'][0]['Name'] == GENERATOR
    except (OSError, ValueError, LookupError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            f'{out} holds something that is not a phantom dataset; it is left alone.',
            'Give another folder.',
        )


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its place when all went well.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    except OSError as error:
        raise OutputError(f'{out} cannot be made: {error.strerror}.') from error
    try:
        yield work
        work.chmod(0o755)
        _put_in_place(work, out)
    except OSError as error:
        raise OutputError(f'{out} cannot be written: {error.strerror}.') from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_in_place(work: Path, out: Path) -> None:
    if out.is_dir():
        old = Path(tempfile.mkdtemp(prefix=f'.{out.name}-old-', dir=out.parent))
        os.replace(out, old)
        os.replace(work, out)
        shutil.rmtree(old)
    else:
        os.replace(work, out)


def write_descriptions(
    root: Path, name: str, title: str, columns: dict[str, Any], readme: str
) -> None:
    """Write descriptions of a phantom and of its truth, participants.json and README.

    Parameters
    ----------
    root : Path
        The dataset; ``derivatives/truth`` is there already.
    name : str
        What it is, such as ``'Phantom heads'``.
    title : str
        Effect and seed.
    columns : dict
        Content of participants.json.
    readme : str
        Content of README.
    """
    made_by = [{'Name': GENERATOR, 'Description': title}]
    common = {'BIDSVersion': BIDS_VERSION, 'License': 'CC0', 'GeneratedBy': made_by}
    raw = {'Name': f'{name}: {title}', 'DatasetType': 'raw', **common}
    write_json(root / 'dataset_description.json', raw)
    write_json(root / 'participants.json', columns)
    (root / 'README').write_text(readme, 'utf-8')
    truth = root / 'derivatives' / 'truth'
    derived = {
        'Name': f'Truth of the {name[0].lower()}{name[1:]}: {title}',
        'DatasetType': 'derivative',
        'DatasetLinks': {'raw': '../..'},
        **common,
    }
    write_json(truth / 'dataset_description.json', derived)
    (truth / '.bidsignore').write_text(IGNORED, 'utf-8')


def save(grid: Grid, data: np.ndarray, path: Path, dtype: Any) -> None:
    """Write an image."""
    grid.to_image(data, dtype).to_filename(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + '\n', 'utf-8')
