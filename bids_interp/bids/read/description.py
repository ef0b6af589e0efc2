"""Description of a BIDS dataset, and the key by which models recognise it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bids_interp.bids.read.tsv import read_text
from bids_interp.container import bind_advice
from bids_interp.errors import InputDatasetError
from bids_interp.records import parse_json


def read_description(bids_dir: Path) -> dict[str, Any]:
    """Read ``dataset_description.json`` of a dataset; a byte order mark is skipped.

    Raises
    ------
    InputDatasetError
        If the folder or the file is missing, or the description is not valid.
    """
    if not bids_dir.is_dir():
        raise InputDatasetError(
            f'The input dataset {bids_dir} is not a folder.', bind_advice(bids_dir) or None
        )
    path = bids_dir / 'dataset_description.json'
    if not path.is_file():
        raise InputDatasetError(
            f'{bids_dir} is not a BIDS dataset: it has no dataset_description.json.',
            'Give the root of a BIDS dataset as the first argument. The file needs at least '
            '{"Name": "...", "BIDSVersion": "1.10.0"}. ' + bind_advice(bids_dir),
        )
    try:
        description = parse_json(read_text(path))
    except ValueError as error:
        raise InputDatasetError(f'{path} cannot be read as JSON: {error}.') from error
    if not isinstance(description, dict):
        raise InputDatasetError(f'{path} must contain a JSON object.')
    if not isinstance(description.get('Name'), str):
        raise InputDatasetError(f'{path} lacks the required Name.', 'Add it to the file.')
    return description


def dataset_key(description: dict[str, Any]) -> str:
    """Return the DOI of a dataset, or else its name.

    Examples
    --------
    >>> dataset_key({'Name': 'study', 'DatasetDOI': 'doi:10.1/x'})
    'doi:10.1/x'
    """
    return str(description.get('DatasetDOI') or description.get('Name') or '')
