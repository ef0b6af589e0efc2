"""Container that the program runs in, if any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: Files and variables that container runtimes create.
CONTAINER_FILES = ('/.dockerenv', '/run/.containerenv', '/.singularity.d')
CONTAINER_VARIABLES = ('APPTAINER_CONTAINER', 'SINGULARITY_CONTAINER', 'container')
#: Home folder of a user without one.
NO_HOME = Path('/nonexistent')


def container(environment: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Return the container that the program runs in, from its environment.

    Parameters
    ----------
    environment : mapping, optional
        Environment variables; by default, the variables of the process.
        ``BIDS_INTERP_CONTAINER_TAG`` is set in the image of the project.

    Returns
    -------
    dict or None
        ``Type`` and ``Tag`` as in BIDS; None outside of containers.

    Examples
    --------
    >>> container({'APPTAINER_NAME': 'bids_interp.sif'})
    {'Type': 'apptainer', 'Tag': 'bids_interp.sif'}
    """
    variables = os.environ if environment is None else environment
    tag = variables.get('BIDS_INTERP_CONTAINER_TAG')
    for kind in ('apptainer', 'singularity'):
        image = variables.get(f'{kind.upper()}_NAME')
        if image:
            return {'Type': kind, 'Tag': tag or Path(image).name}
    if tag:
        is_podman = variables.get('container') == 'podman'
        return {'Type': 'podman' if is_podman else 'docker', 'Tag': tag}
    return None


def in_container(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process appears to run in a container.

    Examples
    --------
    >>> in_container({'APPTAINER_CONTAINER': '/images/bids_interp.sif'})
    True
    """
    return any(environ.get(name) for name in CONTAINER_VARIABLES) or any(
        os.path.exists(path) for path in CONTAINER_FILES
    )


def bind_advice(path: Path, environment: Mapping[str, str] | None = None) -> str:
    """Return how to make a folder of the host visible; empty outside of containers.

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


def home_dir() -> Path:
    """Return the home folder; a user id without a name, as in a container, may have none."""
    try:
        return Path.home()
    except RuntimeError:
        return NO_HOME
