"""Provenance of outputs: sources as BIDS URIs, software, container, model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from bids_interp.container import container
from bids_interp.version import __version__

SOFTWARE = 'bids_interp'
RAW_LINK = 'raw'

#: Words that identify the demonstration model in a dataset description.
DEMONSTRATION_MARK = 'demonstration model'
DEMONSTRATION_NOTE = (
    f'Made with the {DEMONSTRATION_MARK} of bids_interp, which was trained on simulated changes. '
    'The result shows how the software works; it says nothing about any disease or person.'
)


class ModelIdentity(Protocol):
    """Identity of a model, as recorded in sidecars."""

    @property
    def name(self) -> str:
        """Return the name of the model."""
        ...

    @property
    def version_hash(self) -> str:
        """Return the hash of weights and configuration."""
        ...

    @property
    def demonstration(self) -> bool:
        """Return whether the model only demonstrates the software."""
        ...


def model_fields(bundle: ModelIdentity) -> dict[str, Any]:
    """Return the sidecar fields that identify the model of an output.

    Parameters
    ----------
    bundle : ModelBundle
        Model with ``name``, ``version_hash`` and ``demonstration``.

    Returns
    -------
    dict
        ``ModelName``, ``ModelHash``, ``Demonstration``, and a note for a demonstration model.
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
    """Return the fields of every sidecar of a run: software, model (if any) and random seed."""
    return {
        'GeneratedBy': [{'Name': SOFTWARE, 'Version': __version__}],
        **({} if bundle is None else model_fields(bundle)),
        'RandomSeed': random_seed,
    }


def generated_by(bundle: ModelIdentity | None = None) -> list[dict[str, Any]]:
    """Return software and model for ``GeneratedBy`` of dataset_description.json."""
    software: dict[str, Any] = {'Name': SOFTWARE, 'Version': __version__}
    found = container()
    if found:
        software['Container'] = found
    if bundle is None:
        return [software]
    description = 'Model bundle: classifier and simulator.'
    if bundle.demonstration:
        description += ' ' + DEMONSTRATION_NOTE
    return [
        software,
        {'Name': bundle.name, 'Version': bundle.version_hash, 'Description': description},
    ]


def bids_uri(path: str | Path, out_dir: str | Path, roots: Mapping[str, str | Path]) -> str:
    """Return the BIDS URI of a file.

    Parameters
    ----------
    path : path
        File in one of the datasets.
    out_dir : path
        Root of the output dataset; its files become ``bids::...``.
    roots : mapping
        Root of every other dataset by link name, such as ``{'raw': BIDS_DIR}``.

    Returns
    -------
    str
        ``bids:<link>:<path inside the dataset>``, for the innermost of nested datasets.

    Raises
    ------
    ValueError
        If the file is not inside any of the datasets.

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
        raise ValueError(f'{path} is not inside any of the given datasets.')
    name, root = max(around, key=lambda dataset: len(dataset[1].parts))
    return f'bids:{name}:{absolute.relative_to(root).as_posix()}'


def dataset_links(
    out_dir: str | Path, roots: Mapping[str, str | Path], dois: Mapping[str, str]
) -> dict[str, str]:
    """Return links to the input datasets without absolute paths of this machine.

    A near dataset (at most two folders up from the output) is linked by its relative path, a more
    distant one by its DOI if it has one.

    Parameters
    ----------
    out_dir : path
        Root of the output dataset.
    roots : mapping
        Root of each dataset by link name.
    dois : mapping
        DOIs by link name, if available.

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
