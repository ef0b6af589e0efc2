"""Maps are destroyed with the classifier and with the labels; another seed keeps them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bids_interp.evaluation.stability import stability_maps
from bids_interp.models.networks.registry import Ensemble, build_classifier
from bids_interp.training.cohort import storage
from bids_interp.training.cohort.cohort import Cohort
from bids_interp.training.cohort.folds import Fold
from bids_interp.training.fold import FoldResult, FoldWorkspace, train_fold
from bids_interp.training.null_models import (
    exchange_cohort_labels,
    label_association,
    layers_of,
    randomised,
)
from bids_interp.training.sanity import Sanity, check_fold
from helpers.balls import (
    CLASSIFIER,
    RECIPE,
    SIMULATOR,
    ball,
    binary_cohort,
    folds_of,
    regression_cohort,
    several_cohort,
)

SHORT = replace(
    RECIPE,
    classifier=replace(CLASSIFIER, steps=30, validate_every=15),
    simulator=replace(SIMULATOR, template_steps=20),
)


def eight_balls(count: int = 24) -> Cohort:
    """Eight balls of random sizes; one of them is smaller in patients."""
    rng = np.random.default_rng(0)
    corners = list(product((-14, 14), repeat=3))
    labels = np.arange(count) // 2 % 2
    images = []
    for label in labels:
        radii = rng.normal(9, 1, len(corners))
        radii[0] -= 3 * label
        pieces = [ball(radius, corner) for radius, corner in zip(radii, corners, strict=True)]
        images.append(torch.stack(pieces).sum(dim=0))
    return replace(binary_cohort(count), images=torch.stack(images), labels=labels)


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Fold, FoldResult]:
    cohort = eight_balls()
    fold = folds_of(cohort)[0]
    workspace = FoldWorkspace(tmp_path_factory.mktemp('fold'))
    return cohort, fold, train_fold(cohort, fold, 0, SHORT, workspace, seed=1)


@pytest.fixture(scope='module')
def checked(trained, tmp_path_factory: pytest.TempPathFactory) -> Sanity:
    workspace = FoldWorkspace(tmp_path_factory.mktemp('sanity'))
    cohort, fold, result = trained
    return check_fold(cohort, fold, 0, SHORT, result, workspace, seed=1)


def test_maps_vanish_with_the_classifier_and_the_labels_alone(checked: Sanity) -> None:
    metrics = checked.metrics
    assert [row.layers for row in metrics.randomised] == [1, 2, 3]
    assert all(row.of == 3 for row in metrics.randomised)
    assert metrics.second_seed.ncc > 0.8
    assert metrics.original_ncc > 0.9
    # With eight structures chance alone correlates now and then.
    assert abs(metrics.randomised[-1].ncc) < 0.5
    assert abs(metrics.permuted_labels.ncc) < 0.5
    assert metrics.permuted_labels.association < 0.1
    assert (metrics.limit, metrics.fold, metrics.steps) == (0.2, 0, 20)
    assert metrics.left_out == {}


def test_what_is_above_the_limit_is_named(checked: Sanity) -> None:
    metrics = checked.metrics
    scores = {
        'randomised': metrics.randomised[-1].ncc,
        'permuted_labels': metrics.permuted_labels.ncc,
    }
    assert metrics.above_limit == [name for name, s in scores.items() if abs(s) >= 0.2]


def test_every_check_leaves_its_map(checked: Sanity, trained, tmp_path: Path) -> None:
    assert set(checked.maps) == {
        'original',
        'randomised1',
        'randomised2',
        'randomised3',
        'permuted_labels',
        'second_seed',
    }
    assert all(np.abs(data).max() > 1e-3 for data in checked.maps.values())
    storage.save_sanity(tmp_path / 's.safetensors', checked)
    again = storage.load_sanity(tmp_path / 's.safetensors')
    assert again.metrics == checked.metrics
    for name, data in checked.maps.items():
        np.testing.assert_array_equal(again.maps[name], data)


def test_a_given_classifier_is_not_trained_again(trained, tmp_path: Path) -> None:
    cohort, fold, result = trained
    network = build_classifier('robust', cohort.grid.shape, channels=(4, 8), dropout=0.0)
    network.load_state_dict(result.trained.classifier)
    network.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = check_fold(
        cohort, fold, 0, SHORT, result, FoldWorkspace(tmp_path), seed=1, external=network, steps=1
    )
    assert set(found.metrics.left_out) == {'permuted_labels', 'second_seed'}
    assert found.metrics.second_seed is None
    assert len(found.metrics.randomised) == 3
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())


def test_layers_begin_with_weights_and_end_with_their_normalisation() -> None:
    network = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.ELU(), nn.Linear(4, 1)
    )
    assert [[p.dim() for p in layer] for layer in layers_of(network)] == [[5, 1, 1, 1], [2, 1]]
    assert layers_of(nn.Sequential(nn.ELU())) == []


def test_only_the_last_layers_become_noise_of_the_same_scale() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(40, 40), nn.ELU(), nn.Linear(40, 40))
    noisy = randomised(network, 1, seed=3)
    assert torch.equal(noisy[0].weight, network[0].weight)
    before, after = network[2].weight, noisy[2].weight
    assert float(np.corrcoef(before.detach().ravel(), after.ravel())[0, 1]) < 0.1
    assert float(after.std()) == pytest.approx(float(before.detach().std()), rel=0.1)
    assert not after.requires_grad
    assert before.requires_grad
    assert not torch.equal(randomised(network, 2, seed=3)[0].weight, network[0].weight)
    assert torch.equal(randomised(network, 1, seed=3)[2].weight, after)
    assert not torch.equal(randomised(network, 1, seed=4)[2].weight, after)


def test_an_ensemble_is_checked_member_by_member(trained, tmp_path: Path) -> None:
    cohort, fold, result = trained
    torch.manual_seed(0)
    members = [build_classifier('robust', cohort.grid.shape, channels=(4,)) for _ in range(2)]
    twins = Ensemble(members).eval().requires_grad_(False)
    recipe = replace(
        SHORT, members=2, classifier=replace(CLASSIFIER, arguments={'channels': (4,)}, steps=1)
    )
    own = replace(result, trained=replace(result.trained, classifier=twins.state_dict()))
    found = check_fold(cohort, fold, 0, recipe, own, FoldWorkspace(tmp_path), seed=1, steps=1)
    assert [row.of for row in found.metrics.randomised] == [2, 2]


@pytest.mark.parametrize('make', [binary_cohort, several_cohort, regression_cohort, eight_balls])
def test_exchanged_labels_stay_in_their_part_and_tell_nothing(make) -> None:
    cohort = make()
    fold = folds_of(cohort)[0]
    other = exchange_cohort_labels(cohort, fold, seed=5)
    for part in (fold.train, fold.validation, fold.test):
        assert sorted(other.labels[part]) == sorted(cohort.labels[part])
    truth, labels = cohort.labels[fold.train], other.labels[fold.train]
    assert label_association(labels, truth, cohort.target.kind) < 0.25
    assert not np.array_equal(labels, truth)
    if make is eight_balls:
        # Two images of one family have one label.
        assert np.array_equal(other.labels[::2], other.labels[1::2])


def test_exchanged_labels_never_leave_their_part() -> None:
    """Every family has a value of its own, so that a single one in another part is seen."""
    cohort = replace(regression_cohort(40), labels=np.repeat(np.arange(20.0), 2))
    fold = folds_of(cohort)[0]
    labels = exchange_cohort_labels(cohort, fold, seed=5).labels
    assert not np.array_equal(labels, cohort.labels)
    for part in (fold.train, fold.validation, fold.test):
        assert sorted(labels[part]) == sorted(cohort.labels[part])


def test_scans_of_a_sibling_get_one_exchanged_label() -> None:
    """Families of two siblings with two scans each, one of them ill."""
    siblings = np.arange(32) // 2
    cohort = replace(
        binary_cohort(32),
        labels=siblings % 2,
        families=siblings // 2,
        keys=tuple((f'subject:{sibling}',) for sibling in siblings),
    )
    labels = exchange_cohort_labels(cohort, folds_of(cohort)[0], seed=5).labels
    assert np.array_equal(labels[::2], labels[1::2])
    assert not np.array_equal(labels, cohort.labels)


def test_association_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    assert label_association(np.array([0, 0, 1, 0, 1, 1]), truth, 'binary') == pytest.approx(1 / 3)
    assert label_association(np.zeros(6), truth, 'binary') == 0.0
    values = np.array([1.0, 2.0, 3.0])
    assert label_association(-values, values, 'regression') == pytest.approx(1.0)


def test_stability_maps_by_hand() -> None:
    maps = [np.array([[[0.3, -1.0, 0.0]]]), np.array([[[0.1, 2.0, 0.0]]])]
    found = stability_maps(maps)
    np.testing.assert_allclose(found['mean'], [[[0.2, 0.5, 0.0]]], atol=1e-6)
    np.testing.assert_allclose(found['sd'][0, 0], np.sqrt([0.02, 4.5, 0.0]), atol=1e-6)
    np.testing.assert_allclose(found['samesign'], [[[1.0, 0.5, 0.0]]])
    with pytest.raises(ValueError, match='maps'):
        stability_maps(maps[:1])
