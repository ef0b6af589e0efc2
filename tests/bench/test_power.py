"""Power of studies that are drawn from made-up volumes, and volumes of planted brains."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_interp.bench.planted_cohort import Brain
from bids_interp.bench.power.planted_volumes import PlantedVolumes, measure_planted
from bids_interp.bench.power.power_page import COLUMNS, smallest_effects, write_power
from bids_interp.bench.power.studies import (
    PowerDesign,
    PowerRow,
    default_numbers,
    measure_power,
    run_study,
)
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.models.networks import morphometric, pattern_simulator
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.inject.warps import field_grid
from bids_interp.spatial import Grid

SHIFTED = np.arange(400) < 24


def made_up(people: int = 40, size: float = 0.2, seed: int = 0) -> PlantedVolumes:
    """Volumes with independent noise of 0.1, and a change of a few voxels."""
    noise = np.random.default_rng(seed).normal(0, 0.1, (people, len(SHIFTED)))
    change = -size * SHIFTED
    both = np.stack([noise, noise + change]).astype(np.float32)
    return PlantedVolumes(both, both, change, -0.3, 0.0)


@pytest.fixture(scope='module')
def rows() -> list[PowerRow]:
    design = PowerDesign((-0.3, 0.0, -0.1), (16, 40), repeats=6, folds=2)
    return measure_power(made_up(), design, threads=2)


def row_of(rows: list[PowerRow], effect: float, number: int) -> PowerRow:
    return next(row for row in rows if (row.effect, row.n) == (effect, number))


def test_a_strong_change_is_always_found(rows):
    strong = row_of(rows, -0.3, 40)
    assert (strong.power, strong.repeats) == (1.0, 6)
    assert strong.power_low < 1.0
    assert strong.auc > 0.95
    assert strong.map_ncc > 0.8


def test_map_and_area_improve_with_change_and_people(rows):
    for number in (16, 40):
        small, large = (row_of(rows, effect, number) for effect in (-0.1, -0.3))
        assert small.map_ncc < large.map_ncc
        assert small.auc < large.auc
        assert small.map_ncc_low <= small.map_ncc <= small.map_ncc_high
    for effect in (-0.1, -0.3):
        assert row_of(rows, effect, 16).map_ncc < row_of(rows, effect, 40).map_ncc


def test_nothing_is_found_where_nothing_is_planted():
    # Independent people for each study, because studies of the same people err together.
    studies = [run_study(made_up(24, seed=seed), 0.0, 24, 3, [seed]) for seed in range(30)]
    assert sum(study.p < 0.05 for study in studies) <= 5
    assert abs(np.mean([study.auc for study in studies]) - 0.5) < 0.08
    assert all(np.isnan(study.map_ncc) for study in studies)


def test_studies_are_repeatable_and_share_people_between_effects():
    volumes = made_up(30)
    first = run_study(volumes, -0.1, 20, 2, [3])
    assert first == run_study(volumes, -0.1, 20, 2, [3])
    assert first != run_study(volumes, -0.1, 20, 2, [4])
    weak = replace(volumes, largest=-1e-9)
    # Without a difference between the two volumes, only the people, groups and folds matter.
    still = replace(weak, features=np.stack([volumes.features[0]] * 2))
    areas = {run_study(still, effect, 20, 2, [3]).auc for effect in (0.0, -1e-10)}
    assert len(areas) == 1


def test_more_people_than_scans_are_refused():
    with pytest.raises(UsageError):
        measure_power(made_up(18), PowerDesign((-0.1,), (20,), folds=2))


@pytest.mark.parametrize(
    'changed',
    [
        {'effects': (-1.0,)},
        {'effects': (0.0,)},
        {'numbers': (15,)},
        {'numbers': (18,)},
        {'repeats': 0},
        {'folds': 1, 'numbers': ()},
    ],
)
def test_impossible_designs_are_refused(changed):
    design = PowerDesign((-0.1, 0.0), (20,))
    with pytest.raises(UsageError):
        replace(design, **changed)


def test_too_few_people_are_refused():
    assert default_numbers(20, 5) == (20,)
    assert default_numbers(35, 5) == (20, 26, 34)
    with pytest.raises(InputDatasetError):
        default_numbers(19, 5)


@pytest.mark.parametrize('folds', [2, 3, 5])
def test_the_smallest_study_can_find_a_change(folds):
    design = PowerDesign((-0.3,), (), folds=folds)
    study = run_study(made_up(24, size=2.0), -0.3, design.fewest, folds, [0])
    assert study.auc == 1
    assert study.p < 0.05


def test_the_table_has_its_dictionary_and_the_page_its_figure(rows, tmp_path: Path):
    setup = {
        'dataset': 'made up',
        'n_people': 40,
        'regions': ['hippocampus'],
        'absorb': 'ventricles',
        'spacing_mm': 4.0,
        'folds': 2,
        'interpolation_error': 0.01,
    }
    page = write_power(tmp_path, rows, setup)
    with (tmp_path / 'power.tsv').open() as stream:
        table = list(csv.DictReader(stream, delimiter='\t'))
    sidecar = json.loads((tmp_path / 'power.json').read_text())
    assert list(table[0]) == list(COLUMNS) == [name for name in sidecar if name != 'Setup']
    assert len(table) == len(rows) == 6
    assert [one['map_ncc'] for one in table if float(one['effect']) == 0] == ['n/a', 'n/a']
    assert sidecar['Setup']['n_people'] == 40
    text = page.read_text()
    assert text.count('data:image/svg+xml') == 1
    assert (tmp_path / 'power.svg').stat().st_size > 1000


def test_an_effect_counts_only_if_all_larger_ones_are_found():
    rest = (0.0, 1.0, 0.5, 0.5, 0.5, 0.5)
    powers = {-0.05: 0.9, -0.1: 0.5, -0.2: 0.8, -0.3: 1.0, 0.0: 1.0}
    rows = [PowerRow(effect, 20, 9, power, *rest) for effect, power in powers.items()]
    rows += [PowerRow(-0.3, 30, 9, 0.7, *rest)]
    assert smallest_effects(rows) == {20: -0.2, 30: None}


def test_one_registration_serves_classifier_and_map():
    assert morphometric.REGISTRATION == pattern_simulator.REGISTRATION


@pytest.fixture(scope='module')
def planted() -> PlantedVolumes:
    affine = np.array([[8.0, 0, 0, -92], [0, 8, 0, -126], [0, 0, 8, -72], [0, 0, 0, 1]])
    grid = Grid((24, 28, 24), affine)
    points = grid.world_coordinates() / np.array([70, 90, 70])[:, None, None, None]
    mask = np.linalg.norm(points, axis=0) < 1
    brains = []
    for number in range(3):
        texture = torch.from_numpy(np.random.default_rng(number).random(grid.shape)).numpy()
        data = (mask * (1 + texture)).astype(np.float32)
        brains.append(Brain(f'{number:02d}', data, grid, np.eye(4)))
    change = fit_atrophy(field_grid(grid, 6.0), {'ventricles': 0.4}, 'shell', sigma_mm=6.0)
    return measure_planted(brains, change, 0.4, grid, mask, Preprocessing(normalisation='none'))


def test_planted_volumes_grow_where_the_truth_does(planted):
    assert len(planted) == 3
    assert planted.features.shape[0] == planted.maps.shape[0] == 2
    effect = (planted.maps[1] - planted.maps[0]).mean(axis=0)
    assert effect.shape == planted.truth.shape
    assert planted.truth.max() > 0.2
    assert np.corrcoef(effect, planted.truth)[0, 1] > 0.3
    assert 0 < planted.interpolation_error < 0.5


def test_strengths_are_logarithmic(planted):
    assert planted.strength(0.0) == 0
    assert planted.strength(0.4) == 1
    assert planted.strength(np.sqrt(1.4) - 1) == pytest.approx(0.5)
