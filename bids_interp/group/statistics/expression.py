r"""Cross-fitted expression score: how much of a pattern an observed anatomy shows.

The score is measured on the observed anatomy, not on the explanation that a model gives of it. Let
:math:`w_i` be the map of the local volumes of subject *i* (logarithms, relative to the template,
from a deformable registration that knows neither model nor label), :math:`\bar w` a mean of such
maps and :math:`u` the velocity (mm) that injects the pattern. To first order injecting a dose *d*
changes the logarithms of volumes by :math:`d\,\delta` with

.. math:: \delta(p) = \nabla \cdot u(p).

The score is the coefficient of :math:`\delta` in the least-squares fit over the voxels of the brain

.. math:: w_i - \bar w = a + s_i\,\delta + e.

Its unit is the dose: a subject with 1 differs from the mean as the full pattern would change it.
The offset takes up what is left of head size.

What enters the score of subject *i*: the velocity is the mean over *other* subjects whom the same
folds explain, folds which were trained neither with them nor with *i*; the mean map is that of
subjects whom other folds explain (for new subjects, whom all folds explain: training subjects where
there are any, else the other new subjects). No label of anybody is used, so that a control group
does not pull the mean; another mean shifts all scores of a block by about one number, which the
model of the scores has an intercept for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.group.maps.map_reader import read_array, read_field
from bids_interp.group.scans import FURTHER, Scan
from bids_interp.spatial.grid import Grid

#: Voxels that at least this share of the maps cover are fitted.
SHARE_INSIDE = 0.9


@dataclass(frozen=True)
class Score:
    """Expression score of one image.

    Parameters
    ----------
    prefix : str
        The image.
    block : str
        Folds that explain it.
    value : float, optional
        The score in units of dose; None where it cannot be computed.
    fit : float, optional
        Share of the variance of the differences from the mean map that the pattern explains.
    reason : str
        Why there is no score.
    """

    prefix: str
    block: str
    value: float | None
    fit: float | None = None
    reason: str = ''


def divergence(velocity: np.ndarray, grid: Grid) -> np.ndarray:
    """Divergence (X, Y, Z) of a velocity (3, X, Y, Z) in mm: growth of volumes per dose.

    Examples
    --------
    >>> grid = Grid((4, 4, 4), np.diag([2.0, 2.0, -2.0, 1.0]))
    >>> swelling = 0.1 * grid.world_coordinates()
    >>> divergence(swelling, grid)[1, 1, 1].round(6).item()
    0.3
    """
    steps = np.stack([np.stack(np.gradient(part)) for part in np.asarray(velocity, np.float64)])
    return np.einsum('ij,jixyz->xyz', np.linalg.inv(grid.linear), steps)


def on_grid(volume: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Interpolate (X, Y, Z) linearly onto another grid of the same space; 0 outside."""
    if source.matches(target):
        return volume
    import torch

    from bids_interp.spatial import resample

    data = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    return resample(data, source, target)[0, 0].numpy()


def fit_score(volumes: np.ndarray, pattern: np.ndarray) -> tuple[float, float]:
    """Coefficient of a pattern in differences of volumes, and the share that it explains.

    Parameters
    ----------
    volumes : numpy.ndarray
        (V,) log-volumes of the subject minus those of the mean.
    pattern : numpy.ndarray
        (V,) of :func:`divergence`.

    Raises
    ------
    ImageError
        If the pattern changes no volumes but that of the whole.
    """
    volumes, pattern = (np.asarray(part, np.float64) for part in (volumes, pattern))
    observed, wanted = volumes - volumes.mean(), pattern - pattern.mean()
    power = float(wanted @ wanted)
    if power <= 1e-12 * max(float(pattern @ pattern), 1e-30):
        raise ImageError('The pattern does not change the volume of anything.')
    score = float(observed @ wanted) / power
    total = float(observed @ observed)
    return score, score**2 * power / total if total > 0 else 0.0


class _Sums:
    """Sums of volumes and patterns of each block, one entry per subject."""

    def __init__(self, scans: Sequence[Scan]) -> None:
        self.volumes: dict[str, np.ndarray] = {}
        self.patterns: dict[str, np.ndarray] = {}
        self.n: dict[str, int] = defaultdict(int)
        self.failed: dict[str, str] = {}
        self.subjects: dict[str, Scan] = {}
        self.brains = np.zeros(0)
        self.grid: Grid | None = None
        for scan in scans:
            self._add(scan)

    def _add(self, scan: Scan) -> None:
        try:
            volumes, pattern, grid = read_pair(scan)
            if self.grid is None:
                self.grid, self.brains = grid, np.zeros(grid.shape)
            elif not self.grid.matches(grid):
                raise ImageError(f'The anatomy of {scan.prefix} lies on another grid.')
        except ImageError as error:
            self.failed[scan.prefix] = error.message
            return
        block = scan.block
        zero = np.zeros(1)
        self.volumes[block] = self.volumes.get(block, zero) + volumes
        self.patterns[block] = self.patterns.get(block, zero) + pattern
        self.n[block] += 1
        self.brains = self.brains + (volumes != 0)
        self.subjects[scan.subject] = scan

    def mean_for(self, block: str, own: np.ndarray) -> np.ndarray:
        """Mean map for a subject of a block: of other blocks, else of the others in it."""
        others = [name for name in self.volumes if name != block]
        n = sum(self.n[name] for name in others)
        if n >= 2:
            return np.sum([self.volumes[name] for name in others], axis=0) / n
        return (self.volumes[block] - own) / (self.n[block] - 1)


def read_pair(scan: Scan) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Observed log-volumes and pattern of one subject, on the grid of the former.

    Raises
    ------
    ImageError
        If one is missing or damaged.
    """
    import nibabel as nib

    path, sign = scan.velocity, 1
    if path is None:
        # The displacement of the published method pulls the image back: tissue goes the other way.
        path, sign = scan.displacement, -1
    anatomy = scan.anatomy
    if anatomy is None or path is None:
        missing = 'simulated field' if anatomy else 'map of the anatomy'
        raise ImageError(
            f'The {missing} of {scan.prefix} is missing.', 'Run the participant level again.'
        )
    volumes, field = read_array(anatomy), read_field(path)
    if not (np.isfinite(volumes).all() and np.isfinite(field).all()):
        raise ImageError(f'Anatomy or field of {scan.prefix} hold values that are not finite.')
    grid, coarse = (Grid.from_image(nib.load(one), scan.space) for one in (anatomy, path))
    return volumes, sign * on_grid(divergence(field, coarse), coarse, grid), grid


def expression_scores(scans: Sequence[Scan]) -> list[Score]:
    """Score of every image that is in, and of further images of the same subjects.

    Two passes over small files; memory does not grow with their
    number.

    Parameters
    ----------
    scans : sequence of Scan
        Images that are in, and those left out as further images (:data:`FURTHER`).

    Returns
    -------
    list of Score
        In the order of the scans.
    """
    kept = [scan for scan in scans if scan.reason in ('', FURTHER)]
    sums = _Sums([scan for scan in kept if not scan.reason])
    if sums.grid is None:
        return [Score(s.prefix, s.block, None, reason=sums.failed.get(s.prefix, '')) for s in kept]
    inside = sums.brains >= SHARE_INSIDE * sum(sums.n.values())
    return [_score(scan, sums, inside) for scan in kept]


def _score(scan: Scan, sums: _Sums, inside: np.ndarray) -> Score:
    """Score of one image."""
    block = scan.block
    first = sums.subjects.get(scan.subject)
    if scan.prefix in sums.failed or first is None:
        return Score(scan.prefix, block, None, reason=sums.failed.get(scan.prefix, 'no pattern'))
    if first.block != block or sums.n[block] < 2:
        reason = 'nobody else is explained by the same folds, so that there is no pattern'
        return Score(scan.prefix, block, None, reason=reason)
    try:
        own, mine, _ = read_pair(first)
        volumes = own if scan.prefix == first.prefix else read_pair(scan)[0]
        pattern = (sums.patterns[block] - mine) / (sums.n[block] - 1)
        value, fit = fit_score((volumes - sums.mean_for(block, own))[inside], pattern[inside])
    except ImageError as error:
        return Score(scan.prefix, block, None, reason=error.message)
    return Score(scan.prefix, block, value, fit)


def standardised(
    scores: Sequence[float | None], blocks: Sequence[str], controls: Sequence[bool]
) -> tuple[list[float | None], float | None]:
    """Scores in standard deviations of the controls, about the controls' mean of each block.

    The standard deviation is pooled over the blocks. Controls are the negative class of the model
    where it is known, else everybody. Where a block has no control, its own mean is taken.

    Returns
    -------
    list of float or None, float or None
        Standardised scores; the standard deviation in units of dose, None with fewer than three
        controls.
    """
    values = np.array([np.nan if score is None else score for score in scores])
    names, chosen = np.asarray(blocks), np.asarray(controls, bool) & np.isfinite(values)
    centred, df = np.full_like(values, np.nan), 0
    for block in np.unique(names):
        inside = names == block
        reference = inside & (chosen if (inside & chosen).any() else np.isfinite(values))
        if reference.any():
            centred[inside] = values[inside] - values[reference].mean()
        df += max(int((inside & chosen).sum()) - 1, 0)
    if df < 2:
        return [None] * len(values), None
    sd = float(np.sqrt((centred[chosen] ** 2).sum() / df))
    if sd == 0:
        return [None] * len(values), None
    return [None if np.isnan(value) else float(value / sd) for value in centred], sd
