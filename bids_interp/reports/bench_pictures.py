"""Pictures of the known-truth benchmark: the truth and every method on the same slices."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.evaluation.saliency import method_title
from bids_interp.reports.assemble import data_uri
from bids_interp.reports.montage import Row, Tile, draw_rows, sides_of
from bids_interp.reports.palette import SALIENCY_COLOURS, SignedScale
from bids_interp.reports.volumes import (
    PLANES,
    Volume,
    bounding_box,
    brain_voxels,
    grey,
    load_volume,
    peak,
    put_onto,
    spread_slices,
)
from bids_interp.settings import SALIENCY_METHODS

#: Slices of each plane.
COUNTS = {'axial': 4, 'coronal': 3, 'sagittal': 2}
#: Nothing happens near the ends of the brain.
TRIM = 0.28
#: Voxel size of the pictures in mm; the maps are coarser.
SPACING = 2.0
TITLES = {
    'truth': 'Truth, log-Jacobian',
    'ours': 'Ours, log-Jacobian',
    'otherseed': 'Ours from another seed, log-Jacobian',
    'ipmi2021': 'Preset ipmi2021, log-Jacobian',
    'exact': 'Exact volumes of the training images (scaled to the colours)',
    'tbm': 'Tensor-based morphometry, t (scaled to the colours)',
    'difference': 'Class-mean difference, size only (scaled)',
}
#: Maps whose values are log-Jacobians and share the scale of the truth.
LOG_JACOBIANS = ('truth', 'ours', 'otherseed', 'ipmi2021')


def title_of(method: str) -> str:
    """Heading of the row of a method.

    Examples
    --------
    >>> title_of('gradcam')
    'Grad-CAM, size only (scaled)'
    """
    if method in SALIENCY_METHODS:
        return f'{method_title(method)}, size only (scaled)'
    return TITLES[method]


def draw_scenario(
    out: Path, scores: Mapping[str, Any], methods: Sequence[str]
) -> list[dict[str, str]]:
    """Draw the group maps of both directions.

    Parameters
    ----------
    out : pathlib.Path
        Folder with ``maps``.
    scores : mapping
        Of the scenario and seed that is drawn.
    methods : sequence of str
        In the order of the rows.

    Returns
    -------
    list of dict
        ``direction`` and ``address`` (a data URI) of each picture; none for maps that are not
        there.
    """
    strength = '' if scores['strength'] == 'moderate' else scores['strength']
    prefix = out / 'maps' / f'{scores["scenario"]}{strength}_seed-{scores["seed"]}'
    if not prefix.with_name(f'{prefix.name}_brain.nii.gz').is_file():
        return []
    brain = load_volume(prefix.with_name(f'{prefix.name}_brain.nii.gz'), SPACING)
    inside = brain_voxels(brain.data)
    box = bounding_box(inside, 2)
    brain, inside = brain.crop(box), inside[box]
    pictures = []
    with tempfile.TemporaryDirectory(prefix='bids_interp-') as folder:
        for direction in ('inject', 'remove'):
            maps = {}
            for method in dict.fromkeys(['truth', *methods]):
                path = prefix.with_name(f'{prefix.name}_{method}_{direction}.nii.gz')
                if path.is_file():
                    coarse = load_volume(path)
                    maps[method] = put_onto(coarse.data, coarse.grid, brain) * inside
            if maps:
                path = _draw(maps, brain, inside, Path(folder) / f'{direction}.png')
                pictures.append({'direction': direction, 'address': data_uri(path)})
    return pictures


def _draw(maps: Mapping[str, np.ndarray], brain: Volume, inside: np.ndarray, path: Path) -> Path:
    first = maps.get('truth', next(iter(maps.values())))
    scale = SignedScale.fit(maps['truth'] if 'truth' in maps else maps.get('ours', first))
    through = peak(first)
    picture = Volume(0.75 * grey(brain.data, inside) * inside, brain.grid)
    rows = []
    for method, values in maps.items():
        own = scale
        if method not in LOG_JACOBIANS:
            limit = float(np.percentile(np.abs(values[inside]), 99.5)) or 1.0
            own = SignedScale(
                limit, scale.colours if method in ('tbm', 'exact') else SALIENCY_COLOURS
            )
        colours = Volume(values, brain.grid)
        tiles = []
        for plane, count in COUNTS.items():
            for index in spread_slices(inside, plane, count, through[PLANES[plane]], TRIM):
                cut = own.over(picture.cut(plane, index), colours.cut(plane, index))
                text = f'{"xyz"[PLANES[plane]]} = {brain.position(plane, index):.0f}'
                tiles.append(Tile(cut, text, sides_of(plane)))
        rows.append(Row(title_of(method), tiles))
    return draw_rows(rows, path, scale)
