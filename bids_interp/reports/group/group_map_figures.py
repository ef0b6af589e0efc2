"""Figures of group maps: mosaic, glass brain and interactive viewer."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_interp.reports.common.montage import Row, draw_rows, overlaid_tile
from bids_interp.reports.common.palette import DIVERGING, SignedScale
from bids_interp.reports.common.volumes import (
    PLANES,
    Volume,
    bounding_box,
    grey,
    load_volume,
    peak,
    put_onto,
    spread_slices,
)
from bids_interp.spatial.grid import Grid

#: Voxel size of mean maps in figures, in mm.
SPACING = 2.0
SLICES = {'axial': 8, 'coronal': 8, 'sagittal': 7}
#: Smallest change in the glass brain and the viewer.
SHOWN = 0.02


def load_mean(path: Path, space: str) -> tuple[Volume, np.ndarray]:
    """Read a mean map at display resolution, and the brain of the template on its grid."""
    volume = load_volume(path)
    step = max(1, round(SPACING / float(volume.grid.spacing.min())))
    affine = volume.grid.affine @ np.diag([step, step, step, 1.0])
    data = volume.data[::step, ::step, ::step]
    shape = (data.shape[0], data.shape[1], data.shape[2])
    shown = Volume(data, Grid(shape, affine, volume.grid.space))
    return shown, template_behind(space, shown)


def template_behind(space: str, like: Volume) -> np.ndarray:
    """Return the brain of the template on the grid of a map; zeros outside MNI spaces."""
    from bids_interp.anatomical.templates import brain_template
    from bids_interp.constants import EMBEDDED_TEMPLATE
    from bids_interp.errors import TemplateError

    if not space.startswith('MNI'):
        return np.zeros_like(like.data)
    try:
        image = brain_template(space)
    except TemplateError:  # another MNI brain is good enough as a background
        image = brain_template(EMBEDDED_TEMPLATE)
    return put_onto(np.asarray(image.dataobj), Grid.from_image(image), like)


def draw_mosaic(path: Path, mean: Volume, brain: np.ndarray, scale: SignedScale) -> Path:
    """Draw slices of a mean map over the template, including the strongest change."""
    inside = (brain > 0) if brain.any() else (mean.data != 0)
    box = bounding_box(inside, 3)
    inside, values, under = inside[box], mean.data[box] * inside[box], brain[box]
    grid = mean.crop(box).grid
    picture = 0.75 * grey(under, inside) * inside if under.any() else np.zeros_like(values)
    background, shown = Volume(picture.astype(np.float32), grid), Volume(values, grid)
    middle = peak(values)
    rows = []
    for plane, count in SLICES.items():
        tiles = []
        for index in spread_slices(inside, plane, count, middle[PLANES[plane]]):
            tile = overlaid_tile(background, shown, plane, index, scale)
            tiles.append(replace(tile, picture=tile.picture.repeat(2, 0).repeat(2, 1)))
        rows.append(Row('', tiles))
    return draw_rows(rows, path, scale)


def draw_glass(path: Path, mean: Volume, limit: float) -> Path:
    """Draw a mean map in a glass brain."""
    from nilearn import plotting

    from bids_interp.reports.common.montage import new_figure, write_bytes

    figure = new_figure(10.0, 2.7)
    plotting.plot_glass_brain(
        mean.grid.to_image(mean.data),
        threshold=SHOWN,
        vmax=limit,
        vmin=-limit,
        plot_abs=False,
        symmetric_cbar=True,
        colorbar=True,
        cmap=DIVERGING,
        display_mode='lyrz',
        figure=figure,
    )
    memory = io.BytesIO()
    figure.savefig(memory, format='png', dpi=150)
    return write_bytes(path, memory.getvalue())


def viewer_uri(mean: Volume, brain: np.ndarray, limit: float) -> str:
    """Return nilearn's interactive viewer as a data URI for an inline frame."""
    from nilearn import plotting

    image = mean.grid.to_image(mean.data)
    under: Any = mean.grid.to_image(brain) if brain.any() else False
    view = plotting.view_img(
        image,
        bg_img=under,
        threshold=SHOWN,
        vmax=limit,
        cmap=DIVERGING,
        symmetric_cmap=True,
        black_bg=True,
        resampling_interpolation='continuous',
        title='mean log-Jacobian',
        width_view=940,
    )
    # Its icon would be fetched from the network.
    text = re.sub(r'<link rel="icon"[^>]*>', '', view.get_standalone())
    page = base64.b64encode(_without_random_id(text).encode('utf-8')).decode()
    return f'data:text/html;charset=utf-8;base64,{page}'


def _without_random_id(page: str) -> str:
    """Replace the random name of nilearn's viewer, so that equal runs write equal reports.

    Examples
    --------
    >>> _without_random_id(f'<div id="div_viewer-{"0f" * 16}"> f({"0f" * 16})')
    '<div id="div_viewer-map"> f(map)'
    """
    for name in set(re.findall('div_viewer-([0-9a-f]{32})', page)):
        page = page.replace(name, 'map')
    return page


def draw_maps(
    folder: Path, maps: list[Mapping[str, Any]], space: str
) -> tuple[list[dict[str, Any]], str]:
    """Draw all mean maps, with one colour scale per dose.

    Returns
    -------
    list of dict, str
        Data URIs of the pictures of each map and group; data URI of the viewer of the first map.
    """
    from bids_interp.reports.common.sections import data_uri

    shown, frame = [], ''
    directions: set[str] = set()
    for one in maps:
        loaded = {
            group: load_mean(Path(files['mean']), space) for group, files in one['files'].items()
        }
        scale = SignedScale.fit(*(mean.data for mean, _ in loaded.values()))
        for index, (group, (mean, brain)) in enumerate(loaded.items()):
            stem = f'{one["name"]}{index}'
            mosaic = draw_mosaic(folder / f'{stem}_mosaic.png', mean, brain, scale)
            # All subjects at the largest dose of each direction are shown without a click.
            first = not group and one['name'][:-3] not in directions
            glass = draw_glass(folder / f'{stem}_glass.png', mean, scale.limit) if first else None
            shown.append(
                {
                    'name': one['name'],
                    'dose': f'{int(one["name"][-3:]) / 100:g}',
                    'first': first,
                    'group': group or 'all',
                    'n': one['n'][group],
                    'n_reliable': one['n_reliable'][group],
                    'share': 100 * one['n_reliable'][group] / max(one['n_voxels'], 1),
                    'mosaic': data_uri(mosaic),
                    'glass': data_uri(glass) if glass else '',
                }
            )
            frame = frame or viewer_uri(mean, brain, scale.limit)
        directions.add(one['name'][:-3])
    return shown, frame
