"""Dataset folder that appears only when complete and never replaces foreign files."""

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
from bids_interp.records import parse_json
from bids_interp.spatial import Grid

#: Name of the generator of phantom datasets.
GENERATOR = 'bids_interp phantom'
BIDS_VERSION = '1.10.0'


def check_cohort(n: int, severity: tuple[float, float], seed: int, fraction: float) -> None:
    """Raise `UsageError` if the numbers of a cohort are out of range."""
    if n < 1:
        raise UsageError(f'{n} subjects do not make a dataset.', 'Choose at least one subject.')
    if not 0 <= fraction <= 1:
        raise UsageError(f'{fraction} is not a valid share of patients.', 'Choose 0 to 1.')
    check_draws(severity, seed)


def check_draws(severity: tuple[float, float], seed: int) -> None:
    """Raise `UsageError` if the range of severities or the seed is invalid."""
    if not 0 < severity[0] <= severity[1]:
        raise UsageError(
            f'{severity[0]} to {severity[1]} is not a valid range of severities.',
            'Give two positive numbers, the smaller one first.',
        )
    if seed < 0:
        raise UsageError(f'The seed {seed} is negative.', 'Choose 0 or a positive number.')


def check_free(out: Path, overwrite: bool) -> None:
    """Raise `OutputError` unless a folder is empty or, with `overwrite`, a phantom dataset."""
    if out.is_file():
        raise OutputError(f'{out} is a file, not a folder.', 'Choose another folder.')
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise OutputError(f'{out} is not empty.', 'Choose another folder or use --overwrite.')
    try:
        description = parse_json((out / 'dataset_description.json').read_text('utf-8'))
        ours = description['GeneratedBy'][0]['Name'] == GENERATOR
    except (OSError, ValueError, LookupError, TypeError):
        ours = False
    if not ours:
        raise OutputError(
            f'{out} is not a phantom dataset, so it is not overwritten.',
            'Choose another folder.',
        )


@contextmanager
def folder_in_progress(out: Path) -> Iterator[Path]:
    """Provide a temporary folder that replaces `out` if no error occurs.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    except OSError as error:
        raise OutputError(f'{out} cannot be created: {error.strerror}.') from error
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


def describe_phantom(
    root: Path, name: str, title: str, columns: dict[str, Any], readme: str
) -> None:
    """Write the descriptions of a phantom dataset and its truth, participants.json and README.

    Parameters
    ----------
    root : Path
        Dataset that contains ``derivatives/truth``.
    name : str
        Kind of dataset, such as ``'Phantom heads'``.
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
    save_json(root / 'dataset_description.json', raw)
    save_json(root / 'participants.json', columns)
    (root / 'README').write_text(readme, 'utf-8')
    truth = root / 'derivatives' / 'truth'
    derived = {
        'Name': f'Truth of the {name[0].lower()}{name[1:]}: {title}',
        'DatasetType': 'derivative',
        'DatasetLinks': {'raw': '../..'},
        **common,
    }
    save_json(truth / 'dataset_description.json', derived)
    (truth / '.bidsignore').write_text(IGNORED, 'utf-8')


def save_on_grid(grid: Grid, data: np.ndarray, path: Path, dtype: Any) -> None:
    """Write an image."""
    grid.to_image(data, dtype).to_filename(path)


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=2) + '\n', 'utf-8')
