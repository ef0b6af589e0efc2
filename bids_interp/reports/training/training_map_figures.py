"""Figures of the mean maps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bids_interp.reports.common.palette import SignedScale
from bids_interp.reports.common.volumes import load_volume
from bids_interp.reports.group.group_map_figures import SPACING, draw_mosaic, template_behind

TITLES = {
    'inject': 'Pattern injected',
    'remove': 'Pattern removed',
    'weights': 'Audit: what moves the classifier most (not the disease)',
    'audit': 'Audit: simulators without transformations (not the disease)',
}


def draw_mean_maps(maps: Mapping[str, Path], space: str) -> list[dict[str, str]]:
    """Draw mean log-Jacobian maps over the template with one colour scale.

    Parameters
    ----------
    maps : mapping of str to path
        Maps on the grid of the model by name (``inject``, ``remove``, ``weights``, ``audit``).
    space : str
        Name of the template.

    Returns
    -------
    list of dict
        ``title`` and ``address`` (data URI) of each picture, in the order of the maps.
    """
    from bids_interp.reports.common.sections import data_uri

    volumes = {name: load_volume(path, SPACING) for name, path in maps.items()}
    if not volumes:
        return []
    scale = SignedScale.fit(*(volume.data for volume in volumes.values()))
    drawn = []
    with TemporaryDirectory() as folder:
        for name, volume in volumes.items():
            brain = template_behind(space, volume)
            picture = draw_mosaic(Path(folder) / f'{name}.png', volume, brain, scale)
            drawn.append({'title': TITLES.get(name, name), 'address': data_uri(picture)})
    return drawn
