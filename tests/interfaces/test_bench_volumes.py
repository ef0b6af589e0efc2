"""Nodes of the volume regressions on their own, with made-up images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_interp.bench.method_maps import FoldMaps
from bids_interp.bench.planted_cohort import TARGET, PlantedCohort, save_ground_truth
from bids_interp.bench.records import ScenarioDesign
from bids_interp.interfaces.bench_volumes import CorrelateRegions, ScoreRegions
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.records import to_plain
from bids_interp.spatial import Grid
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import make_folds
from bids_interp.training.cohort.storage import save_cohort, save_folds

GRID = Grid(
    (20, 23, 19), np.array([[8.0, 0, 0, -76], [0, 8, 0, -106], [0, 0, 8, -70], [0, 0, 0, 1]])
)
COUNT = 16
REGIONS = ('thalamus', 'cerebellum')
MASK = np.linalg.norm(GRID.world_coordinates(), axis=0) < 75


@pytest.fixture
def files(tmp_path: Path, monkeypatch) -> dict[str, str]:
    """Images that are brighter in the thalamus of those in which it is large."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    volumes = {name: rng.normal(size=COUNT) for name in REGIONS}
    images = rng.normal(0, 0.01, (COUNT, 1, *GRID.shape))
    for name in REGIONS:
        images[:, 0] += volumes[name][:, None, None, None] * region_mask(name, GRID, 4.0)
    labels, families = np.arange(COUNT) % 2, np.arange(COUNT) // 2
    cohort = Cohort(
        torch.from_numpy(images.astype(np.float32)), labels, families,
        tuple((f'image:{i}',) for i in range(COUNT)), GRID, MASK, Preprocessing(), TARGET,
    )  # fmt: skip
    still = np.zeros((COUNT, 3, *GRID.shape), np.float16)
    truths = np.zeros((COUNT, *GRID.shape), np.float32)
    names = ('cohort', 'folds', 'ground_truth')
    paths = {name: tmp_path / f'{name}.safetensors' for name in names}
    save_cohort(paths['cohort'], cohort)
    save_folds(paths['folds'], make_folds(labels, families, 2, 0))
    save_ground_truth(
        paths['ground_truth'], PlantedCohort(cohort, truths, still, still, labels - 1)
    )
    paths['volumes'] = tmp_path / 'volumes.json'
    paths['volumes'].write_text(
        json.dumps({name: values.tolist() for name, values in volumes.items()})
    )
    return {name: str(path) for name, path in paths.items()}


def correlate(files: dict[str, str], index: int) -> str:
    node = CorrelateRegions(**files, index=index, methods=['difference', 'exact'], random_seed=0)
    path = Path(node.run().outputs.maps)
    return str(path.rename(path.with_name(f'correlated-{index}.safetensors')))


def test_each_region_has_a_map_of_each_method(files) -> None:
    found = FoldMaps.load(Path(correlate(files, 1)))
    assert found.fold == 1
    assert sorted(found.values) == sorted(
        f'{region}.{method}' for region in REGIONS for method in ('difference', 'exact')
    )
    inside = region_mask('thalamus', GRID)[MASK] > 0
    own, other = (found.values[f'{region}.difference'][0] for region in REGIONS)
    assert own[inside].min() > 0.9
    assert np.abs(other[inside]).max() < 0.9
    # Images that were not deformed have no exact differences.
    assert not found.values['thalamus.exact'].any()


def test_regions_are_found_by_the_mean_over_the_folds(files, tmp_path) -> None:
    design = ScenarioDesign(
        scenario='S11', seed=0, strength='moderate', purpose='', changes={}, replicates=2,
        anatomy_mm=1.0, spacing_mm=8.0, stride_mm=24.0, n_folds=2, draws=5, methods=(), recipes={},
    )  # fmt: skip
    node = ScoreRegions(
        cohort=files['cohort'],
        maps=[correlate(files, index) for index in (0, 1)],
        correlations=[0.25, 0.75],
        design=to_plain(design),
    )
    outputs = node.run().outputs
    scores = json.loads(Path(outputs.scores).read_text())
    rows = {(row['method'], row['metric']): row['value'] for row in scores['rows']}
    assert rows['difference', 'regions_found'] == 2.0
    assert rows['ours', 'prediction_r'] == 0.5
    peaks = json.loads(Path(outputs.images).read_text())
    assert {(peak['region'], peak['method']) for peak in peaks} == {
        (region, method) for region in REGIONS for method in ('difference', 'exact')
    }
    assert Path(outputs.pictures).is_file()
