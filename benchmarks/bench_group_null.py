"""Null benchmark of the group level: false positives of the expression score tests.

    python benchmarks/bench_group_null.py [--cohorts 400] [--subjects 60] [--folds 5]

Every cohort consists of small phantoms (16 voxels per side): random maps of local volumes, with
random labels. Instead of a trained classifier and simulator each fold has the velocity whose
divergence is the difference between the classes of its training subjects; no model of this size
could learn the labels better. The program itself (``bids_interp.group.statistics``) computes the
scores and the tests. Neither labels nor covariates have anything to do with the brains.

Prints how often p is below 0.05, with the widening of the null distribution and without it, for
covariates that follow the learned label with several correlations: a number alone in the model, the
label beside it, and a site with three levels. The second half of the cohorts consists of families
of one to four who resemble each other, have the same label and stay in the same fold. There, the
table also has the rates if siblings count as independent. Exit code 1 if a rate of the program
exceeds the 99 % binomial limit of 5 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy import stats
from scipy.ndimage import gaussian_filter

from bids_interp.group.statistics.design_matrix import DesignMatrix, make_design_matrix
from bids_interp.group.statistics.expression import divergence, fit_score
from bids_interp.group.statistics.glm import fit_terms
from bids_interp.spatial.grid import Grid
from bids_interp.spatial.poisson import gradient_velocity

SIZE = 16
#: Correlations of covariates with the label.
FOLLOWED = (0.0, 0.5, 0.9, 1.0)
#: Share of the anatomical variance that siblings have in common.
SHARED = 0.7
PROGRAM, PLAIN, ALONE = 'as in the program', 'not widened', 'siblings as independent'


def phantom() -> tuple[np.ndarray, Grid]:
    """Return the mask of a round brain and its grid."""
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -8.0 * (SIZE - 1) / 2
    grid = Grid((SIZE,) * 3, affine, 'phantom')
    return np.sqrt((grid.world_coordinates() ** 2).sum(axis=0)) < 52, grid


def anatomies(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return smooth log-volumes (count, X, Y, Z) with a standard deviation of 0.15."""
    maps = gaussian_filter(rng.standard_normal((count, SIZE, SIZE, SIZE)), (0, 1.5, 1.5, 1.5))
    return 0.15 * maps / maps.std(axis=(1, 2, 3), keepdims=True)


def cohort(rng: np.random.Generator, families: np.ndarray) -> np.ndarray:
    """Return log-volumes (N, X, Y, Z): head size, smooth anatomical differences, and noise."""
    inside, _ = phantom()
    index = np.unique(families, return_inverse=True)[1]
    own, common = anatomies(rng, len(families)), anatomies(rng, int(index.max()) + 1)[index]
    is_alone = (np.bincount(index)[index] == 1)[:, None, None, None]
    anatomy = np.where(is_alone, own, np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own)
    size = rng.normal(0, 0.05, len(families))[:, None, None, None]
    return (size + anatomy + 0.05 * rng.standard_normal(anatomy.shape)) * inside


def divide(
    rng: np.random.Generator, subjects: int, n_folds: int, *, related: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return family, label and fold (N,) each; families share label and fold."""
    sizes = np.ones(subjects, int)
    if related:
        sizes = np.resize([1, 1, 2, 2, 2, 3, 4], subjects)
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), subjects)) + 1]
    count = len(sizes)
    labels = rng.permutation(np.arange(count) % 2).astype(bool)
    folds = np.empty(count, int)
    for side in (labels, ~labels):  # stratified, as in training
        folds[side] = rng.permutation(int(side.sum())) % n_folds
    families = np.repeat(np.arange(count), sizes)[:subjects]
    return families, labels[families], folds[families]


def learned_velocity(difference: np.ndarray, inside: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the velocity (mm) of a volume difference, without its mean."""
    wanted = np.where(inside, difference - difference[inside].mean(), 0.0)
    return gradient_velocity(wanted, grid)


def scores(maps: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return cross-fitted expression scores (N,)."""
    inside, grid = phantom()
    values = np.zeros(len(maps))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        difference = maps[train & labels].mean(axis=0) - maps[train & ~labels].mean(axis=0)
        pattern = divergence(learned_velocity(difference, inside, grid), grid)[inside]
        mean = maps[train].mean(axis=0)
        for index in np.flatnonzero(test):
            values[index] = fit_score((maps[index] - mean)[inside], pattern)[0]
        values[test] /= np.abs(values[test]).mean()  # all folds get the same weight
    return values


def covariates(
    rng: np.random.Generator, label: np.ndarray, followed: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a number and a site (N,) that follow the label with a correlation."""
    noise = rng.standard_normal(len(label))
    number = followed * label / label.std() + np.sqrt(1 - followed**2) * noise
    # One of the three sites has patients or controls only, in so far as it follows the label.
    mixed = rng.integers(0, 3, len(label))
    site = np.where(rng.random(len(label)) < followed, np.where(label > 0, 0, 1 + mixed % 2), mixed)
    return number, site


def one_cohort(
    seed: int, subjects: int, n_folds: int, draws: int, *, related: bool = False
) -> dict[tuple[str, float, str], float]:
    """Return the p values of one null cohort by test, correlation and treatment."""
    rng = np.random.default_rng([seed, related])
    families, labels, folds = divide(rng, subjects, n_folds, related=related)
    values = scores(cohort(rng, families), labels, folds)
    label = np.where(labels, 1.0, -1.0)
    learned = (label - label.mean())[:, None]
    learned = learned / np.linalg.norm(learned)
    group = ['patient' if is_patient else 'control' for is_patient in labels]
    found = {}

    def test(followed: float, tests: dict[str, str], variables: dict[str, list[object]]) -> None:
        for treatment in (PROGRAM, PLAIN, *([ALONE] if related else [])):
            design = _design(variables, folds, None if treatment == ALONE else families)
            effects = fit_terms(
                values,
                design,
                draws=draws,
                seed=seed,
                learned=None if treatment == PLAIN else learned,
            )
            for effect in effects:
                found[tests[effect.variable], followed, treatment] = effect.p

    for followed in FOLLOWED:
        number, site = covariates(rng, label, followed)
        test(followed, {'x': 'number alone'}, {'x': number.tolist()})
        if followed < 1:
            beside = {'x': 'number beside the label', 'group': 'label beside the number'}
            test(followed, beside, {'group': group, 'x': number.tolist()})
            test(followed, {'site': 'site of three levels'}, {'site': [f's{s}' for s in site]})
        if related:
            # A covariate of the household: the same for all members of a family.
            own = number[np.unique(families, return_index=True)[1]][families]
            test(followed, {'x': 'number of the family'}, {'x': own.tolist()})
    return found


def _design(
    variables: dict[str, list[object]], folds: np.ndarray, families: np.ndarray | None
) -> DesignMatrix:
    return make_design_matrix(
        variables,  # type: ignore[arg-type]
        [str(fold) for fold in folds],
        families=None if families is None else [str(family) for family in families],
    )


def main() -> int:
    """Run all cohorts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cohorts', type=int, default=400)
    parser.add_argument('--subjects', type=int, default=60)
    parser.add_argument('--folds', type=int, default=5)
    parser.add_argument('--permutations', type=int, default=499)
    parser.add_argument('--nprocs', type=int, default=1)
    args = parser.parse_args()
    limit = stats.binom.ppf(0.99, args.cohorts, 0.05) / args.cohorts
    worst = 0.0
    for related in (False, True):
        start = time.perf_counter()
        one = partial(
            one_cohort,
            subjects=args.subjects,
            n_folds=args.folds,
            draws=args.permutations,
            related=related,
        )
        with ProcessPoolExecutor(args.nprocs) as pool:
            found = list(pool.map(one, range(args.cohorts), chunksize=10))
        whom = 'families of one to four' if related else 'unrelated subjects'
        print(
            f'\n{args.cohorts} null cohorts of {args.subjects} subjects ({whom}), {args.folds} '
            f'folds; 99 % binomial limit {100 * limit:.1f} %; {time.perf_counter() - start:.0f} s\n'
        )
        treatments = list(dict.fromkeys(key[2] for key in found[0]))
        print(f'| variable | r | {" | ".join(treatments)} |\n|---|---|{"---|" * len(treatments)}')
        for name, followed in dict.fromkeys(key[:2] for key in found[0]):
            rates = [
                float(np.mean([cohort[name, followed, treatment] < 0.05 for cohort in found]))
                for treatment in treatments
            ]
            worst = max(worst, rates[0])
            print(f'| {name} | {followed:g} | {" | ".join(f"{100 * r:.1f} %" for r in rates)} |')
    return int(worst > limit)


if __name__ == '__main__':
    sys.exit(main())
