"""Exploratory voxel-wise model of single subjects' maps on a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bids_interp.bids.read.participants import as_numbers
from bids_interp.errors import ImageError
from bids_interp.group.maps.map_reader import Places, read_map
from bids_interp.group.plan import GroupPlan
from bids_interp.group.statistics.design_matrix import MIN_DF, make_design
from bids_interp.group.statistics.glm import residuals
from bids_interp.spatial.grid import Grid

#: Maps are averaged to about this voxel size in mm: they are smooth, and memory is N x voxels.
SPACING = 3.0
#: Exchanges in one product of matrices; memory is this times columns times voxels.
BATCH = 20
#: Reason not to test maps that are the same for every subject of a block.
NO_DIFFERENCE = 'the maps of subjects whom the same folds explain do not differ (one template)'


def coarse_places(places: Places) -> tuple[Places, int]:
    """Places on a grid of every few voxels, and how many."""
    step = max(1, int(SPACING / float(places.grid.spacing.min()) + 1e-3))
    inside = places.inside[::step, ::step, ::step]
    affine = places.grid.affine @ np.diag([step, step, step, 1.0])
    shape = (inside.shape[0], inside.shape[1], inside.shape[2])
    return Places(Grid(shape, affine, places.grid.space), inside), step


def coarse_maps(plan: GroupPlan, name: str, places: Places) -> tuple[np.ndarray, list[str], Places]:
    """Maps (N, V) of the images that can be read, their prefixes, and where they lie.

    Memory: ``4 * N * V`` bytes, V about 70,000 at 3 mm.
    """
    from scipy.ndimage import uniform_filter

    coarse, step = coarse_places(places)
    rows, kept = [], []
    for scan in plan.included:
        try:
            volume = places.filled(read_map(scan, name, places))
        except ImageError:
            continue
        if step > 1:
            volume = uniform_filter(volume, step)
        rows.append(volume[::step, ::step, ::step][coarse.inside])
        kept.append(scan.prefix)
    return np.array(rows, np.float32), kept, coarse


def voxelwise_glm(
    plan: GroupPlan, name: str, column: str, places: Places
) -> tuple[dict[str, Any], dict[str, np.ndarray], Places]:
    """Regress maps on a number; group, other covariates and folds in the model; max-T over voxels.

    A group difference of explanation maps is not offered here, nor a test of their mean against
    zero: maps of one model are no independent observations. What a number explains of how they
    *differ* is exploratory. The group is in the model, lest a number that follows it brings such
    a difference in.

    Parameters
    ----------
    plan : GroupPlan
        The plan.
    name : str
        Direction and dose.
    column : str
        The number.
    places : Places
        Grid and mask of the maps.

    Returns
    -------
    dict, dict, Places
        What was done, with ``not_tested`` where it was not; (V,) maps ``t`` and ``p`` (corrected
        over voxels), ``tfce`` and ``tfcep`` where asked for; and where they lie.
    """
    values, kept, coarse = coarse_maps(plan, name, places)
    facts: dict[str, Any] = {'map': name, 'column': column, 'n': len(kept), 'not_tested': ''}
    blocks = {scan.prefix: scan.block for scan in plan.included}
    levels = [name for name in plan.columns.levels if name != column]
    beside = [c for c in (plan.columns.group, *plan.columns.chosen) if c and c != column]
    # The number comes last: what the others determine is not tested.
    variables: dict[str, Sequence[Any]] = {
        other: [plan.columns.values[other].get(prefix) for prefix in kept] for other in beside
    }
    variables[column] = [plan.columns.values[column].get(prefix) for prefix in kept]
    design = make_design(variables, [blocks[prefix] for prefix in kept], levels=levels)
    facts |= {
        'n': len(design.rows),
        'beside': [term.name for term in design.terms if term.name != column],
        'left_out': design.left_out,
        'missing': design.missing,
    }
    term = next((term for term in design.terms if term.name == column), None)
    df = len(design.rows) - design.matrix().shape[1]
    if term is None or term.levels or as_numbers([str(v) for v in variables[column]]) is None:
        reason = design.left_out.get(column, 'its values are no numbers')
        return {**facts, 'not_tested': f'{column}: {reason}'}, {}, coarse
    if df < MIN_DF:
        reason = f'{len(design.rows)} complete subjects are too few'
        return {**facts, 'not_tested': reason}, {}, coarse
    target = values[design.rows]
    if not _differ(target, design.blocks):
        reason = NO_DIFFERENCE
        return {**facts, 'not_tested': reason}, {}, coarse
    confounds, draws = design.matrix(column), plan.choices.permutations
    t, p = max_t(target, term.columns[:, 0], confounds, design.blocks, draws=draws, seed=plan.seed)
    maps = {'t': t, 'p': p}
    if plan.choices.tfce:
        from nilearn.mass_univariate import permuted_ols

        found = permuted_ols(
            term.columns,
            target,
            confounding_vars=confounds,
            model_intercept=False,
            n_perm=draws,
            two_sided_test=True,
            random_state=plan.seed,
            n_jobs=plan.choices.nprocs,
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
    """Return t of one variable in every voxel, and p corrected by the largest t of each exchange.

    The t values are those of nilearn's ``permuted_ols``. Residuals of the model without the
    variable are exchanged within blocks (Freedman and Lane), many exchanges in one product of
    matrices, which takes a tenth of the time.

    Parameters
    ----------
    values : numpy.ndarray
        (N, V) maps.
    tested : numpy.ndarray
        (N,) the variable.
    confounds : numpy.ndarray
        (N, P) the other columns, intercepts among them.
    blocks : numpy.ndarray
        (N,) who may be exchanged with whom.
    draws, seed : int
        Of the exchanges.

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
    # The observed order is one of all: p is never 0.
    ranked = np.sort(largest)
    reached = len(ranked) - np.searchsorted(ranked, np.abs(observed) * (1 - 1e-6))
    return observed, reached / len(ranked)


def _differ(values: np.ndarray, blocks: np.ndarray) -> bool:
    """Whether the maps of one block differ by more than rounding."""
    spread = max(float(np.ptp(values[blocks == b], axis=0).max()) for b in np.unique(blocks))
    return spread > 1e-4


def _masker(places: Places) -> Any:
    """Masker of nilearn: TFCE needs to know which voxels are neighbours."""
    import nibabel as nib
    from nilearn.maskers import NiftiMasker

    image = nib.Nifti1Image(places.inside.astype(np.uint8), places.grid.affine)
    return NiftiMasker(image).fit()
