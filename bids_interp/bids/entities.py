"""Entities of BIDS file names that the derivatives of a T1w image keep."""

from __future__ import annotations

import re
from pathlib import Path

from bids_interp.errors import InputDatasetError

#: Entities that derivatives keep from the source T1w image: key in file names -> pybids name.
SOURCE_ENTITIES = {
    'sub': 'subject',
    'ses': 'session',
    'task': 'task',
    'acq': 'acquisition',
    'ce': 'ceagent',
    'rec': 'reconstruction',
    'run': 'run',
    'echo': 'echo',
    'part': 'part',
    'chunk': 'chunk',
}

#: Label that BIDS allows.
LABEL = re.compile(r'[a-zA-Z0-9+]+')
_PAIR = re.compile(rf'^([a-z]+)-({LABEL.pattern})$')


def source_entities(path: str | Path) -> dict[str, str]:
    """Return the entities of a source image that its derivatives keep.

    Parameters
    ----------
    path : path
        BIDS file; only its name is used.

    Returns
    -------
    dict
        Values by pybids entity name, as written (``run-01`` gives ``'01'``).

    Raises
    ------
    InputDatasetError
        If the name has no ``sub-<label>``.

    Examples
    --------
    >>> source_entities('sub-01_ses-a_run-01_T1w.nii.gz')
    {'subject': '01', 'session': 'a', 'run': '01'}
    """
    name = Path(path).name
    pairs = (_PAIR.match(part) for part in name.split('.')[0].split('_'))
    found = {pair[1]: pair[2] for pair in pairs if pair and pair[1] in SOURCE_ENTITIES}
    if 'sub' not in found:
        raise InputDatasetError(f'{path} is not a BIDS file name: it has no sub-<label>.')
    return {SOURCE_ENTITIES[key]: found[key] for key in SOURCE_ENTITIES if key in found}
