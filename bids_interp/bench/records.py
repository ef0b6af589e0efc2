"""Records of the known-truth benchmark, written by its nodes and read by its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bids_interp.records import Measured
from bids_interp.spatial.grid import Grid

#: Meanings of intervals, from narrow to wide.
EXPLAINED, TRAINING, SEEDS = 'explained brains', 'training and explained brains', 'seeds'
INTERVALS = {
    EXPLAINED: '95 % bootstrap over the explained brains, with the same trained models',
    TRAINING: '95 % bootstrap over the training brains, by which the map is fitted again, and over '
    'the explained brains',
    SEEDS: 'smallest and largest value of several seeds, each with its own groups, anatomies, '
    'folds and trainings, of the same brains',
}


@dataclass(frozen=True)
class Score:
    """Value of one metric in a scenario.

    Parameters
    ----------
    method : str
        Method of the maps, or classifier.
    classifier : str
        Explained or measured network; empty for methods without one.
    metric : str
        Name of the metric.
    direction : {'inject', 'remove', 'both'}
        Direction of the simulations.
    value, low, high : float
        Value and ends of its interval; NaN if missing.
    covers : str
        Meaning of the interval, one of :data:`INTERVALS`; empty without an interval.
    """

    method: str
    classifier: str
    metric: str
    direction: str
    value: Measured
    low: Measured = float('nan')
    high: Measured = float('nan')
    covers: str = ''


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Metrics of the simulation of one image; shares are 0 or 1, missing values NaN.

    Parameters
    ----------
    image : int
        Index of the image in the cohort.
    direction : {'inject', 'remove'}
        Controls get the pattern injected, patients have it removed.
    crosses, effectiveness, monotone, transfer_right_way, transfer_crosses, volume_right_way, \
    volume_crosses, roi_error_percent, realism, n_folded, reversibility_rmse, minimality_mm, \
    volume_share, displacement_ncc, motion_outside_mm, remeasured_slope, remeasured_r : float
        See :data:`bids_interp.bench.goals.METRICS`.
    method : str
        Name of the simulator.
    fold : int
        Fold that explained the image.
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
    volume_share: Measured = float('nan')
    displacement_ncc: Measured = float('nan')
    motion_outside_mm: Measured = float('nan')
    remeasured_slope: Measured = float('nan')
    remeasured_r: Measured = float('nan')


@dataclass(frozen=True, kw_only=True)
class TableRow(Score):
    """Row of the table: a score with its scenario, strength and seed.

    Parameters
    ----------
    scenario, strength : str
        Scenario and strength.
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
        Identifier of the run.
    table : str
        Digest of the settings; scores with the same digest are comparable.
    command, version, machine, software, date : str
        Command and environment.
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
    """Design of a scenario with a seed.

    Parameters
    ----------
    scenario, seed, strength, purpose : str, int, str, str
        Scenario, seed, strength, and purpose of the scenario.
    changes : mapping
        Planted change by region.
    replicates, anatomy_mm, spacing_mm, stride_mm, n_folds, draws
        See :class:`bids_interp.bench.design.Benchmark`.
    methods : sequence of str
        Compared methods.
    recipes : mapping
        Complete recipe by method.
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
        True if nothing is planted.
    n_images, n_brains, n_explained : int
        Numbers of images, brains and explained images.
    grid : Grid
        Grid of the maps.
    skipped : mapping
        Reason by method for not applying to our classifier.
    rows : sequence of Score
        Scores.
    provenance : Provenance, optional
        Origin; added when the record is written into the output directory.
    """

    null: bool
    n_images: int
    n_brains: int
    n_explained: int
    grid: Grid
    skipped: Mapping[str, str]
    rows: Sequence[Score]
    provenance: Provenance | None = None
