"""The container that the program runs in, if any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def container(environment: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Name the container that the program runs in, from its environment.

    Parameters
    ----------
    environment : mapping, optional
        Environment variables; those of the process by default. ``BIDS_INTERP_CONTAINER_TAG`` is
        set inside the project's image.

    Returns
    -------
    dict or None
        ``Type`` and ``Tag`` as BIDS has them; None outside of containers.

    Examples
    --------
    >>> container({'APPTAINER_NAME': 'bids_interp.sif'})
    {'Type': 'apptainer', 'Tag': 'bids_interp.sif'}
    """
    known = os.environ if environment is None else environment
    tag = known.get('BIDS_INTERP_CONTAINER_TAG')
    for kind in ('apptainer', 'singularity'):
        image = known.get(f'{kind.upper()}_NAME')
        if image:
            return {'Type': kind, 'Tag': tag or Path(image).name}
    if tag:
        is_podman = known.get('container') == 'podman'
        return {'Type': 'podman' if is_podman else 'docker', 'Tag': tag}
    return None


def bind_advice(path: Path, environment: Mapping[str, str] | None = None) -> str:
    """Say how a container sees a folder of the host; empty outside of containers.

    Examples
    --------
    >>> bind_advice(Path('/bids'), {'APPTAINER_NAME': 'bids_interp.sif'})
    'A container sees only folders that are bound: apptainer run --bind HOST_FOLDER:/bids ...'
    >>> bind_advice(Path('/bids'), {})
    ''
    """
    found = container(environment)
    if found is None:
        return ''
    kind = found['Type']
    option = '--bind' if kind in ('apptainer', 'singularity') else '-v'
    return (
        f'A container sees only folders that are bound: {kind} run {option} HOST_FOLDER:{path} ...'
    )
