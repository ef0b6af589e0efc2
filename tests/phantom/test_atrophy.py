from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_interp.errors import UsageError
from bids_interp.phantom.change.anatomy import sample_anatomy
from bids_interp.phantom.change.atrophy import fit_atrophy
from bids_interp.phantom.change.sham import draw_sham
from bids_interp.phantom.heads.subject import subject_displacement, subject_truth
from bids_interp.phantom.regions.coarse import region_mask
from bids_interp.spatial import (
    Grid,
    compose,
    count_folded,
    exponential,
    flow_log_jacobian,
    log_jacobian,
    warp,
)

GRID_3MM = Grid(
    (64, 64, 64),
    np.array([[3, 0, 0, -94.5], [0, 3, 0, -112], [0, 0, 3, -80], [0, 0, 0, 1]]),
    'MNI152NLin2009aSym',
)
EFFECT = {'hippocampus': -0.35, 'amygdala': -0.2}


def own_region(name: str, anatomy: np.ndarray | None) -> torch.Tensor:
    """Binary region carried by an anatomy's velocity, (1, 1, X, Y, Z)."""
    mask = torch.from_numpy(region_mask(name, GRID_3MM))[None, None]
    if anatomy is None:
        return mask
    return warp(mask, exponential(-torch.from_numpy(anatomy)[None], GRID_3MM), GRID_3MM)


@pytest.fixture(scope='module')
def atrophy():
    return fit_atrophy(GRID_3MM, EFFECT)


def test_planned_volumes_are_reached_and_the_whole_is_kept(atrophy):
    assert atrophy.rmse < 1e-3
    for name, change in EFFECT.items():
        assert atrophy.volume_change(name) == pytest.approx(change, abs=1e-3)
    truth = atrophy.log_jacobian().astype(np.float64)
    assert abs(np.expm1(truth).sum()) * GRID_3MM.voxel_volume < 50  # mm^3 of 7 million
    assert atrophy.volume_change('ventricles') > 0.1
    assert abs(atrophy.volume_change('thalamus')) < 0.05


@pytest.mark.parametrize(
    ('changes', 'absorb'),
    [({'thalamus_left': -0.15}, 'ventricles'), ({'ventricles': 0.3}, 'shell'), (EFFECT, 'csf')],
)
def test_other_effects_are_exact_too(changes, absorb):
    field = fit_atrophy(GRID_3MM, changes, absorb)
    assert field.rmse < 1e-3
    for name, change in changes.items():
        assert field.volume_change(name) == pytest.approx(change, abs=1e-3)
    if 'thalamus_left' in changes:
        assert abs(field.volume_change('thalamus_right')) < 0.01


def test_one_sided_effect_moves_towards_the_shrinking_side():
    field = fit_atrophy(GRID_3MM, {'thalamus_right': -0.15})
    x, y, z = GRID_3MM.world_coordinates()
    lateral = (abs(x - 24) < 3) & (abs(y + 18) < 6) & (abs(z - 8) < 6)
    assert field.at(1.0).forward[0][lateral].mean() < -0.1  # tissue moves inwards, to the left


def test_truth_at_any_severity_agrees_with_the_flow(atrophy):
    for severity in (-1.0, 0.5, 1.3):
        change = atrophy.at(severity)
        flow = flow_log_jacobian(torch.from_numpy(atrophy.velocity)[None] * severity, GRID_3MM)
        assert np.sqrt(((flow[0, 0].numpy() - change.log_jacobian) ** 2).mean()) < 1e-3
        there = compose(*(torch.from_numpy(u)[None] for u in change[:2]), GRID_3MM)
        assert float(there.abs().max()) < 0.1 * GRID_3MM.spacing.max()
    assert np.abs(atrophy.at(0.0).log_jacobian).max() == 0


def test_image_shrinks_when_pulled_back(atrophy):
    mask = own_region('hippocampus', None)
    moved = warp(mask, torch.from_numpy(atrophy.at(1.0).pull_back)[None], GRID_3MM)
    assert float(moved.sum() / mask.sum()) == pytest.approx(0.65, abs=0.03)


def test_effect_that_folds_is_refused_with_the_largest():
    grid = Grid(
        (40, 48, 40), np.array([[4, 0, 0, -78], [0, 4, 0, -112], [0, 0, 4, -70], [0, 0, 0, 1]])
    )
    with pytest.raises(UsageError, match=r'hippocampus -95%?.*hippocampus -\d') as caught:
        fit_atrophy(grid, {'hippocampus': -0.95})
    share = float(caught.value.advice.split('hippocampus -')[1].split('%')[0]) / 100
    assert 0.3 < share < 0.95
    fit_atrophy(grid, {'hippocampus': -share})


@pytest.mark.parametrize(
    ('changes', 'absorb', 'word'),
    [
        ({}, 'ventricles', '(?i)region'),
        ({'hippocampus': -1.0}, 'ventricles', 'hippocampus .*-100%'),
        ({'ventricles_left': 0.2}, 'ventricles', 'ventricles_left .* ventricles'),
        ({'hippocampus': -0.1}, 'air', "'air'.*: ventricles"),
        ({'hippo': -0.1}, 'ventricles', "'hippo'"),
    ],
)
def test_impossible_plans_are_refused(changes, absorb, word):
    with pytest.raises(UsageError, match=word):
        fit_atrophy(GRID_3MM, changes, absorb)


def test_sham_moves_as_far_but_changes_no_volume(atrophy):
    rng = np.random.default_rng(3)
    first, second = draw_sham(atrophy, rng), draw_sham(atrophy, rng)
    assert not np.allclose(first.velocity, second.velocity)
    for field in (first, second):
        speed = [np.sqrt((f.velocity**2).sum(axis=0).mean()) for f in (field, atrophy)]
        assert speed[0] == pytest.approx(speed[1], rel=1e-3)
        assert count_folded(torch.from_numpy(field.at(1).forward)[None], GRID_3MM) == 0
        for name in ('hippocampus', 'amygdala', 'ventricles'):
            assert abs(field.volume_change(name)) < 5e-3, name


def test_subject_shrinks_where_its_own_anatomy_is(atrophy):
    anatomy = sample_anatomy(GRID_3MM, np.random.default_rng(1))
    displacement, truth = subject_displacement(anatomy, atrophy, 1.0, GRID_3MM)
    before = own_region('hippocampus', anatomy)
    after = warp(own_region('hippocampus', None), torch.from_numpy(displacement)[None], GRID_3MM)
    observed = float(after.sum() / before.sum()) - 1
    weight = before[0, 0].numpy()
    planted = float((np.expm1(truth) * weight).sum() / weight.sum())
    assert planted == pytest.approx(-0.33, abs=0.04)
    assert observed == pytest.approx(planted, abs=0.03)


def test_subject_truth_is_that_of_the_composed_map(atrophy):
    anatomy = sample_anatomy(GRID_3MM, np.random.default_rng(2))
    own = torch.from_numpy(anatomy)[None]
    parts = [
        exponential(-own, GRID_3MM),
        torch.from_numpy(atrophy.at(1).forward)[None],
        exponential(own, GRID_3MM),
    ]
    forward = compose(compose(parts[0], parts[1], GRID_3MM), parts[2], GRID_3MM)
    inject = subject_truth(anatomy, atrophy, 1.0, 'inject')
    direct = log_jacobian(forward, GRID_3MM)[0, 0].numpy()
    inner = (slice(8, -8),) * 3
    assert np.sqrt(((inject - direct)[inner] ** 2).mean()) < 5e-3
    # What the removal undoes at the place where a point has gone is what the injection did.
    remove = torch.from_numpy(subject_truth(anatomy, atrophy, 1.0, 'remove'))[None, None]
    back = warp(remove, forward, GRID_3MM)[0, 0].numpy()
    assert np.sqrt(((inject + back)[inner] ** 2).mean()) < 5e-3
    assert inject.min() < -0.3 < 0.3 < float(remove.max())


def test_healthy_subject_has_no_truth_and_needs_the_plans_grid(atrophy):
    anatomy = sample_anatomy(GRID_3MM, np.random.default_rng(2))
    healthy = subject_displacement(anatomy, atrophy, 0.0, GRID_3MM)
    assert not healthy.log_jacobian.any()
    own = exponential(-torch.from_numpy(anatomy)[None], GRID_3MM)[0].numpy()
    np.testing.assert_allclose(healthy.displacement, own, atol=1e-5)
    with pytest.raises(UsageError, match='grid'):
        subject_displacement(None, atrophy, 1.0, GRID_3MM.with_spacing(4.0))
    with pytest.raises(UsageError, match="'sideways'"):
        subject_truth(None, atrophy, 1.0, 'sideways')


def test_anatomy_is_the_same_on_every_grid_and_does_not_fold():
    coarse = Grid((32, 32, 32), GRID_3MM.affine @ np.diag([2, 2, 2, 1]))
    fine = sample_anatomy(GRID_3MM, np.random.default_rng(5))
    np.testing.assert_allclose(
        sample_anatomy(coarse, np.random.default_rng(5)), fine[:, ::2, ::2, ::2], atol=1e-4
    )
    assert fine.std() == pytest.approx(2.5, rel=0.2)
    assert count_folded(exponential(torch.from_numpy(fine)[None], GRID_3MM), GRID_3MM) == 0


def test_anatomy_that_would_fold_or_leave_the_box_is_refused():
    with pytest.raises(UsageError, match=r'\b10 mm'):
        sample_anatomy(GRID_3MM, np.random.default_rng(0), amplitude_mm=10)
    big = Grid((128, 128, 128), np.diag([3.0, 3, 3, 1]))
    with pytest.raises(UsageError, match=r'\[-?\d.*\] .*\[\d.*\] mm'):
        sample_anatomy(big, np.random.default_rng(0))
