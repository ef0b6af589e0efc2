"""Voxelwise model (exploratory) of the maps of single subjects on a numeric variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.constants import COMMON_SHARE
from bids_interp.errors import ImageError, UsageError
from bids_interp.evaluation.exchange import exchange_orders
from bids_interp.evaluation.personal_share import (
    ROUNDING_SHARE,
    personal_share,
    typical_share,
)
from bids_interp.group.analysis import GroupAnalysis
from bids_interp.group.maps.map_reader import (
    MaskedGrid,
    find_masked_grid,
    own_mask,
    read_map,
)
from bids_interp.group.statistics.design_matrix import MIN_DF, make_design_matrix
from bids_interp.group.statistics.glm import added_basis, null_spread, residuals
from bids_interp.group.statistics.learned_labels import learned_directions
from bids_interp.spatial.grid import Grid

#: Approximate voxel size in mm of the averaged maps, which are smooth; limits memory.
SPACING = 3.0
#: Permutations per matrix product; memory grows with this times columns times voxels.
BATCH = 20
#: Reason for maps that are equal for all subjects of a block.
NO_DIFFERENCE = (
    'the maps of subjects explained by the same folds do not differ by more than rounding: they '
    'are the common pattern of the model'
)
#: Number of images that are read before the run to see whether their maps differ.
CHECKED = 40


def coarsen(masked: MaskedGrid) -> tuple[MaskedGrid, int]:
    """Return grid and mask with every n-th voxel, and n."""
    step = max(1, int(SPACING / float(masked.grid.spacing.min()) + 1e-3))
    inside = masked.inside[::step, ::step, ::step]
    affine = masked.grid.affine @ np.diag([step, step, step, 1.0])
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    return MaskedGrid(Grid(shape, affine, masked.grid.space), inside), step


def check_maps_differ(analysis: GroupAnalysis, name: str) -> None:
    """Refuse a voxel-wise model of maps that do not differ between people.

    Parameters
    ----------
    analysis : GroupAnalysis
        Requested analysis; the maps of its first :data:`CHECKED` images are read.
    name : str
        Direction and dose of the maps.

    Raises
    ------
    UsageError
        If the maps differ by less than :data:`ROUNDING_SHARE`.
    """
    masked = find_masked_grid(analysis.included)
    values, kept, _ = coarse_maps(analysis, name, masked, CHECKED)
    blocks = {scan.prefix: scan.block for scan in analysis.included}
    share = typical_share(personal_share(values, np.array([blocks[prefix] for prefix in kept])))
    if share is not None and share < ROUNDING_SHARE:
        columns = ' '.join(analysis.choices.voxelwise)
        raise UsageError(
            f'--voxelwise {columns}: {NO_DIFFERENCE} (personal share {share:.2g}).',
            'Test the variable on the expression score instead (--covariates COLUMN...), or train '
            'a model whose maps depend on the person.',
        )


def coarse_maps(
    analysis: GroupAnalysis, name: str, masked: MaskedGrid, count: int | None = None
) -> tuple[np.ndarray, list[str], MaskedGrid]:
    """Read the coarse maps (N, V) of all (or the first) images, with prefixes, grid and mask.

    The mask has the voxels around which every map lies inside its brain: maps are 0 outside, so at
    the border the size of the brains alone would make them differ.

    Memory: ``4 * N * V`` bytes, V about 70,000 at 3 mm.
    """
    from scipy.ndimage import minimum_filter, uniform_filter

    coarse, step = coarsen(masked)
    rows, kept = [], []
    shared = coarse.inside.copy()
    for scan in analysis.included[:count]:
        try:
            volume = masked.filled(read_map(scan, name, masked))
        except ImageError:
            continue
        if step > 1:
            volume = uniform_filter(volume, step)
        rows.append(volume[::step, ::step, ::step][coarse.inside])
        kept.append(scan.prefix)
        own = own_mask(scan, masked.grid)
        if own is not None:
            shared &= minimum_filter(own, step)[::step, ::step, ::step]
    values = np.array(rows, np.float32).reshape(len(rows), int(coarse.inside.sum()))
    return values[:, shared[coarse.inside]], kept, MaskedGrid(coarse.grid, shared)


def voxelwise_glm(
    analysis: GroupAnalysis, name: str, column: str, masked: MaskedGrid
) -> tuple[dict[str, Any], dict[str, np.ndarray], MaskedGrid]:
    """Regress maps on a number, adjusted for group, covariates and folds, with max-T correction.

    Maps of one model are not independent observations, so neither group differences nor the mean
    are tested here. The regression explores how *differences* between maps relate to a number. The
    group is in the model, so that a correlated number does not introduce a group difference. A
    number that follows the label of training subjects is tested against a wider null distribution,
    like an effect on the score (:func:`bids_interp.group.statistics.glm.freedman_lane`). The maps
    are given, so the largest t controls the error over voxels strongly (subset pivotality).

    Parameters
    ----------
    analysis : GroupAnalysis
        Requested analysis.
    name : str
        Direction and dose of the maps.
    column : str
        Column of the numeric variable.
    masked : MaskedGrid
        Grid and mask of the maps.

    Returns
    -------
    dict, dict, Places
        Summary of the test, with the reason in ``not_tested``; (V,) maps ``t`` and ``p``
        (corrected over voxels), and ``tfce`` and ``tfcep`` if requested; their grid and mask.
    """
    values, kept, coarse = coarse_maps(analysis, name, masked)
    facts: dict[str, Any] = {'map': name, 'column': column, 'n': len(kept), 'not_tested': ''}
    scans = {scan.prefix: scan for scan in analysis.included}
    subjects = [scans[prefix].subject for prefix in kept]
    levels = [name for name in analysis.columns.levels if name != column]
    adjusted = [c for c in (analysis.columns.group, *analysis.columns.chosen) if c and c != column]
    # The number comes last, so it is omitted if the other variables determine it.
    variables: dict[str, Sequence[Any]] = {
        other: [analysis.columns.values[other].get(prefix) for prefix in kept] for other in adjusted
    }
    variables[column] = [analysis.columns.values[column].get(prefix) for prefix in kept]
    design = make_design_matrix(
        variables,
        [scans[prefix].block for prefix in kept],
        families=[analysis.columns.of_family(subject) for subject in subjects],
        levels=levels,
    )
    share = typical_share(personal_share(values[design.rows], design.blocks))
    facts |= {
        'n': len(design.rows),
        'personal_share': share,
        'common': share is not None and share < COMMON_SHARE,
        'ErrorControl': 'strong (largest t over voxels)',
        'beside': [term.name for term in design.terms if term.name != column],
        'left_out': design.left_out,
        'missing': design.missing,
    }
    term = next((term for term in design.terms if term.name == column), None)
    df = len(design.rows) - design.matrix().shape[1]
    if term is None or term.levels or as_numbers([str(v) for v in variables[column]]) is None:
        reason = design.left_out.get(column, 'its values are not numeric')
        return {**facts, 'not_tested': f'{column}: {reason}'}, {}, coarse
    if df < MIN_DF:
        reason = f'{len(design.rows)} complete subjects are too few'
        return {**facts, 'not_tested': reason}, {}, coarse
    target = values[design.rows]
    if share is None or share < ROUNDING_SHARE:
        return {**facts, 'not_tested': NO_DIFFERENCE}, {}, coarse
    confounds, draws = design.matrix(column), analysis.choices.permutations
    learned = learned_directions(analysis, [subjects[row] for row in design.rows])
    facts['spread'] = null_spread(added_basis(confounds, design.matrix()), learned)
    how: dict[str, Any] = {
        'draws': draws,
        'seed': analysis.seed,
        'families': design.families,
        'spread': facts['spread'],
    }
    t, p = max_t(target, term.columns[:, 0], confounds, design.blocks, **how)
    maps = {'t': t, 'p': p}
    if analysis.choices.tfce:
        enhanced, corrected = max_tfce(
            target,
            term.columns[:, 0],
            confounds,
            design.blocks,
            coarse,
            nprocs=analysis.choices.nprocs,
            **how,
        )
        maps |= {'tfce': enhanced, 'tfcep': corrected}
    facts['least_p'] = float(maps['p'].min())
    facts['voxels_below_005'] = int((maps['p'] < 0.05).sum())
    return facts, maps, coarse


def max_t(
    values: np.ndarray,
    tested: np.ndarray,
    confounds: np.ndarray,
    blocks: np.ndarray,
    *,
    draws: int,
    seed: int,
    families: np.ndarray | None = None,
    spread: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return t of one variable in every voxel, and p corrected by the largest |t| over voxels.

    Without spread, nilearn's ``permuted_ols`` gives the same t values. Residuals of the model
    without the variable are permuted within blocks (Freedman and Lane). Many permutations are
    computed in one matrix product, which takes a tenth of the time.

    Parameters
    ----------
    values : numpy.ndarray
        (N, V) maps.
    tested : numpy.ndarray
        (N,) tested variable.
    confounds : numpy.ndarray
        (N, P) other columns, including intercepts.
    blocks : numpy.ndarray
        (N,) exchangeability block of each subject.
    draws, seed : int
        Number of permutations, and random seed.
    families : numpy.ndarray, optional
        (N,) families, which are exchanged as wholes [default: one per subject].
    spread : float
        Factor on the standard deviation of the null distribution, which divides the observed t.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (V,) t; (V,) two-sided p, corrected over voxels.
    """
    basis = np.linalg.qr(confounds)[0]
    own = tested - basis @ (basis.T @ tested)
    own = own / np.linalg.norm(own)
    rows = np.column_stack([own, basis]).T.astype(np.float32)
    df = len(tested) - confounds.shape[1] - 1
    left = residuals(values.astype(np.float64), confounds).astype(np.float32)
    power = (left**2).sum(axis=0)
    left[:, power <= 1e-12] = 0

    def t_of(orders: np.ndarray) -> np.ndarray:
        """Return t (draws, V) of orders (draws, N) of the residuals."""
        moved = np.stack([rows[:, np.argsort(order)] for order in orders])
        found = (moved.reshape(-1, len(tested)) @ left).reshape(*moved.shape[:2], -1)
        rest = power - (found[:, 1:] ** 2).sum(axis=1)
        along = found[:, 0]
        return np.asarray(
            along * np.sqrt(df / np.maximum(rest - along**2, 1e-6 * np.maximum(power, 1e-12)))
        )

    observed = t_of(np.arange(len(tested))[None])[0] / spread
    kin = np.arange(len(tested)) if families is None else families
    rng = np.random.default_rng(seed)
    largest = [float(np.abs(observed).max())]
    for done in range(0, draws, BATCH):
        orders = exchange_orders(kin, blocks, rng, min(BATCH, draws - done))
        largest += np.abs(t_of(orders)).max(axis=1).tolist()
    return observed, _corrected(observed, largest)


def max_tfce(
    values: np.ndarray,
    tested: np.ndarray,
    confounds: np.ndarray,
    blocks: np.ndarray,
    masked: MaskedGrid,
    *,
    draws: int,
    seed: int,
    families: np.ndarray | None = None,
    spread: float = 1.0,
    nprocs: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return threshold-free cluster enhancement of t, and p corrected by its largest value.

    nilearn permutes all subjects freely, so only the enhancement is nilearn's; the residuals are
    permuted as in :func:`max_t`, whose parameters these are.

    Parameters
    ----------
    values, tested, confounds, blocks, draws, seed, families, spread
        See :func:`max_t`.
    masked : MaskedGrid
        Grid and mask of the maps.
    nprocs : int
        Number of processes.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        (V,) enhanced t; (V,) two-sided p, corrected over voxels.
    """
    from sklearn.utils.parallel import Parallel, delayed

    left, masker = residuals(values.astype(np.float64), confounds), _masker(masked)
    start = np.arange(len(tested))
    kin = start if families is None else families
    orders = exchange_orders(kin, blocks, np.random.default_rng(seed), draws)
    # Enhanced values grow with the square of t.
    observed = _enhanced(left, start, tested, confounds, masker) / spread**2
    largest = Parallel(n_jobs=nprocs)(
        delayed(_largest_enhanced)(left, order, tested, confounds, masker) for order in orders
    )
    return observed, _corrected(observed, [float(np.abs(observed).max()), *largest])


def _enhanced(
    left: np.ndarray, order: np.ndarray, tested: np.ndarray, confounds: np.ndarray, masker: Any
) -> np.ndarray:
    from nilearn.mass_univariate import permuted_ols

    found = permuted_ols(
        tested[:, None],
        left[order],
        confounding_vars=confounds,
        model_intercept=False,
        n_perm=0,
        two_sided_test=True,
        masker=masker,
        tfce=True,
        output_type='dict',
    )
    return np.asarray(found['tfce'][0])


def _largest_enhanced(*arguments: Any) -> float:
    return float(np.abs(_enhanced(*arguments)).max())


def _corrected(observed: np.ndarray, largest: Sequence[float]) -> np.ndarray:
    """Return the share of the largest values that reach each observed one.

    The observed order counts as a permutation, so p is never 0.
    """
    ranked = np.sort(largest)
    reached = len(ranked) - np.searchsorted(ranked, np.abs(observed) * (1 - 1e-6))
    return np.asarray(reached / len(ranked))


def _masker(masked: MaskedGrid) -> Any:
    """Return a nilearn masker, from which TFCE derives the neighbours of voxels."""
    import nibabel as nib
    from nilearn.maskers import NiftiMasker

    image = nib.Nifti1Image(masked.inside.astype(np.uint8), masked.grid.affine)
    return NiftiMasker(image).fit()
