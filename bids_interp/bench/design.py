"""Design of the known-truth benchmark: scenarios, methods, seeds and recipes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import UsageError
from bids_interp.version import __version__

if TYPE_CHECKING:
    from bids_interp.training.recipe import TrainingRecipe

#: Methods other than saliency maps.
OTHER_METHODS = {
    'ours': 'our simulator',
    'otherseed': 'our simulator and classifier, trained from another seed',
    'ipmi2021': 'preset ipmi2021 with its own classifier',
    'difference': 'mean training image of patients minus controls',
    'tbm': 'tensor-based morphometry: t-map of registrations to the mean control',
    'exact': 'mean difference of the exact volumes of the training images; does not compete',
    'oracle': 'exact changes, mixed with knowledge of the subtypes (S9); does not compete',
}
METHODS = (*OTHER_METHODS, *SALIENCY_METHODS)
#: Version of the rows of the scores; different versions are not combined in one table.
ROWS = 3
#: Images per brain, and standard deviation of the velocity of their random anatomies in mm. With
#: much fewer or much more variable images even exact volumes (method `exact`) do not show the
#: planted change.
REPLICATES = 16
ANATOMY_MM = 1.0
#: All methods except the repetition with another seed.
DEFAULT_METHODS = tuple(name for name in METHODS if name != 'otherseed')
#: Methods that know the truth.
ALL_KNOWING = ('exact', 'oracle')
#: All scenarios, and those that are repeated with other seeds.
ALL = ('S1', 'S2', 'S3', 'S4', 'S5', 'S6', 'S7', 'S8', 'S9', 'S10a', 'S10b', 'S11')
REPEATED = ('S1', 'S3', 'S4', 'S9')
#: Settings of our method that its judge does not have.
NOT_OF_JUDGE = ('members', 'capacity', 'simulator_steps')
#: Name of the sham check among the scenarios.
SHAM = 'sham'
#: The field of view of the published grid: 64 voxels of 3 mm.
EXTENT_MM = 192.0
#: The networks of the preset ipmi2021 halve the grid four times.
MULTIPLE = 16


@dataclass(frozen=True)
class BenchSize:
    """Preset of the benchmark.

    Parameters
    ----------
    plan : tuple of (str, int)
        Scenarios, each with a seed of groups, warps, folds and trainings.
    methods : tuple of str
        Compared methods.
    spacing_mm : float
        Voxel size.
    recipe, paper : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe` for ours and for ipmi2021.
    judge_steps : int
        Training steps of the classifier of another family; 0 for none.
    stride_mm : float
        Distance between the 24 mm cubes of the occlusion.
    """

    plan: tuple[tuple[str, int], ...]
    methods: tuple[str, ...]
    spacing_mm: float
    recipe: dict[str, Any]
    paper: dict[str, Any]
    judge_steps: int
    stride_mm: float


SIZES = {
    # 1000 + 1000 steps with batches of 40 images, as published, take days on a CPU.
    'small': BenchSize(
        (*((name, 0) for name in ALL), *((name, seed) for name in REPEATED for seed in (1, 2))),
        # The published simulator takes most of an hour per scenario and is near chance with so few
        # steps; the classifier of another family learns nothing from so few images.
        tuple(name for name in DEFAULT_METHODS if name != 'ipmi2021'),
        4.0,
        {'preset': 'fast', 'architecture': 'morphometric'},
        {'preset': 'ipmi2021', 'classifier_steps': 300, 'simulator_steps': 80, 'batch': 8},
        0,
        24.0,
    ),
    'full': BenchSize(
        tuple((name, seed) for name in ALL for seed in range(5)),
        DEFAULT_METHODS,
        3.0,
        {'preset': 'default', 'architecture': 'morphometric', 'n_folds': 3},
        {'preset': 'ipmi2021'},
        1200,
        12.0,
    ),
}


@dataclass(frozen=True)
class Benchmark:
    """Checked design of a benchmark.

    Parameters
    ----------
    plan : tuple of (str, int)
        Scenarios, each with a seed.
    methods : tuple of str
        Names of the methods.
    strength : str
        ``'mild'``, ``'moderate'`` or ``'strong'``.
    replicates : int
        Images per brain.
    explained : int
        Explained images per class and brain.
    spacing_mm : float
        Voxel size.
    recipe, paper, judge : dict
        Arguments of :func:`bids_interp.training.recipe.make_recipe`; no judge if None.
    n_folds : int
        Number of folds.
    draws : int
        Number of bootstrap draws.
    anatomy_mm : float
        Standard deviation of the random anatomy of each image.
    stride_mm : float
        Distance between the cubes of the occlusion.
    check_sham : bool
        Train a classifier to distinguish sham-warped from untouched images, which must fail.
    """

    plan: tuple[tuple[str, int], ...]
    methods: tuple[str, ...]
    strength: str
    replicates: int
    explained: int
    spacing_mm: float
    recipe: dict[str, Any]
    paper: dict[str, Any]
    judge: dict[str, Any] | None
    n_folds: int = 3
    draws: int = 1000
    anatomy_mm: float = ANATOMY_MM
    stride_mm: float = 24.0
    check_sham: bool = False

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.plan))

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, each once."""
        return tuple(dict.fromkeys(seed for _, seed in self.plan))

    def units(self) -> list[tuple[str, int]]:
        """Return the plan, and the sham check with the first seed."""
        return [*self.plan, *([(SHAM, self.seeds[0])] if self.check_sham else [])]

    def data_digest(self, brains: Sequence[dict[str, Any]]) -> str:
        """Digest of everything that determines the images, besides scenario and seed."""
        parts = [__version__, brains, self.strength, self.replicates]
        parts += [self.spacing_mm, self.n_folds, self.anatomy_mm]
        return _digest(parts)

    def table_digest(self, brains: Sequence[dict[str, Any]]) -> str:
        """Digest of everything that the scores of one table have in common."""
        parts = [self.data_digest(brains), self.recipe, self.paper, self.judge]
        return _digest([*parts, self.explained, self.draws, self.stride_mm, ROWS])


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def cube_of(spacing_mm: float) -> int:
    """Return the number of voxels along each axis.

    Examples
    --------
    >>> cube_of(3.0), cube_of(4.0), cube_of(8.0)
    (64, 48, 32)
    """
    return MULTIPLE * math.ceil(round(EXTENT_MM / spacing_mm / MULTIPLE, 6))


@dataclass(frozen=True)
class BenchRequest:
    """Request of the user; None or an empty value means the default of the size.

    Parameters
    ----------
    size : str
        ``'small'`` or ``'full'``.
    scenarios, methods, seeds, strength, replicates, explained, spacing_mm, anatomy_mm, draws
        See :class:`Benchmark`.
    recipe, paper : dict
        Changed arguments of the recipes of our method and of ipmi2021.
    judge_steps : int, optional
        Training steps of the classifier of another family; 0 for none.
    check_sham : bool
        See :class:`Benchmark`.
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
    """Return the benchmark of a request.

    Raises
    ------
    UsageError
        If a name is unknown (with suggestions), or a number or recipe is invalid.
    """
    from bids_interp.phantom.inject.scenarios import SCENARIOS, STRENGTHS

    check_names([request.size], SIZES, 'size')
    size = SIZES[request.size]
    methods = tuple(dict.fromkeys(request.methods)) or size.methods
    if 'all' in methods:
        methods = METHODS
    check_names(request.scenarios, SCENARIOS, 'scenario')
    check_names(methods, METHODS, 'method')
    check_names([request.strength], STRENGTHS, 'strength')
    _check_numbers(request)
    spacing = size.spacing_mm if request.spacing_mm is None else request.spacing_mm
    cube = cube_of(spacing)
    recipe = _recipe({**size.recipe, **request.recipe}, spacing, cube, None)
    n_folds = recipe['n_folds']
    judge: dict[str, Any] = {k: v for k, v in recipe.items() if k not in NOT_OF_JUDGE}
    # This classifier is not explained, so the gradient penalty would only cost time.
    judge |= {'architecture': 'sfcn', 'gradient_penalty': 0.0}
    steps = size.judge_steps if request.judge_steps is None else request.judge_steps
    judge |= {'classifier_steps': steps}
    return Benchmark(
        _plan(request, size),
        methods,
        request.strength,
        request.replicates,
        request.explained,
        spacing,
        recipe,
        _recipe({**size.paper, **request.paper}, spacing, cube, n_folds),
        _recipe(judge, spacing, cube, n_folds) if steps else None,
        n_folds,
        request.draws,
        request.anatomy_mm,
        size.stride_mm,
        request.check_sham,
    )


def check_names(names: Sequence[str], valid: Collection[str], kind: str) -> None:
    """Refuse an unknown name, with suggestions.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    for name in names:
        if name in valid:
            continue
        close = get_close_matches(name, list(valid), n=2, cutoff=0.5)
        advice = f'Did you mean {" or ".join(close)}? ' if close else ''
        raise UsageError(
            f'The benchmark has no {kind} {name!r}.', f'{advice}Available: {", ".join(valid)}.'
        )


def _plan(request: BenchRequest, size: BenchSize) -> tuple[tuple[str, int], ...]:
    """Requested scenarios with their seeds; by default, the size sets both."""
    scenarios = tuple(dict.fromkeys(request.scenarios or (name for name, _ in size.plan)))
    seeds = tuple(dict.fromkeys(request.seeds))
    return tuple(
        (name, seed)
        for name in scenarios
        for seed in seeds or [seed for planned, seed in size.plan if planned == name]
    )


def _check_numbers(request: BenchRequest) -> None:
    if min(request.seeds, default=0) < 0:
        raise UsageError(f'The seed {min(request.seeds)} is negative.', 'Give 0 or more.')
    if request.replicates < 2:
        raise UsageError(
            f'{request.replicates} replicates of a brain are too few: every brain is needed as a '
            'control and as a patient.',
            'Give --replicates of 2 or more.',
        )
    if request.explained < 1 or request.draws < 1:
        raise UsageError('--explained and --draws must be at least 1.')
    if not 0 <= request.anatomy_mm <= 3:
        raise UsageError(
            f'Anatomies of {request.anatomy_mm:g} mm are out of range.',
            'Give --anatomy of 0 to 3 mm.',
        )
    if request.spacing_mm is not None and not 1 <= request.spacing_mm <= 12:
        raise UsageError(
            f'Voxels of {request.spacing_mm:g} mm are out of range.',
            'Give a --resolution of 1 to 12 mm.',
        )


def _recipe(
    arguments: dict[str, Any], spacing_mm: float, cube: int, n_folds: int | None
) -> dict[str, Any]:
    """Return arguments of make_recipe on the grid of the benchmark, after a check."""
    complete = {**arguments, 'spacing_mm': spacing_mm, 'cube': cube}
    if n_folds is not None:
        complete['n_folds'] = n_folds
    return {**complete, 'n_folds': checked_recipe(complete, arguments).n_folds}


def checked_recipe(complete: Mapping[str, Any], given: Mapping[str, Any]) -> TrainingRecipe:
    """Return the recipe of arguments of make_recipe.

    Parameters
    ----------
    complete, given : mapping
        All arguments, and those that the message shows.

    Raises
    ------
    UsageError
        If the arguments are invalid.
    """
    from bids_interp.training.recipe import make_recipe

    try:
        return make_recipe(**complete)
    except TypeError as error:
        raise UsageError(
            f'The recipe {json.dumps(dict(given))} cannot be used: {error}.',
            'Give arguments such as {"preset": "fast", "simulator_steps": 160}.',
        ) from error
