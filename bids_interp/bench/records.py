"""Records of the known-truth benchmark: what its nodes write, and its table and page read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bids_interp.records import Measured
from bids_interp.spatial.grid import Grid


@dataclass(frozen=True)
class Score:
    """One number of a scenario.

    Parameters
    ----------
    method : str
        What made the maps, or which classifier answered.
    classifier : str
        Network that the number is about; empty for methods that need none.
    metric : str
        What was measured.
    direction : {'inject', 'remove', 'both'}
        Which simulations.
    value, low, high : float
        The number and the ends of its interval; NaN where there are none.
    """

    method: str
    classifier: str
    metric: str
    direction: str
    value: Measured
    low: Measured = float('nan')
    high: Measured = float('nan')


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Numbers of the simulation of one image; shares are 0 or 1, NaN what was not asked for.

    Parameters
    ----------
    image : int
        Number of the image in the cohort.
    direction : {'inject', 'remove'}
        Controls get the pattern injected, patients have it removed.
    crosses, effectiveness, monotone, transfer_right_way, transfer_crosses, volume_right_way, \
    volume_crosses, roi_error_percent, realism, n_folded, reversibility_rmse, minimality_mm : float
        See :data:`bids_interp.bench.goals.METRICS`.
    method : str
        The simulator.
    fold : int
        The fold that explained it.
    """

    method: str = ''
    fold: int = 0
    image: int
    direction: str
    crosses: Measured
    effectiveness: Measured
    monotone: Measured
    transfer_right_way: Measured
    transfer_crosses: Measured
    volume_right_way: Measured
    volume_crosses: Measured
    roi_error_percent: Measured
    realism: Measured
    n_folded: Measured
    reversibility_rmse: Measured
    minimality_mm: Measured


@dataclass(frozen=True, kw_only=True)
class TableRow(Score):
    """A row of the table: a score with its scenario, strength and seed.

    Parameters
    ----------
    scenario, strength : str
        The scenario.
    seed : int or str
        Seed, or ``'mean'``.
    """

    scenario: str
    strength: str
    seed: int | str


@dataclass(frozen=True)
class Provenance:
    """Origin of scores.

    Parameters
    ----------
    run : str
        Identity of the run.
    table : str
        Scores of one table are comparable.
    command, version, machine, software, date : str
        How they were made.
    """

    run: str
    table: str
    command: str
    version: str
    machine: str
    software: str
    date: str


@dataclass(frozen=True, kw_only=True)
class ScenarioDesign:
    """What is known of a scenario with a seed before it is run.

    Parameters
    ----------
    scenario, seed, strength, purpose : str, int, str, str
        Which, and what for.
    changes : mapping
        Region to its planted change.
    replicates, anatomy_mm, spacing_mm, stride_mm, n_folds, draws
        See :class:`bids_interp.bench.design.Benchmark`.
    methods : sequence of str
        What is compared.
    recipes : mapping
        Method to all numbers of its recipe.
    """

    scenario: str
    seed: int
    strength: str
    purpose: str
    changes: Mapping[str, float]
    replicates: int
    anatomy_mm: float
    spacing_mm: float
    stride_mm: float
    n_folds: int
    draws: int
    methods: Sequence[str]
    recipes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ScenarioRecord(ScenarioDesign):
    """Content of ``scores/<name>.json``.

    Parameters
    ----------
    null : bool
        Whether nothing is planted.
    n_images, n_brains, n_explained : int
        Sizes.
    grid : Grid
        Grid of the maps.
    skipped, replaced : mapping
        Method to the reason why it does not apply, or explains another classifier.
    rows : sequence of Score
        The scores.
    provenance : Provenance, optional
        Where they come from; added when they are written into the output directory.
    """

    null: bool
    n_images: int
    n_brains: int
    n_explained: int
    grid: Grid
    skipped: Mapping[str, str]
    replaced: Mapping[str, str]
    rows: Sequence[Score]
    provenance: Provenance | None = None
