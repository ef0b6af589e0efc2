"""Nodes of the benchmark on their own, with made-up images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.bench.baselines import contrast_map, registered_volumes
from bids_interp.bench.method_maps import SIGNED, SIZE, FoldMaps, join_folds
from bids_interp.bench.planted_cohort import (
    TARGET,
    PlantedCohort,
    explained_images,
    save_ground_truth,
)
from bids_interp.bench.records import ScenarioDesign
from bids_interp.interfaces.bench import read_brains
from bids_interp.interfaces.bench_explain import BaselineFold, SaliencyFold
from bids_interp.interfaces.bench_scores import ScoreScenario, classifier_metrics
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.records import to_plain
from bids_interp.spatial import Grid
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import make_folds
from bids_interp.training.cohort.storage import save_cohort, save_folds

GRID = Grid((8, 8, 8), np.diag([4.0, 4.0, 4.0, 1.0]))
COUNT = 24
DESIGN = to_plain(
    ScenarioDesign(
        scenario='S3', seed=0, strength='moderate', purpose='', changes={}, replicates=2,
        anatomy_mm=1.0, spacing_mm=4.0, stride_mm=24.0, n_folds=2, draws=5, methods=(), recipes={},
    )
)  # fmt: skip


@pytest.fixture
def planted() -> PlantedCohort:
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    cohort = Cohort(
        torch.from_numpy(rng.random((COUNT, 1, 8, 8, 8), np.float32)),
        labels,
        np.arange(COUNT) // 4,
        tuple((f'image:{index}',) for index in range(COUNT)),
        GRID,
        rng.random((8, 8, 8)) > 0.3,
        Preprocessing(),
        TARGET,
        tuple(f'sub-{index}' for index in range(COUNT)),
    )
    zeros = np.zeros((COUNT, 8, 8, 8), np.float32)
    still = np.zeros((COUNT, 3, 8, 8, 8), np.float16)
    return PlantedCohort(cohort, zeros, still, still, labels - 1)


@pytest.fixture
def files(planted: PlantedCohort, tmp_path: Path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    cohort = planted.cohort
    paths = {name: tmp_path / f'{name}.safetensors' for name in ('cohort', 'folds', 'ground_truth')}
    save_cohort(paths['cohort'], cohort)
    save_folds(paths['folds'], make_folds(cohort.labels, cohort.families, 2, 0))
    save_ground_truth(paths['ground_truth'], planted)
    return {name: str(path) for name, path in paths.items()}


def test_baselines_come_from_training_images_alone(files, planted, tmp_path):
    cohort = planted.cohort
    folds = make_folds(cohort.labels, cohort.families, 2, 0)
    parts = []
    for index in range(2):
        node = BaselineFold(
            **files,
            index=index,
            explained=1,
            methods=['tbm', 'difference', 'exact'],
            random_seed=3,
        )
        parts.append(FoldMaps.load(Path(node.run().outputs.maps)))
    joined = join_folds(parts)
    kinds = [joined[name].kind for name in ('tbm', 'exact', 'difference')]
    assert kinds == [SIGNED, SIGNED, SIZE]
    assert sorted(joined['tbm'].images) == explained_images(cohort, 1, 3).tolist()
    train = np.concatenate([folds[0].train, folds[0].validation])
    controls = train[cohort.labels[train] == 0]
    volumes = registered_volumes(cohort.images[train], cohort.images[controls], GRID)
    wanted = contrast_map(volumes[:, cohort.mask], cohort.labels[train], studentised=True)
    assert np.abs(wanted).max() > 1
    values = cohort.images[train, 0].numpy()[:, cohort.mask]
    mean = contrast_map(values, cohort.labels[train])
    for image, tbm, difference in zip(
        parts[0].images, parts[0].values['tbm'], parts[0].values['difference'], strict=True
    ):
        assert image in folds[0].test
        # What patients have more of is injected into controls and removed from patients.
        sign = 1 if cohort.labels[image] == 0 else -1
        np.testing.assert_allclose(tbm, sign * wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(difference, sign * mean, rtol=1e-5, atol=1e-7)
    refits = joined['difference'].refits
    assert sorted(refits) == [0, 1]
    # Refits differ from each other, and their mean is near the map itself.
    assert refits[0].std(axis=0).mean() > 0.01
    assert np.corrcoef(refits[0].mean(axis=0), mean)[0, 1] > 0.9


class Linear(nn.Sequential):
    """A score without layers that DeepLift or Grad-CAM could use."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(512, 1))


@pytest.fixture
def network(monkeypatch, tmp_path: Path) -> str:
    """A classifier without layers, instead of a trained one."""
    monkeypatch.setattr('bids_interp.training.cohort.storage.load_result', lambda path: path.stem)
    monkeypatch.setattr(
        'bids_interp.bench.trained_networks.load_networks', lambda *given: (Linear().eval(), None)
    )
    (tmp_path / 'ours.safetensors').touch()
    return str(tmp_path / 'ours.safetensors')


def saliency(files: dict[str, str], method: str, index: int, result: str) -> str:
    node = SaliencyFold(
        **files, index=index, explained=1, random_seed=3, method=method, result=result, recipe={}
    )
    path = Path(node.run().outputs.maps)
    kept = path.with_name(f'{method}_{index}.safetensors')
    path.rename(kept)
    return str(kept)


def test_a_method_that_does_not_apply_has_a_reason_instead_of_maps(files, network):
    found = FoldMaps.load(Path(saliency(files, 'gradient', 0, network)))
    assert (list(found.values), found.classifiers) == (['gradient'], {'gradient': 'ours'})
    assert found.skipped == {}
    skipped = FoldMaps.load(Path(saliency(files, 'gradcam', 0, network)))
    assert (skipped.values, skipped.classifiers) == ({}, {})
    assert list(skipped.skipped) == ['gradcam']


def test_skipped_methods_have_no_rows(planted, files, network):
    rng = np.random.default_rng(2)
    truths = rng.normal(0, 0.1, planted.truths.shape).astype(np.float32)
    save_ground_truth(Path(files['ground_truth']), replace(planted, truths=truths))
    maps = [
        saliency(files, method, index, network)
        for method in ('gradient', 'gradcam')
        for index in (0, 1)
    ]
    node = ScoreScenario(
        **files, maps=maps, classifiers={}, recipe={}, draws=5, design=DESIGN, random_seed=0
    )
    scores = json.loads(Path(node.run().outputs.scores).read_text())
    assert {(row['method'], row['classifier']) for row in scores['rows']} == {('gradient', 'ours')}
    assert set(scores['skipped']) == {'gradcam'}


def test_a_brain_is_cut_out_and_keeps_its_place(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-10, -20, 5)
    data = np.random.default_rng(0).random((12, 14, 16)).astype(np.float32) + 1
    mask = np.zeros(data.shape, np.uint8)
    mask[3:8, 4:10, 0:5] = 1
    for name, values in (('t1w', data), ('mask', mask)):
        nib.save(nib.Nifti1Image(values, affine), tmp_path / f'{name}.nii.gz')
    matrix = (np.eye(4) * 1.1).tolist()
    (tmp_path / 'xfm.json').write_text(json.dumps({'Registration': {'native_to_template': matrix}}))
    entry = {
        'label': '01',
        't1w': str(tmp_path / 't1w.nii.gz'),
        'mask': str(tmp_path / 'mask.nii.gz'),
        'transform': str(tmp_path / 'xfm.json'),
    }
    table = tmp_path / 'brains.json'
    table.write_text(json.dumps([entry]))
    (brain,) = read_brains(table)
    assert brain.label == '01'
    np.testing.assert_allclose(brain.native_to_template, matrix)
    assert brain.data.shape == brain.grid.shape == (7, 8, 6)
    assert brain.data.sum() == pytest.approx((data * mask).sum(), rel=1e-5)
    place = brain.grid.affine @ [1, 1, 0, 1]
    np.testing.assert_allclose(place, affine @ [3, 4, 0, 1])
    assert brain.data[1, 1, 0] == data[3, 4, 0]


def test_answers_are_put_back_in_their_order(planted):
    cohort = planted.cohort
    folds = make_folds(cohort.labels, cohort.families, 2, 0)
    # The scales of the folds differ, so that only pairs within a fold can be compared.
    outputs = [
        (np.where(cohort.labels[fold.test] == 1, 3.0, 2.0) * (1 + 9 * index))[:, None]
        for index, fold in enumerate(folds)
    ]
    assert classifier_metrics(cohort, folds, outputs, 0)['auc']['value'] == 1.0
    wrong = [-part for part in outputs]
    assert classifier_metrics(cohort, folds, wrong, 0)['auc']['value'] == 0.0


@pytest.mark.slow
def test_registration_shows_what_is_smaller():
    """The template against itself with a smaller middle: negative there, nothing elsewhere."""
    from bids_interp.anatomical.deformation import register_log_jacobian

    grid = Grid(
        (20, 20, 20), np.array([[5.0, 0, 0, -47], [0, 5, 0, -47], [0, 0, 5, -47], [0, 0, 0, 1]])
    )
    points = grid.world_coordinates()

    def ball(radius: float, centre: tuple[float, float, float]) -> np.ndarray:
        away = np.linalg.norm(points - np.array(centre)[:, None, None, None], axis=0)
        return 1 / (1 + np.exp((away - radius) / 3))

    place, other = (15.0, 10.0, -5.0), (-15.0, -10.0, 5.0)
    brain = 0.5 * ball(40, (0, 0, 0)) + 0.3 * ball(12, other)
    found = register_log_jacobian(
        brain + 0.5 * ball(12, place), brain + 0.5 * ball(16, place), grid
    )
    assert found[ball(10, place) > 0.5].mean() < -0.3
    assert abs(found[ball(10, other) > 0.5].mean()) < 0.1
