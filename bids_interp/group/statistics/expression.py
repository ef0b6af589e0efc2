r"""Expression score (cross-fitted): how much of a pattern an observed anatomy shows.

The score is measured on the observed anatomy, not on its explanation by a model. Let :math:`w_i` be
the map of local log-volumes of subject *i* relative to the template (from a deformable registration
that uses neither model nor label), :math:`\bar w` a mean of such maps and :math:`u` the velocity
(mm) that injects the pattern. To first order, injecting a dose *d* changes the log-volumes by
:math:`d\,\delta` with

.. math:: \delta(p) = \nabla \cdot u(p).

The score is the coefficient of :math:`\delta` in a least-squares fit over the voxels of the brain,

.. math:: w_i - \bar w = a + s_i\,\delta + e.

Its unit is the dose: a subject with score 1 differs from the mean by the full pattern. The offset
absorbs residual differences in head size.

The score of subject *i* uses the mean velocity of *other* subjects that the same folds explain.
These folds were trained neither with them nor with *i*. The mean map is taken over subjects that
other folds explain (for new subjects, which all folds explain: training subjects if there are any,
otherwise the other new subjects). No labels are used, so the labels of tested subjects cannot
influence the mean. Another mean shifts all scores of a block by about the same number, which the
intercept of the model absorbs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.group.maps.map_reader import read_array, read_field
from bids_interp.group.scans import FURTHER, GroupScan
from bids_interp.spatial.grid import Grid

#: Reason for a score without a pattern.
NO_PATTERN = 'no other subject is explained by the same folds, so there is no pattern'
#: Minimum share of maps that must cover a voxel in the fit.
SHARE_INSIDE = 0.9


@dataclass(frozen=True)
class ExpressionScore:
    """Expression score of one image.

    Parameters
    ----------
    prefix : str
        Prefix of the image.
    block : str
        Folds that explain the image.
    value : float, optional
        Score in units of dose; None if it cannot be computed.
    fit : float, optional
        Share of the variance of the differences from the mean map explained by the pattern.
    reason : str
        Reason for a missing score.
    """

    prefix: str
    block: str
    value: float | None
    fit: float | None = None
    reason: str = ''


def divergence(velocity: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the divergence (X, Y, Z) of a velocity (3, X, Y, Z) in mm: log-volume per dose.

    Examples
    --------
    >>> grid = Grid((4, 4, 4), np.diag([2.0, 2.0, -2.0, 1.0]))
    >>> swelling = 0.1 * grid.world_coordinates()
    >>> divergence(swelling, grid)[1, 1, 1].round(6).item()
    0.3
    """
    steps = np.stack([np.stack(np.gradient(part)) for part in np.asarray(velocity, np.float64)])
    return np.einsum('ij,jixyz->xyz', np.linalg.inv(grid.linear), steps)


def interpolate(volume: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Interpolate a volume (X, Y, Z) linearly onto another grid of the same space; 0 outside."""
    if source.matches(target):
        return volume
    import torch

    from bids_interp.spatial import resample

    data = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    return resample(data, source, target)[0, 0].numpy()


def fit_score(volumes: np.ndarray, pattern: np.ndarray) -> tuple[float, float]:
    """Return the coefficient of a pattern in volume differences, and the explained variance.

    Parameters
    ----------
    volumes : numpy.ndarray
        (V,) log-volumes of the subject minus the mean.
    pattern : numpy.ndarray
        (V,) result of :func:`divergence`.

    Raises
    ------
    ImageError
        If the pattern changes no volume, or all volumes equally.
    """
    volumes, pattern = (np.asarray(part, np.float64) for part in (volumes, pattern))
    observed, wanted = volumes - volumes.mean(), pattern - pattern.mean()
    power = float(wanted @ wanted)
    if power <= 1e-12 * max(float(pattern @ pattern), 1e-30):
        raise ImageError('The pattern does not change any local volume.')
    score = float(observed @ wanted) / power
    total = float(observed @ observed)
    return score, score**2 * power / total if total > 0 else 0.0


class _Sums:
    """Sums of volumes and patterns over the subjects of each block."""

    def __init__(self, scans: Sequence[GroupScan]) -> None:
        self.volumes: dict[str, np.ndarray] = {}
        self.patterns: dict[str, np.ndarray] = {}
        self.n: dict[str, int] = defaultdict(int)
        self.failed: dict[str, str] = {}
        self.subjects: dict[str, GroupScan] = {}
        self.brains = np.zeros(0)
        self.grid: Grid | None = None
        for scan in scans:
            self._add(scan)

    def _add(self, scan: GroupScan) -> None:
        try:
            volumes, pattern, grid = read_volumes_and_pattern(scan)
            if self.grid is None:
                self.grid, self.brains = grid, np.zeros(grid.shape)
            elif not self.grid.matches(grid):
                raise ImageError(f'The anatomy map of {scan.prefix} is on another grid.')
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
        """Return the mean map for a subject: over other blocks, else over its block without it."""
        others = [name for name in self.volumes if name != block]
        n = sum(self.n[name] for name in others)
        if n >= 2:
            return np.sum([self.volumes[name] for name in others], axis=0) / n
        return (self.volumes[block] - own) / (self.n[block] - 1)


def read_volumes_and_pattern(scan: GroupScan) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Read observed log-volumes and pattern of one subject, on the grid of the former.

    Raises
    ------
    ImageError
        If a file is missing or damaged.
    """
    import nibabel as nib

    path, sign = scan.velocity, 1
    if path is None:
        # The published method gives the displacement for resampling; tissue moves the other way.
        path, sign = scan.displacement, -1
    anatomy = scan.anatomy
    if anatomy is None or path is None:
        missing = 'simulated field' if anatomy else 'anatomy map'
        raise ImageError(
            f'The {missing} of {scan.prefix} is missing.', 'Run the participant level again.'
        )
    volumes, field = read_array(anatomy), read_field(path)
    if not (np.isfinite(volumes).all() and np.isfinite(field).all()):
        raise ImageError(
            f'Anatomy map or field of {scan.prefix} contains values that are not finite.'
        )
    grid, coarse = (Grid.from_image(nib.load(one), scan.space) for one in (anatomy, path))
    return volumes, sign * interpolate(divergence(field, coarse), coarse, grid), grid


def expression_scores(scans: Sequence[GroupScan]) -> list[ExpressionScore]:
    """Return the scores of all included images, and of further images of the same subjects.

    The files are small and read twice, so that memory does not grow with their number.

    Parameters
    ----------
    scans : sequence of GroupScan
        Included images, and those excluded as further images (:data:`FURTHER`).

    Returns
    -------
    list of Score
        Scores in the order of the scans.
    """
    kept = [scan for scan in scans if scan.reason in ('', FURTHER)]
    sums = _Sums([scan for scan in kept if not scan.reason])
    if sums.grid is None:
        return [
            ExpressionScore(s.prefix, s.block, None, reason=sums.failed.get(s.prefix, ''))
            for s in kept
        ]
    inside = sums.brains >= SHARE_INSIDE * sum(sums.n.values())
    return [_score(scan, sums, inside) for scan in kept]


def _score(scan: GroupScan, sums: _Sums, inside: np.ndarray) -> ExpressionScore:
    """Return the score of one image."""
    block = scan.block
    first = sums.subjects.get(scan.subject)
    if scan.prefix in sums.failed or first is None:
        return ExpressionScore(
            scan.prefix, block, None, reason=sums.failed.get(scan.prefix, 'no pattern')
        )
    if first.block != block or sums.n[block] < 2:
        return ExpressionScore(scan.prefix, block, None, reason=NO_PATTERN)
    try:
        own, mine, _ = read_volumes_and_pattern(first)
        volumes = own if scan.prefix == first.prefix else read_volumes_and_pattern(scan)[0]
        pattern = (sums.patterns[block] - mine) / (sums.n[block] - 1)
        value, fit = fit_score((volumes - sums.mean_for(block, own))[inside], pattern[inside])
    except ImageError as error:
        return ExpressionScore(scan.prefix, block, None, reason=error.message)
    return ExpressionScore(scan.prefix, block, value, fit)


def standardise(
    scores: Sequence[float | None], blocks: Sequence[str], controls: Sequence[bool]
) -> tuple[list[float | None], float | None]:
    """Standardise scores by the mean of the controls of each block and their pooled deviation.

    Controls are the negative class of the model if available, else all subjects. A block without
    controls uses its own mean.

    Returns
    -------
    list of float or None, float or None
        Standardised scores, and the standard deviation in units of dose; None for too few
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
