"""Where an output comes from: sources as BIDS URIs, software, container, model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bids_interp.container import container
from bids_interp.version import __version__

SOFTWARE = 'bids_interp'
RAW_LINK = 'raw'

DEMONSTRATION_NOTE = (
    'Made with the demonstration model of bids_interp, which was trained on simulated changes: '
    'it shows how the software works and says nothing about any disease or person.'
)


class ModelIdentity(Protocol):
    """What is recorded of a model bundle."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def version_hash(self) -> str:
        """Hash of its weights and configuration."""
        ...

    @property
    def demonstration(self) -> bool:
        """Whether it is only a demonstration."""
        ...


def model_fields(bundle: ModelIdentity) -> dict[str, Any]:
    """Say which model an output was made with, and whether it is only a demonstration.

    Parameters
    ----------
    bundle : ModelBundle
        Anything with ``name``, ``version_hash`` and ``demonstration``.

    Returns
    -------
    dict
        ``ModelName``, ``ModelHash``, ``Demonstration`` and a plain sentence for a demonstration.
    """
    fields: dict[str, Any] = {
        'ModelName': bundle.name,
        'ModelHash': bundle.version_hash,
        'Demonstration': bundle.demonstration,
    }
    if bundle.demonstration:
        fields['DemonstrationNote'] = DEMONSTRATION_NOTE
    return fields


def common_fields(bundle: ModelIdentity | None, random_seed: int) -> dict[str, Any]:
    """Collect the fields that every sidecar of a run has: software, model (if any), seed."""
    return {
        'GeneratedBy': [{'Name': SOFTWARE, 'Version': __version__}],
        **({} if bundle is None else model_fields(bundle)),
        'RandomSeed': random_seed,
    }


def generated_by(bundle: ModelIdentity | None = None) -> list[dict[str, Any]]:
    """List software and model for ``GeneratedBy`` of dataset_description.json."""
    software: dict[str, Any] = {'Name': SOFTWARE, 'Version': __version__}
    found = container()
    if found:
        software['Container'] = found
    if bundle is None:
        return [software]
    described = 'Model bundle: classifier and simulator.'
    if bundle.demonstration:
        described += ' ' + DEMONSTRATION_NOTE
    return [
        software,
        {'Name': bundle.name, 'Version': bundle.version_hash, 'Description': described},
    ]


def bids_uri(path: str | Path, out_dir: str | Path, roots: Mapping[str, str | Path]) -> str:
    """Name a file by the dataset it lies in.

    Parameters
    ----------
    path : path
        The file.
    out_dir : path
        Root of the output dataset; its own files become ``bids::...``.
    roots : mapping
        Link name -> root of every other dataset, e.g. ``{'raw': BIDS_DIR}``.

    Returns
    -------
    str
        ``bids:<link>:<path inside the dataset>``; of nested datasets the innermost counts.

    Raises
    ------
    ValueError
        If the file lies in none of the datasets.

    Examples
    --------
    >>> bids_uri('/in/sub-1/anat/sub-1_T1w.nii.gz', '/out', {'raw': '/in'})
    'bids:raw:sub-1/anat/sub-1_T1w.nii.gz'
    """
    absolute = Path(os.path.abspath(path))
    datasets = [('', Path(os.path.abspath(out_dir)))]
    datasets += [(name, Path(os.path.abspath(root))) for name, root in roots.items()]
    around = [(name, root) for name, root in datasets if absolute.is_relative_to(root)]
    if not around:
        raise ValueError(f'{path} lies in none of the known datasets.')
    name, root = max(around, key=lambda dataset: len(dataset[1].parts))
    return f'bids:{name}:{absolute.relative_to(root).as_posix()}'


def dataset_links(
    out_dir: str | Path, roots: Mapping[str, str | Path], dois: Mapping[str, str]
) -> dict[str, str]:
    """Say where linked datasets are, without telling the paths of this machine.

    A near dataset (at most two folders up from the output) is given by its relative path. A far
    one is given by its DOI, and only without a DOI by the longer relative path.

    Parameters
    ----------
    out_dir : path
        Root of the output dataset.
    roots : mapping
        Link name -> root of the dataset.
    dois : mapping
        Link name -> DOI of those datasets that have one.

    Returns
    -------
    dict
        ``DatasetLinks`` of dataset_description.json.

    Examples
    --------
    >>> dataset_links('/study/out', {'raw': '/study/bids'}, {})
    {'raw': '../bids'}
    >>> dataset_links('/a/b/c/out', {'raw': '/home/me/bids'}, {'raw': '10.1/x'})
    {'raw': 'doi:10.1/x'}
    """
    links = {}
    for name, root in roots.items():
        relative = Path(os.path.relpath(os.path.abspath(root), os.path.abspath(out_dir)))
        is_near = relative.parts[:3] != ('..', '..', '..')
        links[name] = relative.as_posix() if is_near or name not in dois else f'doi:{dois[name]}'
    return links
