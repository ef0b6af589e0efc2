"""Design of the blob benchmark: variants, sizes, methods and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bids_interp.bench.design import check_names, checked_recipe
from bids_interp.bench.method_maps import OURS
from bids_interp.constants import SALIENCY_METHODS
from bids_interp.errors import UsageError
from bids_interp.phantom.blobs.blob_image import VARIANTS
from bids_interp.training.recipe import make_recipe, recipe_digest
from bids_interp.version import __version__

PAPER, DIFFERENCE, RANDOM = 'ipmi2021', 'difference', 'random'
#: Saliency methods explain the published classifier, as in the paper.
METHODS: dict[str, str] = {
    OURS: 'our simulator and classifier',
    PAPER: 'the published simulator and classifier',
    DIFFERENCE: 'mean training image of patients minus controls',
    **dict.fromkeys(SALIENCY_METHODS, 'of the published classifier'),
    RANDOM: 'smooth noise, another one for each image',
}
#: Methods with a simulation of each image.
SIMULATORS = (OURS, PAPER)
#: Distance in mm between the cubes of occlusion.
STRIDE_MM = 16.0
#: The first of this many folds is tested.
N_FOLDS = 4
#: Fewest images, so that each class has test images of each type.
FEWEST = 64
DIMENSIONS = (2, 3)


class BlobSize(NamedTuple):
    """Preset; all but the number of images by dimension."""

    n: int
    #: Voxels along each axis.
    size: Mapping[int, int]
    #: Changed arguments of the published recipe.
    paper: Mapping[int, Mapping[str, Any]]
    #: Tested images of each type that are explained; maps take seconds each.
    explained: Mapping[int, int]


SIZES = {
    # The published settings take hours in three dimensions on two cores.
    'small': BlobSize(
        160,
        {2: 64, 3: 32},
        {
            2: {'classifier_steps': 300, 'simulator_steps': 40, 'batch': 16},
            3: {'classifier_steps': 150, 'simulator_steps': 10, 'batch': 4},
        },
        {2: 10, 3: 6},
    ),
    'full': BlobSize(400, {2: 64, 3: 64}, {2: {}, 3: {}}, {2: 25, 3: 25}),
}


class BlobUnit(NamedTuple):
    """Images of a variant and dimension, drawn with a seed."""

    variant: str
    dim: int
    seed: int

    @property
    def name(self) -> str:
        """Name in nodes and files.

        Examples
        --------
        >>> BlobUnit('plain', 2, 0).name
        'plain_2d_seed-0'
        """
        return f'{self.variant}_{self.dim}d_seed-{self.seed}'


@dataclass(frozen=True)
class BlobBenchmark:
    """Checked design.

    Parameters
    ----------
    units : tuple of BlobUnit
        What is drawn.
    n : int
        Images of each unit.
    size : mapping
        Voxels along each axis, by dimension.
    paper, explained : mapping
        See :class:`BlobSize`.
    draws : int
        Bootstrap draws.
    methods : tuple of str
        Names of :data:`METHODS`.
    """

    units: tuple[BlobUnit, ...]
    n: int
    size: Mapping[int, int]
    paper: Mapping[int, Mapping[str, Any]]
    explained: Mapping[int, int]
    draws: int = 1000
    methods: tuple[str, ...] = tuple(METHODS)

    def recipe(self, method: str, dim: int) -> dict[str, Any]:
        """Return the arguments of :func:`bids_interp.training.recipe.make_recipe`."""
        if method == OURS:
            return {'preset': 'fast', 'architecture': 'morphometric'}
        return {'preset': 'ipmi2021', **self.paper[dim]}

    def digest(self, dim: int) -> str:
        """Digest of all that determines the scores of a dimension, besides variant and seed."""
        recipes = [make_recipe(**self.recipe(method, dim)) for method in SIMULATORS]
        parts = (__version__, self.n, self.size[dim], self.explained[dim], recipes, self.draws)
        return recipe_digest((*parts, self.methods))


def make_blob_benchmark(
    size: str = 'small',
    *,
    variants: tuple[str, ...] = (),
    dimensions: tuple[int, ...] = (),
    seeds: tuple[int, ...] = (),
    n: int | None = None,
    draws: int = 1000,
    methods: tuple[str, ...] = (),
    paper: Mapping[str, Any] | None = None,
) -> BlobBenchmark:
    """Return the design of a request; an empty value means the default of the size.

    Parameters
    ----------
    size : str
        Key of :data:`SIZES`.
    variants, dimensions, seeds
        What is drawn: all variants, both dimensions and three seeds by default.
    n : int, optional
        Images of each unit.
    draws : int
        Bootstrap draws.
    methods : tuple of str
        Names of :data:`METHODS`; all by default.
    paper : mapping, optional
        Changed arguments of the published recipe.

    Raises
    ------
    UsageError
        If there are too few images, or a name or an argument of the recipe is unknown.
    """
    preset = SIZES[size]
    check_names(variants, VARIANTS, 'variant')
    check_names(methods, METHODS, 'method')
    count = preset.n if n is None else n
    if count < FEWEST:
        raise UsageError(
            f'{count} images are too few for training, validation and test.',
            f'Give --n of {FEWEST} or more.',
        )
    made = BlobBenchmark(
        tuple(
            BlobUnit(variant, dim, seed)
            for seed in seeds or (0, 1, 2)
            for dim in dimensions or DIMENSIONS
            for variant in variants or VARIANTS
        ),
        count,
        preset.size,
        {dim: {**preset.paper[dim], **(paper or {})} for dim in DIMENSIONS},
        preset.explained,
        draws,
        methods or tuple(METHODS),
    )
    checked_recipe(made.recipe(PAPER, 2), paper or {})
    return made
