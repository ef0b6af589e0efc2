"""Pictures of the known-truth benchmark: truth and maps of all methods on the same slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bids_interp.bench.records import ScenarioRecord
from bids_interp.constants import DIRECTIONS, SALIENCY_METHODS
from bids_interp.reports.common.montage import Row, draw_rows, overlaid_tile
from bids_interp.reports.common.palette import SALIENCY_COLOURS, SignedScale
from bids_interp.reports.common.sections import data_uri
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
from bids_interp.saliency.maps import method_title
from bids_interp.spatial.mask import brain_voxels

#: Slices of each plane.
COUNTS = {'axial': 4, 'coronal': 3, 'sagittal': 2}
SUMMARY_COUNTS = {'axial': 3, 'coronal': 3, 'sagittal': 2}
#: Share of the brain at each end that is not shown.
TRIM = 0.28
#: Voxel size of the pictures in mm.
SPACING = 2.0
TITLES = {
    'truth': 'Truth, log-Jacobian',
    'ours': 'Ours, log-Jacobian',
    'otherseed': 'Ours from another seed, log-Jacobian',
    'ipmi2021': 'Preset ipmi2021, log-Jacobian',
    'exact': 'Exact volumes of the training images (scaled to the colours)',
    'tbm': 'Tensor-based morphometry, t (scaled to the colours)',
    'oracle': 'Exact changes, mixed with the subtype labels',
    'difference': 'Class-mean difference, size only (scaled)',
}
#: Maps with a sign but another unit.
SIGNED_METHODS = ('tbm', 'exact')
#: Log-Jacobian maps, which share the scale of the truth.
LOG_JACOBIANS = ('truth', 'ours', 'otherseed', 'ipmi2021', 'oracle')


def title_of(method: str) -> str:
    """Return the heading of a method.

    Examples
    --------
    >>> title_of('gradcam')
    'Grad-CAM, size only (scaled)'
    """
    if method in SALIENCY_METHODS:
        return f'{method_title(method)}, size only (scaled)'
    return TITLES[method]


@dataclass(frozen=True)
class _Maps:
    """Group maps of one direction of a scenario on the grid of the pictures."""

    brain: Volume
    inside: np.ndarray
    values: dict[str, np.ndarray]

    @classmethod
    def load(
        cls, out: Path, scores: ScenarioRecord, methods: Sequence[str], direction: str
    ) -> _Maps | None:
        """Load the available maps of the truth and of methods; None without any."""
        strength = '' if scores.strength == 'moderate' else scores.strength
        name = f'{scores.scenario}{strength}_seed-{scores.seed}'
        if not (out / 'maps' / f'{name}_brain.nii.gz').is_file():
            return None
        brain = load_volume(out / 'maps' / f'{name}_brain.nii.gz', SPACING)
        inside = brain_voxels(brain.data)
        box = bounding_box(inside, 2)
        brain, inside = brain.crop(box), inside[box]
        values = {}
        for method in dict.fromkeys(['truth', *methods]):
            path = out / 'maps' / f'{name}_{method}_{direction}.nii.gz'
            if path.is_file():
                coarse = load_volume(path)
                values[method] = put_onto(coarse.data, coarse.grid, brain) * inside
        return cls(brain, inside, values) if values else None

    @property
    def main(self) -> np.ndarray:
        """Map that determines slices and colours: the truth, or ours if nothing is planted."""
        return self.values.get('truth', self.values.get('ours', next(iter(self.values.values()))))

    def rows(self, scale: SignedScale, counts: Mapping[str, int], prefix: str = '') -> list[Row]:
        """Return one row of slices per map."""
        through = peak(self.main)
        shade = 0.75 * grey(self.brain.data, self.inside) * self.inside
        picture = Volume(shade, self.brain.grid)
        rows = []
        for method, values in self.values.items():
            own = scale
            if method not in LOG_JACOBIANS:
                limit = float(np.percentile(np.abs(values[self.inside]), 99.5)) or 1.0
                own = SignedScale(
                    limit, scale.colours if method in SIGNED_METHODS else SALIENCY_COLOURS
                )
            colours = Volume(values, self.brain.grid)
            tiles = []
            for plane, count in counts.items():
                axis = PLANES[plane]
                for index in spread_slices(self.inside, plane, count, through[axis], TRIM):
                    tiles.append(overlaid_tile(picture, colours, plane, index, own))
            rows.append(Row(prefix + title_of(method), tiles))
        return rows


def draw_scenario(
    out: Path, scores: ScenarioRecord, methods: Sequence[str]
) -> list[dict[str, str]]:
    """Draw the group maps of both directions into ``figures``.

    Parameters
    ----------
    out : pathlib.Path
        Folder with ``maps``.
    scores : ScenarioRecord
        Scores of the scenario and seed to draw.
    methods : sequence of str
        Methods in the order of the rows.

    Returns
    -------
    list of dict
        ``direction`` and ``address`` (a data URI) of each picture with maps.
    """
    pictures = []
    for direction in DIRECTIONS:
        maps = _Maps.load(out, scores, methods, direction)
        if maps is not None:
            scale = SignedScale.fit(maps.main)
            path = out / 'figures' / f'{scores.scenario}_{direction}.png'
            draw_rows(maps.rows(scale, COUNTS), path, scale)
            pictures.append({'direction': direction, 'address': data_uri(path)})
    return pictures


def draw_summary(
    out: Path, scores: Sequence[ScenarioRecord], rivals: Mapping[str, str | None]
) -> Path | None:
    """Draw the truth, our map, the best saliency method and ipmi2021 for every scenario.

    Parameters
    ----------
    out : pathlib.Path
        Folder with ``maps``; the picture is ``figures/summary.png``.
    scores : sequence of ScenarioRecord
        Scores of every scenario and seed; the first seed is drawn.
    rivals : mapping
        Best saliency method by scenario.

    Returns
    -------
    pathlib.Path or None
        The picture; None without maps.
    """
    found: dict[str, _Maps] = {}
    for one in scores:
        if one.null or one.scenario in found:
            continue
        rival = rivals.get(one.scenario)
        methods = ['ours', *([rival] if rival else []), 'ipmi2021']
        maps = _Maps.load(out, one, methods, 'inject')
        if maps is not None:
            found[one.scenario] = maps
    if not found:
        return None
    scale = SignedScale.fit(*(maps.main for maps in found.values()))
    rows = [
        row for name, maps in found.items() for row in maps.rows(scale, SUMMARY_COUNTS, f'{name}: ')
    ]
    return draw_rows(rows, out / 'figures' / 'summary.png', scale)
