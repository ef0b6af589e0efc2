from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bids_interp.bench.method_maps import LOG_JACOBIAN, SIGNED, SIZE, MethodMaps
from bids_interp.bench.records import EXPLAINED, TRAINING, ImageScores, Score
from bids_interp.bench.scenario_scores import MEANS, GroundTruth, score_scenario
from bids_interp.bench.truth_scores import SALIENCY_SMOOTHING_MM, score_map
from bids_interp.evaluation.personal_share import personal_share
from bids_interp.spatial import Grid

GRID = Grid((10, 12, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
POINTS = GRID.world_coordinates()
MASK = np.linalg.norm(POINTS - 20, axis=0) < 18
LABELS = np.arange(12) % 2
FAMILIES = np.arange(12) // 2
FOLDS = FAMILIES % 3


def bump(centre: float) -> np.ndarray:
    return np.exp(-((POINTS - centre) ** 2).sum(axis=0) / 60).astype(np.float32)


def ground_truth(null: bool = False) -> GroundTruth:
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.7, 1.3, 12) * np.where(LABELS == 1, 1, -1) * 0.3
    truths = np.stack([size * bump(20) for size in sizes]) * (not null)
    return GroundTruth(LABELS, FAMILIES, truths.astype(np.float32), GRID, MASK)


def method(volumes: np.ndarray, kind: str = LOG_JACOBIAN, classifier: str = '') -> MethodMaps:
    values = volumes[:, MASK].astype(np.float32)
    return MethodMaps(kind, np.arange(12), FOLDS, values, classifier)


def noisy(size: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, size, (12, *GRID.shape))
    return ground_truth().truths + noise


def pick(rows, method: str, metric: str, direction: str = 'both') -> Score:
    (found,) = [
        row
        for row in rows
        if (row.method, row.metric, row.direction) == (method, metric, direction)
    ]
    return found


def image_rows(value: float) -> list[ImageScores]:
    return [
        ImageScores(
            image=index,
            direction='remove' if label else 'inject',
            **dict.fromkeys(MEANS, value + label) | {'roi_error_percent': np.nan},
        )
        for index, label in enumerate(LABELS)
    ]


@pytest.fixture(scope='module')
def scores():
    maps = {
        'ours': method(noisy(0.02, 1)),
        'tbm': method(noisy(0.4, 2), SIGNED),
        'gradient': method(noisy(0.2, 3), SIZE),
    }
    return score_scenario(maps, {'ours': image_rows(0.5)}, ground_truth(), draws=200, seed=1)


def test_the_group_ncc_is_that_of_the_mean_maps(scores):
    truths = ground_truth().truths
    for direction, label in (('inject', 0), ('remove', 1)):
        own = label == LABELS
        wanted = score_map(noisy(0.02, 1)[own].mean(0), truths[own].mean(0), MASK)
        row = pick(scores.rows, 'ours', 'ncc_group', direction)
        assert row.value == pytest.approx(wanted.ncc, abs=1e-5)
        assert row.low <= row.value + 0.02
        assert row.low < row.high <= 1
        sign = pick(scores.rows, 'ours', 'sign_accuracy', direction)
        assert sign.value == pytest.approx(wanted.sign_accuracy)
        assert np.isnan(sign.low)
    sides = [pick(scores.rows, 'ours', 'ncc_group', d).value for d in ('inject', 'remove')]
    assert pick(scores.rows, 'ours', 'ncc_group').value == pytest.approx(np.mean(sides))


def test_unsigned_maps_are_smoothed_where_that_helps(scores):
    own = LABELS == 0
    found = np.abs(noisy(0.2, 3)[own]) * MASK
    wanted = np.abs(ground_truth().truths[own]).mean(0)
    smoothed = gaussian_filter(found.mean(0), SALIENCY_SMOOTHING_MM / GRID.spacing)
    best = score_map(smoothed, wanted, MASK, signed=False).ncc
    plain = score_map(found.mean(0), wanted, MASK, signed=False).ncc
    row = pick(scores.rows, 'gradient', 'ncc_group', 'inject')
    assert row.value == pytest.approx(best, abs=1e-4)
    assert row.value > plain
    assert np.isnan(pick(scores.rows, 'gradient', 'sign_accuracy', 'inject').value)


def test_only_log_jacobians_have_an_off_target_change(scores):
    found = {row.method for row in scores.rows if row.metric == 'off_target_percent'}
    assert found == {'ours'}
    signs = {
        row.method
        for row in scores.rows
        if np.isfinite(row.value) and row.metric == 'sign_accuracy'
    }
    assert signs == {'ours', 'tbm'}


def test_gains_are_paired(scores):
    values = [pick(scores.rows, name, 'ncc_group') for name in ('ours', 'tbm')]
    gain = pick(scores.rows, 'tbm', 'gain_ncc_group')
    assert gain.value == pytest.approx(values[0].value - values[1].value)
    assert 0 < gain.low <= gain.value <= gain.high
    assert not [
        row for row in scores.rows if row.metric.startswith('gain') and row.method == 'ours'
    ]


def test_equal_methods_have_no_gain():
    maps = {name: method(noisy(0.1, 4)) for name in ('ours', 'tbm')}
    rows = score_scenario(maps, {}, ground_truth(), draws=50).rows
    gain = pick(rows, 'tbm', 'gain_ncc_single')
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_numbers_of_images_are_averaged(scores):
    assert pick(scores.rows, 'ours', 'crosses', 'inject').value == 0.5
    assert pick(scores.rows, 'ours', 'crosses', 'remove').value == 1.5
    assert pick(scores.rows, 'ours', 'crosses').value == 1.0
    assert not [row for row in scores.rows if row.metric == 'roi_error_percent']


def test_the_group_maps_are_kept(scores):
    assert {'truth.inject', 'truth.remove', 'ours.inject', 'gradient.remove'} <= set(scores.maps)
    truth = scores.maps['truth.inject']
    np.testing.assert_allclose(truth, ground_truth().truths[LABELS == 0].mean(0) * MASK, atol=1e-6)


def test_where_nothing_is_planted_only_what_is_found_counts():
    volumes = np.zeros((12, *GRID.shape))
    volumes[:, 5, 5, 5] = 0.1
    # Two folds against one.
    volumes[FOLDS == 0, 4, 5, 5] = 0.3
    volumes[FOLDS == 1, 4, 5, 5] = -0.1
    # All folds agree, but only one of the two images in each.
    volumes[:, 6, 5, 5] = np.where(FAMILIES < 3, 0.3, -0.1)
    # Just below two percent.
    volumes[:, 5, 6, 5] = 0.0199
    maps = {
        'ours': method(volumes),
        'gradient': method(volumes, SIZE),
        'tbm': method(volumes, SIGNED),
    }
    rows = score_scenario(maps, {}, ground_truth(null=True), draws=20).rows
    metrics = {'reliable_percent', 'agreeing_percent', 'off_target_percent'}
    assert {row.metric for row in rows} == metrics
    found = pick(rows, 'ours', 'reliable_percent', 'inject').value
    assert found == pytest.approx(100 / MASK.sum())
    assert {row.method for row in rows} == {'ours'}


def test_a_classifier_at_chance_has_no_reliable_voxel():
    volumes = np.zeros((12, *GRID.shape))
    volumes[:, 5, 5, 5] = 0.1
    maps = {'ours': method(volumes), 'ipmi2021': method(volumes)}
    warranted = {'ours': False, 'ipmi2021': True}
    rows = score_scenario(maps, {}, ground_truth(null=True), draws=20, warranted=warranted).rows
    agreeing = pick(rows, 'ours', 'agreeing_percent', 'inject').value
    assert agreeing == pytest.approx(100 / MASK.sum())
    assert pick(rows, 'ours', 'reliable_percent', 'inject').value == 0.0
    assert pick(rows, 'ipmi2021', 'reliable_percent', 'inject').value == agreeing


def test_every_row_names_the_network_that_it_is_about():
    maps = {
        'ours': method(noisy(0.02, 1), classifier='ours'),
        'gradient': method(noisy(0.2, 3), SIZE, 'ours'),
        'ipmi2021': method(noisy(0.2, 5), classifier='ipmi2021'),
        'tbm': method(noisy(0.4, 2), SIGNED),
    }
    rows = score_scenario(maps, {'ours': image_rows(0.5)}, ground_truth(), draws=20).rows
    found = {row.method: {r.classifier for r in rows if r.method == row.method} for row in rows}
    assert found == {
        'ours': {'ours'}, 'gradient': {'ours'}, 'ipmi2021': {'ipmi2021'}, 'tbm': {''}
    }  # fmt: skip
    assert {row.metric for row in rows if row.method == 'ipmi2021'} >= {
        'ncc_group', 'ncc_single', 'gain_ncc_group', 'average_precision'
    }  # fmt: skip


SUBTYPES = np.where(LABELS == 1, (np.arange(12) // 2) % 2, -1)


def with_subtypes() -> GroundTruth:
    """Patients of two subtypes that differ in place, and controls between them."""
    truths = np.stack(
        [
            -0.15 * (bump(14) + bump(26)) if label == 0 else 0.3 * bump(14 if subtype == 0 else 26)
            for label, subtype in zip(LABELS, SUBTYPES, strict=True)
        ]
    )
    return GroundTruth(LABELS, FAMILIES, truths.astype(np.float32), GRID, MASK, SUBTYPES)


@pytest.fixture(scope='module')
def personal():
    reference = with_subtypes()
    common = np.stack([reference.truths[label == LABELS].mean(axis=0) for label in LABELS])
    wrong = reference.truths.copy()
    wrong[LABELS == 1] = reference.truths[LABELS == 1][::-1]
    maps = {
        'ours': method(reference.truths),
        'oracle': method(reference.truths, SIGNED),
        'tbm': method(common, SIGNED),
        'ipmi2021': method(wrong),
        'gradient': method(-np.abs(reference.truths), SIZE),
    }
    return score_scenario(maps, {}, reference, draws=50, seed=1).rows


@pytest.mark.parametrize(
    ('name', 'area'), [('ours', 1.0), ('tbm', 0.5), ('ipmi2021', 0.0), ('gradient', 1.0)]
)
def test_maps_name_the_subtype_of_their_own_person(personal, name, area):
    assert pick(personal, name, 'subtype_auc', 'remove').value == area
    share = pick(personal, name, 'subtype_auc_share', 'remove')
    assert share.value == area
    assert share.low <= area <= share.high
    assert not [r for r in personal if r.method == 'oracle' and r.metric == 'subtype_auc_share']


def test_the_same_map_for_everybody_is_not_personal(personal):
    assert pick(personal, 'tbm', 'personal_share', 'remove').value == pytest.approx(0, abs=1e-6)
    assert pick(personal, 'tbm', 'between_subject_ncc', 'remove').value == pytest.approx(1)
    values = with_subtypes().truths[:, MASK]
    # Each of the three folds explains two patients, one of each subtype or both of one.
    wanted = [personal_share(values[(LABELS == 1) & (fold == FOLDS)]).mean() for fold in range(3)]
    assert pick(personal, 'ours', 'personal_share', 'remove').value == pytest.approx(
        np.mean(wanted), abs=1e-6
    )
    assert pick(personal, 'ours', 'personal_share', 'remove').value > 0.2


def test_one_change_has_no_subtypes(scores):
    assert not [row for row in scores.rows if row.metric.startswith('subtype')]
    assert pick(scores.rows, 'ours', 'personal_share', 'inject').value > 0


def refitted(size: float) -> MethodMaps:
    """Maps of one pattern, and refits of each fold that differ from it by noise."""
    rng = np.random.default_rng(5)
    signs = np.where(LABELS == 1, 1.0, -1.0)[:, None]
    pattern = (-0.3 * bump(20))[MASK]
    refits = {
        fold: (pattern + rng.normal(0, size, (40, MASK.sum()))).astype(np.float32)
        for fold in range(3)
    }
    values = (-signs * pattern + rng.normal(0, 0.05, (12, MASK.sum()))).astype(np.float32)
    return MethodMaps(LOG_JACOBIAN, np.arange(12), FOLDS, values, '', refits)


def test_intervals_of_refits_include_the_training_brains():
    widths = {}
    for size in (0.01, 0.2):
        maps = {'ours': method(noisy(0.05, 1)), 'tbm': refitted(size)}
        rows = score_scenario(maps, {}, ground_truth(), draws=60).rows
        for direction in ('inject', 'remove', 'both'):
            row = pick(rows, 'tbm', 'ncc_group', direction)
            assert row.covers == TRAINING
            assert row.low <= row.value <= row.high
        widths[size] = row.high - row.low
        assert pick(rows, 'ours', 'ncc_group').covers == EXPLAINED
        assert pick(rows, 'ours', 'sign_accuracy', 'inject').covers == ''
    assert widths[0.2] > 3 * widths[0.01]
