"""Voxelwise model (exploratory) of the maps of single subjects on a numeric variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.errors import ImageError
from bids_interp.group.analysis import GroupAnalysis
from bids_interp.group.maps.map_reader import MaskedGrid, read_map
from bids_interp.group.statistics.design_matrix import MIN_DF, make_design_matrix
from bids_interp.group.statistics.glm import residuals
from bids_interp.spatial.grid import Grid

#: Approximate voxel size in mm of the averaged maps, which are smooth; limits memory.
SPACING = 3.0
#: Permutations per matrix product; memory grows with this times columns times voxels.
BATCH = 20
#: Reason for maps that are equal for all subjects of a block.
NO_DIFFERENCE = 'the maps of subjects explained by the same folds do not differ (one template)'


def coarsen(masked: MaskedGrid) -> tuple[MaskedGrid, int]:
    """Return grid and mask with every n-th voxel, and n."""
    step = max(1, int(SPACING / float(masked.grid.spacing.min()) + 1e-3))
    inside = masked.inside[::step, ::step, ::step]
    affine = masked.grid.affine @ np.diag([step, step, step, 1.0])
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    return MaskedGrid(Grid(shape, affine, masked.grid.space), inside), step


def coarse_maps(
    analysis: GroupAnalysis, name: str, masked: MaskedGrid
) -> tuple[np.ndarray, list[str], MaskedGrid]:
    """Read the coarse maps (N, V) of all readable images, with their prefixes, grid and mask.

    Memory: ``4 * N * V`` bytes, V about 70,000 at 3 mm.
    """
    from scipy.ndimage import uniform_filter

    coarse, step = coarsen(masked)
    rows, kept = [], []
    for scan in analysis.included:
        try:
            volume = masked.filled(read_map(scan, name, masked))
        except ImageError:
            continue
        if step > 1:
            volume = uniform_filter(volume, step)
        rows.append(volume[::step, ::step, ::step][coarse.inside])
        kept.append(scan.prefix)
    return np.array(rows, np.float32), kept, coarse


def voxelwise_glm(
    analysis: GroupAnalysis, name: str, column: str, masked: MaskedGrid
) -> tuple[dict[str, Any], dict[str, np.ndarray], MaskedGrid]:
    """Regress maps on a number, adjusted for group, covariates and folds, with max-T correction.

    Maps of one model are not independent observations, so neither group differences nor the mean
    are tested here. The regression explores how *differences* between maps relate to a number. The
    group is in the model, so that a correlated number does not introduce a group difference.

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
    blocks = {scan.prefix: scan.block for scan in analysis.included}
    levels = [name for name in analysis.columns.levels if name != column]
    adjusted = [c for c in (analysis.columns.group, *analysis.columns.chosen) if c and c != column]
    # The number comes last, so it is omitted if the other variables determine it.
    variables: dict[str, Sequence[Any]] = {
        other: [analysis.columns.values[other].get(prefix) for prefix in kept] for other in adjusted
    }
    variables[column] = [analysis.columns.values[column].get(prefix) for prefix in kept]
    design = make_design_matrix(variables, [blocks[prefix] for prefix in kept], levels=levels)
    facts |= {
        'n': len(design.rows),
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
    if not _differ(target, design.blocks):
        reason = NO_DIFFERENCE
        return {**facts, 'not_tested': reason}, {}, coarse
    confounds, draws = design.matrix(column), analysis.choices.permutations
    t, p = max_t(
        target, term.columns[:, 0], confounds, design.blocks, draws=draws, seed=analysis.seed
    )
    maps = {'t': t, 'p': p}
    if analysis.choices.tfce:
        from nilearn.mass_univariate import permuted_ols

        found = permuted_ols(
            term.columns,
            target,
            confounding_vars=confounds,
            model_intercept=False,
            n_perm=draws,
            two_sided_test=True,
            random_state=analysis.seed,
            n_jobs=analysis.choices.nprocs,
            masker=_masker(coarse),
            tfce=True,
            output_type='dict',
        )
        maps |= {'tfce': found['tfce'][0], 'tfcep': 10.0 ** -found['logp_max_tfce'][0]}
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
) -> tuple[np.ndarray, np.ndarray]:
    """Return t of one variable in every voxel, and p corrected by the largest |t| over voxels.

    The t values equal those of nilearn's ``permuted_ols``. Residuals of the model without the
    variable are permuted within blocks (Freedman and Lane). Many permutations are computed in one
    matrix product, which takes a tenth of the time.

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

    start = np.arange(len(tested))
    observed = t_of(start[None])[0]
    rng = np.random.default_rng(seed)
    largest = [float(np.abs(observed).max())]
    for done in range(0, draws, BATCH):
        orders = np.repeat(start[None], min(BATCH, draws - done), axis=0)
        for block in np.unique(blocks):
            inside = np.flatnonzero(blocks == block)
            orders[:, inside] = rng.permuted(orders[:, inside], axis=1)
        largest += np.abs(t_of(orders)).max(axis=1).tolist()
    # The observed order counts as a permutation, so p is never 0.
    ranked = np.sort(largest)
    reached = len(ranked) - np.searchsorted(ranked, np.abs(observed) * (1 - 1e-6))
    return observed, reached / len(ranked)


def _differ(values: np.ndarray, blocks: np.ndarray) -> bool:
    """Return whether the maps of any block differ by more than rounding."""
    spread = max(float(np.ptp(values[blocks == b], axis=0).max()) for b in np.unique(blocks))
    return spread > 1e-4


def _masker(masked: MaskedGrid) -> Any:
    """Return a nilearn masker, from which TFCE derives the neighbours of voxels."""
    import nibabel as nib
    from nilearn.maskers import NiftiMasker

    image = nib.Nifti1Image(masked.inside.astype(np.uint8), masked.grid.affine)
    return NiftiMasker(image).fit()
