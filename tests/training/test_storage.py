"""What is handed from node to node comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_interp.errors import TrainingError
from bids_interp.models.bundle.fold_metrics import (
    ContrastValidity,
    DirectionValidity,
    FoldMetrics,
    SimulatorMetrics,
)
from bids_interp.models.bundle.writer import TrainedFold
from bids_interp.models.preprocessing import Preprocessing
from bids_interp.training.cohort import storage
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.gather import gather_cohort, split_cohort
from bids_interp.training.fold import FoldResult
from helpers.balls import GRID, binary_cohort, folds_of, regression_cohort, several_cohort


@pytest.mark.parametrize('make', [binary_cohort, several_cohort, regression_cohort])
def test_a_cohort(make, tmp_path: Path) -> None:
    cohort: Cohort = make()
    storage.save_cohort(tmp_path / 'c.safetensors', cohort)
    again = storage.load_cohort(tmp_path / 'c.safetensors')
    assert torch.equal(again.images, cohort.images)
    assert np.array_equal(again.labels, cohort.labels)
    assert again.labels.dtype.kind == ('f' if cohort.target.kind == 'regression' else 'i')
    assert np.array_equal(again.families, cohort.families)
    assert np.array_equal(again.mask, cohort.mask)
    assert again.mask.dtype == bool
    assert (again.keys, again.names, again.target) == (cohort.keys, cohort.names, cohort.target)
    assert again.preprocessing == cohort.preprocessing
    assert np.array_equal(again.grid.affine, cohort.grid.affine)
    assert (again.grid.shape, again.grid.space) == (cohort.grid.shape, cohort.grid.space)


def test_participants_are_known_by_their_keys(tmp_path: Path) -> None:
    """Two sessions of one, a scan that nobody is known for, another one of somebody else."""
    cohort = replace(
        binary_cohort(4),
        keys=(('image:a', 'subject:x/1'), ('image:b', 'subject:x/1'), (), ('subject:x/0',)),
    )
    storage.save_cohort(tmp_path / 'c.safetensors', cohort)
    people = storage.load_cohort(tmp_path / 'c.safetensors').participants
    assert people.tolist() == [0, 0, 1, 2]
    assert replace(cohort, keys=((),) * 4).participants.tolist() == [0, 1, 2, 3]


def test_folds(tmp_path: Path) -> None:
    folds = folds_of(binary_cohort(), 3)
    storage.save_folds(tmp_path / 'f.safetensors', folds)
    again = storage.load_folds(tmp_path / 'f.safetensors')
    assert len(again) == 3
    for one, two in zip(folds, again, strict=True):
        for part in ('train', 'validation', 'test'):
            assert np.array_equal(getattr(one, part), getattr(two, part))


def test_a_result(tmp_path: Path) -> None:
    # A view that is not contiguous, a counter that is no float, contrasts, and a None in metrics.
    weights = {'a.weight': torch.rand(4, 3).t(), 'a.count': torch.tensor(7)}
    side = DirectionValidity(3, 0.5, 1.25)
    moved = SimulatorMetrics(validity=[ContrastValidity('a-b', None, side)])
    metrics = FoldMetrics(5, 3, 2, moved)
    trained = TrainedFold(
        weights, {'template': torch.rand(2, 3)}, 1.5, [1.0, 2.5], metrics, [0.5, -1.0]
    )
    maps = {'inject': np.random.default_rng(0).random(GRID.shape).astype(np.float32)}
    result = FoldResult(trained, np.random.default_rng(1).random((5, 3)), maps)
    storage.save_result(tmp_path / 'r.safetensors', result)
    again = storage.load_result(tmp_path / 'r.safetensors')
    assert again.trained.classifier.keys() == weights.keys()
    assert all(torch.equal(v, weights[n]) for n, v in again.trained.classifier.items())
    assert again.trained.classifier['a.count'].dtype == torch.int64
    assert torch.equal(again.trained.simulator['template'], trained.simulator['template'])
    assert (again.trained.temperature, again.trained.class_gap) == (1.5, [1.0, 2.5])
    assert again.trained.intercept == [0.5, -1.0]
    assert again.trained.metrics == metrics
    assert np.array_equal(again.test_outputs, result.test_outputs)
    assert np.array_equal(again.maps['inject'], maps['inject'])


def test_a_result_of_a_given_classifier_has_no_weights_of_it(tmp_path: Path) -> None:
    trained = TrainedFold({}, {'template': torch.rand(2)}, 1.0, 2.0, FoldMetrics(2, 1, 1))
    result = FoldResult(trained, np.zeros((1, 1)), {})
    storage.save_result(tmp_path / 'r.safetensors', result)
    assert storage.load_result(tmp_path / 'r.safetensors').trained.classifier == {}


def test_an_input_appears_when_it_is_whole(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / 'inputs' / 'sub-01.safetensors'
    image = torch.rand(1, 1, *GRID.shape)
    storage.save_input(path, image)
    assert torch.equal(storage.load_input(path), image)

    def dies(tensors, partial, metadata) -> None:
        partial.write_bytes(b'half')
        raise OSError('ENOSPC')

    monkeypatch.setattr(storage, 'save_file', dies)
    with pytest.raises(OSError, match='ENOSPC'):
        storage.save_input(path, image + 1)
    assert torch.equal(storage.load_input(path), image)
    assert not list(path.parent.glob('sub-*half*'))


def described(cohort: Cohort, folder: Path) -> tuple[list[Path], Path, dict]:
    """Inputs, context and table, as the workflow has them."""
    paths = []
    for name, image in zip(cohort.names, cohort.images, strict=True):
        paths.append(folder / f'{name}.safetensors')
        storage.save_input(paths[-1], image[None])
    context = folder / 'context.safetensors'
    storage.save_input_space(context, GRID, cohort.mask, Preprocessing('zscore'))
    table = {
        'target': cohort.target.to_dict(),
        'names': list(cohort.names),
        'labels': [float(label) for label in cohort.labels],
        'families': [f'family {family}' for family in cohort.families],
        'keys': [list(keys) for keys in cohort.keys],
        'strata': [],
    }
    return paths, context, table


@pytest.mark.parametrize('make', [several_cohort, regression_cohort])
def test_gathered(make, tmp_path: Path) -> None:
    cohort: Cohort = make()
    paths, context, table = described(cohort, tmp_path)
    again = gather_cohort(paths, context, table)
    assert torch.equal(again.images, cohort.images)
    assert np.allclose(again.labels, cohort.labels)
    assert again.target == cohort.target
    assert again.preprocessing == Preprocessing('zscore')
    # Names of families become numbers; who is together stays together.
    same = cohort.families[:, None] == cohort.families[None]
    assert np.array_equal(again.families[:, None] == again.families[None], same)


def test_an_input_of_another_grid_is_refused(tmp_path: Path) -> None:
    cohort = binary_cohort(4)
    paths, context, table = described(cohort, tmp_path)
    for path in paths:
        storage.save_input(path, torch.rand(1, 1, 8, 8, 8))
    with pytest.raises(TrainingError, match=r'\(1, 8, 8, 8\).*\(16, 16, 16\)'):
        gather_cohort(paths, context, table)


def test_a_regression_is_balanced_by_its_quarters() -> None:
    cohort = regression_cohort(80)
    folds = folds_of(cohort, 4)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(80))
    means = [cohort.labels[fold.test].mean() for fold in folds]
    assert np.ptp(means) < 0.3 * cohort.target.sd
    for fold in folds:
        assert not set(cohort.families[fold.test]) & set(cohort.families[fold.train])


def test_covariates_balance_the_folds() -> None:
    cohort = binary_cohort(96)
    sex = np.where(cohort.families % 4 < 2, 'F', 'M')
    folds = split_cohort(cohort, {'strata': [sex.tolist()]}, 4, seed=0)
    assert np.ptp([(sex[fold.test] == 'F').mean() for fold in folds]) < 0.15
