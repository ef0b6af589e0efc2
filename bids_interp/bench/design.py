"""What the known-truth benchmark runs: scenarios, methods, seeds and recipes, all checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import UsageError
from bids_interp.version import __version__

#: Methods that are not saliency maps, and what they are.
OTHER_METHODS = {
    'ours': 'our simulator',
    'otherseed': 'our simulator and classifier, trained from another seed',
    'ipmi2021': 'preset ipmi2021 with its own classifier',
    'difference': 'mean training image of patients minus controls',
    'tbm': 'tensor-based morphometry: t-map of registrations to the mean control',
    'exact': 'mean difference of the exact volumes of the training images: no competitor',
}
METHODS = (*OTHER_METHODS, *SALIENCY_METHODS)
#: Version of the rows of the scores; those of another version make another table.
ROWS = 2
#: Images of each brain, and the standard deviation of the velocity of their anatomies in mm. With
#: much fewer or much more different images even exact volumes (method `exact`) do not show the
#: planted change, so that no method could.
REPLICATES = 16
ANATOMY_MM = 1.0
#: Without an answer to whether another seed finds the same.
DEFAULT_METHODS = tuple(name for name in METHODS if name != 'otherseed')
#: Name of the check of the sham, beside those of the scenarios.
SHAM = 'sham'
#: The field of view of the published grid: 64 voxels of 3 mm.
EXTENT_MM = 192.0
#: The networks of the preset ipmi2021 halve a size four times.
MULTIPLE = 16


@dataclass(frozen=True)
class Size:
    """One of the two sizes of the benchmark.

    Parameters
    ----------
    scenarios : tuple of str
        Which.
    seeds : tuple of int
        Of groups, warps, folds and trainings.
    spacing_mm : float
        Voxel size.
    recipe, paper : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe` for ours and for ipmi2021.
    judge_steps : int
        Steps of the classifier of another family.
    stride_mm : float
        Distance between the cubes of 24 mm that occlusion hides.
    """

    scenarios: tuple[str, ...]
    seeds: tuple[int, ...]
    spacing_mm: float
    recipe: dict[str, Any]
    paper: dict[str, Any]
    judge_steps: int
    stride_mm: float


SIZES = {
    # The batch of 40 images and 1000 + 1000 steps of the paper are days on a CPU.
    'small': Size(
        ('S1', 'S3', 'S4', 'S7'),
        (0,),
        4.0,
        {'preset': 'fast', 'architecture': 'morphometric'},
        {'preset': 'ipmi2021', 'classifier_steps': 300, 'simulator_steps': 80, 'batch': 8},
        400,
        24.0,
    ),
    'full': Size(
        tuple(f'S{number}' for number in range(1, 9)),
        (0, 1, 2, 3, 4),
        3.0,
        {'preset': 'default', 'architecture': 'morphometric', 'n_folds': 3},
        {'preset': 'ipmi2021'},
        1200,
        12.0,
    ),
}


@dataclass(frozen=True)
class Benchmark:
    """What is run.

    Parameters
    ----------
    scenarios, methods : tuple of str
        Which.
    seeds : tuple of int
        Each repeats everything.
    strength : str
        ``'mild'``, ``'moderate'`` or ``'strong'``.
    replicates : int
        Images of each brain.
    explained : int
        Explained images of each class of each brain.
    spacing_mm : float
        Voxel size.
    recipe, paper, judge : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe`.
    n_folds : int
        Folds.
    draws : int
        Of the bootstrap.
    anatomy_mm : float
        Standard deviation of the random anatomy of each image.
    stride_mm : float
        Distance between the cubes of the occlusion.
    check_sham : bool
        Train a classifier to tell sham-warped from untouched images, which it must not.
    """

    scenarios: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    strength: str
    replicates: int
    explained: int
    spacing_mm: float
    recipe: dict[str, Any]
    paper: dict[str, Any]
    judge: dict[str, Any]
    n_folds: int = 3
    draws: int = 1000
    anatomy_mm: float = ANATOMY_MM
    stride_mm: float = 24.0
    check_sham: bool = False

    @property
    def cube(self) -> int:
        """Voxels along each axis: all methods share one grid, also that of ipmi2021."""
        return cube_of(self.spacing_mm)

    def units(self) -> list[tuple[str, int]]:
        """Every scenario with every seed, and the check of the sham with the first."""
        checks = [(SHAM, self.seeds[0])] if self.check_sham else []
        return [(scenario, seed) for scenario in self.scenarios for seed in self.seeds] + checks

    def data_digest(self, brains: Sequence[dict[str, Any]]) -> str:
        """Name of everything that the images depend on beside scenario and seed."""
        parts = [__version__, brains, self.strength, self.replicates]
        parts += [self.spacing_mm, self.n_folds, self.anatomy_mm]
        return _digest(parts)

    def table_digest(self, brains: Sequence[dict[str, Any]]) -> str:
        """Name of everything that scenarios, seeds and methods of one table have in common."""
        parts = [self.data_digest(brains), self.recipe, self.paper, self.judge]
        return _digest([*parts, self.explained, self.draws, self.stride_mm, ROWS])


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def cube_of(spacing_mm: float) -> int:
    """Size of the grid in voxels.

    Examples
    --------
    >>> cube_of(3.0), cube_of(4.0), cube_of(8.0)
    (64, 48, 32)
    """
    return MULTIPLE * math.ceil(round(EXTENT_MM / spacing_mm / MULTIPLE, 6))


@dataclass(frozen=True)
class BenchRequest:
    """What the user asked for; None means: as the size has it.

    Parameters
    ----------
    size : str
        ``'small'`` or ``'full'``.
    scenarios, methods, seeds, strength, replicates, explained, spacing_mm, anatomy_mm, draws
        As in :class:`Benchmark`.
    recipe, paper : dict
        Change arguments of the recipes of ours and of ipmi2021.
    judge_steps : int, optional
        Steps of the classifier of another family.
    check_sham : bool
        As in :class:`Benchmark`.
    """

    size: str = 'small'
    scenarios: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    strength: str = 'moderate'
    replicates: int = REPLICATES
    explained: int = 1
    spacing_mm: float | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    judge_steps: int | None = None
    anatomy_mm: float = ANATOMY_MM
    draws: int = 1000
    check_sham: bool = False


def make_benchmark(request: BenchRequest) -> Benchmark:
    """Turn what was asked for into what is run.

    Raises
    ------
    UsageError
        Unknown names (with those that come close), impossible numbers or recipes.
    """
    from bids_interp.phantom.inject.scenarios import SCENARIOS, STRENGTHS

    _check_names([request.size], SIZES, 'size')
    size = SIZES[request.size]
    scenarios = tuple(dict.fromkeys(request.scenarios)) or size.scenarios
    methods = tuple(dict.fromkeys(request.methods)) or DEFAULT_METHODS
    if 'all' in methods:
        methods = METHODS
    _check_names(scenarios, SCENARIOS, 'scenario')
    _check_names(methods, METHODS, 'method')
    _check_names([request.strength], STRENGTHS, 'strength')
    seeds = tuple(dict.fromkeys(request.seeds)) or size.seeds
    _check_numbers(request, seeds)
    spacing = size.spacing_mm if request.spacing_mm is None else request.spacing_mm
    cube = cube_of(spacing)
    recipe = _recipe({**size.recipe, **request.recipe}, spacing, cube, None)
    n_folds = recipe['n_folds']
    judge = {k: v for k, v in recipe.items() if k not in ('members', 'capacity')}
    # A witness, not a model to be explained: the penalty would only cost time.
    judge |= {'architecture': 'sfcn', 'gradient_penalty': 0.0}
    judge |= {'classifier_steps': request.judge_steps or size.judge_steps}
    return Benchmark(
        scenarios,
        methods,
        seeds,
        request.strength,
        request.replicates,
        request.explained,
        spacing,
        recipe,
        _recipe({**size.paper, **request.paper}, spacing, cube, n_folds),
        _recipe(judge, spacing, cube, n_folds),
        n_folds,
        request.draws,
        request.anatomy_mm,
        size.stride_mm,
        request.check_sham,
    )


def _check_names(names: Sequence[str], known: Any, what: str) -> None:
    for name in names:
        if name in known:
            continue
        close = get_close_matches(name, list(known), n=2, cutoff=0.5)
        advice = f'Did you mean {" or ".join(close)}? ' if close else ''
        raise UsageError(
            f'There is no {what} {name!r} in the benchmark.', f'{advice}Known: {", ".join(known)}.'
        )


def _check_numbers(request: BenchRequest, seeds: Sequence[int]) -> None:
    if min(seeds) < 0:
        raise UsageError(f'The seed {min(seeds)} is negative.', 'Give 0 or more.')
    if request.replicates < 2:
        raise UsageError(
            f'{request.replicates} replicates of a brain: every brain has to be there as control '
            'and as patient.',
            'Give --replicates of 2 or more.',
        )
    if request.explained < 1 or request.draws < 1:
        raise UsageError('--explained and --draws must be at least 1.')
    if not 0 <= request.anatomy_mm <= 3:
        raise UsageError(f'Anatomies of {request.anatomy_mm:g} mm.', 'Give --anatomy of 0 to 3 mm.')
    if request.spacing_mm is not None and not 1 <= request.spacing_mm <= 12:
        raise UsageError(
            f'Voxels of {request.spacing_mm:g} mm.', 'Give a --resolution of 1 to 12 mm.'
        )


def _recipe(
    arguments: dict[str, Any], spacing_mm: float, cube: int, n_folds: int | None
) -> dict[str, Any]:
    """Arguments of make_recipe on the grid of the benchmark, tried once.

    Raises
    ------
    UsageError
        If they make no recipe.
    """
    from bids_interp.training.recipe import make_recipe

    complete = {**arguments, 'spacing_mm': spacing_mm, 'cube': cube}
    if n_folds is not None:
        complete['n_folds'] = n_folds
    try:
        made = make_recipe(**complete)
    except TypeError as error:
        raise UsageError(
            f'The recipe {json.dumps(arguments)} cannot be used: {error}.',
            'It holds arguments such as {"preset": "fast", "simulator_steps": 160}.',
        ) from error
    return {**complete, 'n_folds': made.n_folds}
