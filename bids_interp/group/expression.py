r"""Cross-fitted expression score: how much of a pattern an observed anatomy shows.

The score is measured on the observed image, not on the explanation that a model gives of it. Let
:math:`x_i` be the image of subject *i* as the classifier saw it (normalised intensities in template
space), :math:`m` a mean image and :math:`u` the velocity (mm) that injects the pattern. To first
order injecting a dose *d* into the mean image changes it by :math:`d\,\delta` with

.. math:: \delta(p) = -u(p) \cdot \nabla m(p).

The score is the coefficient of :math:`\delta` in the least-squares fit over the voxels of the mask

.. math:: x_i = a + b\,m + s_i\,\delta + \sum_j c_j\,g_j + e,

where the twelve :math:`g_j` are the first-order image changes of translations and linear maps,
which take up what is left of misalignment and of head size. Its unit is the dose: a subject with 1
differs from the mean image as the full pattern would change it.

What enters the score of subject *i*: the velocity is the mean over *other* subjects whom the same
folds explain, folds which were trained neither with them nor with *i*; the mean image is that of
subjects whom other folds explain (for new subjects, whom all folds explain: training subjects where
there are any, else the other new subjects). No label of anybody is used, so that a control group
does not pull the mean image; another mean image shifts all scores of a block by about one number,
which the model of the scores has an intercept for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bids_interp.errors import ImageError
from bids_interp.group.reading import read_array, read_field
from bids_interp.group.scans import FURTHER, Scan
from bids_interp.spatial.grid import Grid

#: Voxels inside at least this share of the brains are fitted.
SHARE_INSIDE = 0.9
#: Length in mm that linear maps are measured in, so that all columns are of like size.
SCALE_MM = 50.0


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
        Share of what offset, mean image and misalignment leave that the pattern explains.
    reason : str
        Why there is no score.
    """

    prefix: str
    block: str
    value: float | None
    fit: float | None = None
    reason: str = ''


def world_gradient(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Gradient (3, X, Y, Z) along world axes, per mm, of an image (X, Y, Z).

    Examples
    --------
    >>> grid = Grid((4, 4, 4), np.diag([2.0, 2.0, -2.0, 1.0]))
    >>> image = grid.world_coordinates()[2]
    >>> world_gradient(image, grid)[:, 1, 1, 1].round(6).tolist()
    [0.0, 0.0, 1.0]
    """
    steps = np.stack(np.gradient(np.asarray(image, np.float64)))
    return np.einsum('ij,ixyz->jxyz', np.linalg.inv(grid.linear), steps)


def nuisance(mean: np.ndarray, grid: Grid, inside: np.ndarray) -> np.ndarray:
    """Columns (V, 14): one, the mean image, and its first-order changes by linear maps."""
    gradient = world_gradient(mean, grid)[:, inside]
    points = grid.world_coordinates()[:, inside].astype(np.float64)
    points = (points - points.mean(axis=1, keepdims=True)) / SCALE_MM
    moves = [gradient, *(points[axis] * gradient for axis in range(3))]
    columns = [np.ones((1, gradient.shape[1])), mean[inside][None], *moves]
    return np.concatenate(columns).T


def predicted_change(
    mean: np.ndarray, velocity: np.ndarray, grid: Grid, inside: np.ndarray
) -> np.ndarray:
    """First-order change (V,) of a mean image by a velocity (3, X, Y, Z) in mm at dose 1."""
    return -(velocity[:, inside] * world_gradient(mean, grid)[:, inside]).sum(axis=0)


def fit_score(
    image: np.ndarray, basis: np.ndarray, change: np.ndarray, inside: np.ndarray
) -> tuple[float, float]:
    """Coefficient of the predicted change in an image, and the share that it explains.

    Parameters
    ----------
    image : numpy.ndarray
        (X, Y, Z) observed image.
    basis : numpy.ndarray
        (V, 14) orthonormal basis of :func:`nuisance`.
    change : numpy.ndarray
        (V,) of :func:`predicted_change`.
    inside : numpy.ndarray
        (X, Y, Z) bool.

    Raises
    ------
    ImageError
        If the change is nothing but misalignment.
    """
    observed = image[inside].astype(np.float64)
    observed = observed - basis @ (basis.T @ observed)
    left = change - basis @ (basis.T @ change)
    power = float(left @ left)
    if power <= 1e-12 * max(float(change @ change), 1e-30):
        raise ImageError('The pattern does not change the mean image.')
    score = float(observed @ left) / power
    total = float(observed @ observed)
    return score, score**2 * power / total if total > 0 else 0.0


class _Sums:
    """Sums of images and velocities of each block, one entry per subject."""

    def __init__(self, scans: Sequence[Scan]) -> None:
        self.images: dict[str, np.ndarray] = {}
        self.fields: dict[str, np.ndarray] = {}
        self.n: dict[str, int] = defaultdict(int)
        self.failed: dict[str, str] = {}
        self.subjects: dict[str, Scan] = {}
        self.brains = np.zeros(0)
        self.grid: Grid | None = None
        for scan in scans:
            self._add(scan)

    def _add(self, scan: Scan) -> None:
        try:
            image, field, grid = read_pair(scan)
            if self.grid is None:
                self.grid, self.brains = grid, np.zeros(grid.shape)
            elif not self.grid.matches(grid):
                raise ImageError(f'{scan.prefix} lies on another grid of the model.')
        except ImageError as error:
            self.failed[scan.prefix] = error.message
            return
        block = scan.block
        zero = np.zeros(1)
        self.images[block] = self.images.get(block, zero) + image
        self.fields[block] = self.fields.get(block, zero) + field
        self.n[block] += 1
        self.brains = self.brains + (np.abs(image) > 1e-6)
        self.subjects[scan.subject] = scan

    def without(self, block: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean image for a block; and, where it depends on the subject, its part left out."""
        others = [name for name in self.images if name != block]
        n = sum(self.n[name] for name in others)
        if n >= 2:
            return np.sum([self.images[name] for name in others], axis=0) / n, None
        return (self.images[block] - image) / (self.n[block] - 1), image


def read_pair(scan: Scan) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Observed image and injecting velocity of one subject on the grid of the model.

    Raises
    ------
    ImageError
        If one is missing or damaged, or they do not fit each other.
    """
    import nibabel as nib

    if scan.model_input is None or scan.velocity is None:
        missing = 'the velocity field' if scan.model_input else 'the input of the model'
        raise ImageError(f'{missing} of {scan.prefix} is missing.')
    image, field = read_array(scan.model_input), read_field(scan.velocity)
    if field.shape[1:] != image.shape:
        raise ImageError(f'Image and velocity of {scan.prefix} lie on different grids.')
    if not (np.isfinite(image).all() and np.isfinite(field).all()):
        raise ImageError(f'Image or velocity of {scan.prefix} hold values that are not finite.')
    return image, field, Grid.from_image(nib.load(scan.model_input), scan.space)


def expression_scores(scans: Sequence[Scan]) -> list[Score]:
    """Score of every image that is in, and of further images of the same subjects.

    Two passes over the small files on the grid of the model; memory does not grow with their
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
    prepared: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    return [_score(scan, sums, inside, prepared) for scan in kept]


def _score(
    scan: Scan,
    sums: _Sums,
    inside: np.ndarray,
    prepared: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Score:
    """Score of one image; means that a block shares are prepared once."""
    block, grid = scan.block, sums.grid
    first = sums.subjects.get(scan.subject)
    if scan.prefix in sums.failed or first is None or grid is None:
        return Score(scan.prefix, block, None, reason=sums.failed.get(scan.prefix, 'no pattern'))
    if first.block != block or sums.n[block] < 2:
        reason = 'nobody else is explained by the same folds, so that there is no pattern'
        return Score(scan.prefix, block, None, reason=reason)
    try:
        own, field, _ = read_pair(first)
        image = own if scan.prefix == first.prefix else read_pair(scan)[0]
        velocity = (sums.fields[block] - field) / (sums.n[block] - 1)
        mean, is_own = sums.without(block, own)
        if is_own is not None or block not in prepared:
            columns = np.linalg.qr(nuisance(mean, grid, inside))[0]
            prepared[block] = mean, columns
        mean, basis = prepared[block]
        change = predicted_change(mean, velocity, grid, inside)
        value, fit = fit_score(image, basis, change, inside)
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
