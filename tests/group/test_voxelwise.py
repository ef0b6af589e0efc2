"""The voxel-wise model finds what is planted, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from bids_interp.errors import UsageError
from bids_interp.group.maps.descriptive import summarise_maps
from bids_interp.group.maps.map_reader import MaskedGrid, find_masked_grid
from bids_interp.group.maps.named_regions import embedded_regions
from bids_interp.group.statistics.voxelwise import (
    NO_DIFFERENCE,
    check_maps_differ,
    coarsen,
    max_t,
    max_tfce,
    voxelwise_glm,
)
from helpers import cohorts


def test_voxelwise_model_has_the_group_in_it(patients, analysis_of) -> None:
    """Maps that differ by group alone do not follow a number that differs by group, too."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tmmse']
    analysis = analysis_of(patients)
    for index, scan in enumerate(analysis.included):
        group = patients.labels[index]
        lines.append(f'sub-{scan.subject}\t{group}\t{28 - 4 * (group == "patient") + rng.normal()}')
        values = cohorts.truth() * (1.5 if group == 'patient' else 1.0)
        values = values + 0.02 * rng.standard_normal(values.shape)
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, voxelwise=('mmse',))
    facts, _, _ = voxelwise_glm(analysis, 'inject100', 'mmse', find_masked_grid(analysis.included))
    assert facts['beside'] == ['group']
    assert facts['least_p'] > 0.05
    cohorts.write_column(patients, 'dose', {'patient': '1', 'control': '0'})
    analysis = analysis_of(patients, voxelwise=('dose',))
    facts, _, _ = voxelwise_glm(analysis, 'inject100', 'dose', find_masked_grid(analysis.included))
    assert re.fullmatch(r'dose: .* group', facts['not_tested'])


def test_voxelwise_model_on_a_number(patients, analysis_of) -> None:
    """Where the maps follow a number the model finds it, and only there."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tduration']
    analysis = analysis_of(patients)
    where = (slice(4, 8), slice(8, 12), slice(8, 12))
    for index, scan in enumerate(analysis.included):
        lines.append(f'sub-{scan.subject}\t{patients.labels[index]}\t{index}')
        values = cohorts.truth() + 0.02 * rng.standard_normal(cohorts.truth().shape)
        values[where] += 0.02 * index
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, voxelwise=('duration',))
    masked = find_masked_grid(analysis.included)
    facts, maps, coarse = voxelwise_glm(analysis, 'inject100', 'duration', masked)
    assert facts['not_tested'] == ''
    assert facts['ErrorControl'].startswith('strong')
    assert facts['personal_share'] > 0.05
    assert not facts['common']
    p = np.ones(coarse.grid.shape)
    p[coarse.inside] = maps['p']
    assert p[where].min() < 0.05
    outside = np.ones(p.shape, bool)
    outside[where] = False
    assert (p[outside] < 0.05).mean() < 0.02
    assert set(maps) == {'t', 'p'}


def test_the_size_of_brains_is_not_tested(patients, analysis_of) -> None:
    """Maps are 0 outside the brain; a border that follows a number must not be a finding."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tduration']
    analysis = analysis_of(patients)
    _, inside = cohorts.brain()
    border = inside.copy()
    border[4:-4, 4:-4, 4:-4] = False
    assert border.any()
    for index, scan in enumerate(analysis.included):
        lines.append(f'sub-{scan.subject}\t{patients.labels[index]}\t{index}')
        own = inside & ~border if index > len(analysis.included) / 2 else inside
        values = (0.3 + 0.02 * rng.standard_normal(inside.shape)) * own
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
        path = next(scan.folder.glob('*_res-1_desc-brain_mask.nii.gz'))
        cohorts.save(path, own.astype('u1'), cohorts.grid().affine)
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    analysis = analysis_of(patients, voxelwise=('duration',))
    masked = find_masked_grid(analysis.included)
    assert masked.inside[border].any()
    facts, maps, coarse = voxelwise_glm(analysis, 'inject100', 'duration', masked)
    np.testing.assert_array_equal(coarse.inside, inside & ~border)
    assert len(maps['p']) == coarse.inside.sum()
    assert facts['least_p'] > 0.05


def test_the_size_of_brains_is_not_personal(patients, analysis_of) -> None:
    """One common pattern, cut at the border of each brain, is still the common pattern."""
    analysis = analysis_of(patients)
    _, inside = cohorts.brain()
    for index, scan in enumerate(analysis.included):
        own = inside.copy()
        own[: 3 + index % 3] = False
        values = (0.2 + cohorts.truth()) * own
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
        path = next(scan.folder.glob('*_res-1_desc-brain_mask.nii.gz'))
        cohorts.save(path, own.astype('u1'), cohorts.grid().affine)
    masked = find_masked_grid(analysis.included)
    summary = summarise_maps(
        analysis.included, 'inject100', masked, embedded_regions(masked), analysis.groups
    )
    assert np.nanmax(summary.shares) < 1e-5
    assert summary.groups[''].sd.max() > 0.01
    with pytest.raises(UsageError):
        check_maps_differ(analysis_of(patients, voxelwise=('age',)), 'inject100')


def test_max_t_is_that_of_nilearn() -> None:
    from nilearn.mass_univariate import permuted_ols

    rng = np.random.default_rng(0)
    values = rng.standard_normal((30, 40)).astype(np.float32)
    tested, age = rng.standard_normal((2, 30))
    values[:, 3] += 0.9 * tested
    confounds = np.column_stack([np.ones(30), age])
    t, p = max_t(values, tested, confounds, np.zeros(30), draws=999, seed=0)
    found = permuted_ols(
        tested[:, None],
        values,
        confounding_vars=confounds,
        model_intercept=False,
        n_perm=999,
        random_state=0,
        output_type='dict',
    )
    np.testing.assert_allclose(t, found['t'][0], rtol=1e-4)
    np.testing.assert_allclose(p, 10.0 ** -found['logp_max_t'][0], atol=0.06)
    assert p[3] < 0.05


def test_max_t_keeps_its_level_and_its_blocks() -> None:
    """Fold means differ, maps are noise: a false voxel in about one of twenty."""
    rng = np.random.default_rng(1)
    blocks = np.repeat(['0', '1'], 12)
    intercepts = (blocks[:, None] == ['0', '1']).astype(float)
    false = 0
    for _ in range(60):
        values = rng.standard_normal((24, 30)) + 5.0 * (blocks == '1')[:, None]
        tested = rng.standard_normal(24)
        false += max_t(values, tested, intercepts, blocks, draws=99, seed=0)[1].min() <= 0.05
    assert false <= 9


def test_clusters_can_be_enhanced(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',), tfce=True)
    analysis = replace(analysis, choices=replace(analysis.choices, permutations=5))
    _, maps, coarse = voxelwise_glm(
        analysis, 'inject100', 'age', find_masked_grid(analysis.included)
    )
    assert set(maps) == {'t', 'p', 'tfce', 'tfcep'}
    assert maps['tfcep'].shape == (int(coarse.inside.sum()),)
    # Of five exchanges and the observed order.
    assert maps['tfcep'].min() >= 1 / 6 - 1e-6
    assert maps['tfcep'].max() <= 1
    assert maps['tfcep'][np.abs(maps['tfce']).argmax()] == pytest.approx(maps['tfcep'].min())


def test_enhanced_values_grow_with_the_square_of_t() -> None:
    """Of maps whose t is wider by a factor, in a null that is not."""
    grid = cohorts.grid()
    masked = MaskedGrid(grid, np.ones(grid.shape, bool))
    rng = np.random.default_rng(0)
    x, ones = np.tile([-1.0, 1.0], 6), np.ones((12, 1))
    noise = rng.standard_normal((12, int(np.prod(grid.shape))))
    noise -= noise.mean(axis=0) + np.outer(x, x @ noise) / 12
    # Residuals of one length, so that t is the effect.
    noise /= np.linalg.norm(noise, axis=0)
    effect = 0.1 * rng.standard_normal(noise.shape[1])
    how = {'draws': 1, 'seed': 0}
    low, high = (noise + np.outer(x, scale * effect) for scale in (1.0, 1.5))
    plain, _ = max_tfce(low, x, ones, np.zeros(12), masked, **how)
    wide, _ = max_tfce(high, x, ones, np.zeros(12), masked, spread=1.5, **how)
    np.testing.assert_allclose(wide, plain, rtol=1e-4, atol=1e-6)


def test_voxels_are_widened_like_scores(patients, analysis_of) -> None:
    """A number that follows the label of training subjects, if the label is not in the model."""
    rng = np.random.default_rng(0)
    lines = ['participant_id\tgroup\tother\tdose']
    for n, group in enumerate(patients.labels, 1):
        side = -1.0 if group == 'patient' else 1.0
        lines.append(f'sub-{n:02d}\t{group}\t{"ab"[n % 4 < 2]}\t{side + 0.1 * rng.normal()}')
    cohorts.write_table(patients, '\n'.join(lines) + '\n')
    masked = find_masked_grid(analysis_of(patients).included)
    found = {}
    for column in ('group', 'other'):
        analysis = analysis_of(patients, voxelwise=('dose',), group_by=column)
        found[column] = voxelwise_glm(analysis, 'inject100', 'dose', masked)[0]['spread']
    assert found['group'] == pytest.approx(1, abs=1e-6)
    assert found['other'] == pytest.approx(2**0.5, abs=0.02)
    values = rng.standard_normal((20, 8)).astype(np.float32)
    how = {'draws': 99, 'seed': 0}
    x, ones = np.tile([-1.0, 1.0], 10), np.ones((20, 1))
    plain, low = max_t(values, x, ones, np.zeros(20), **how)
    wide, high = max_t(values, x, ones, np.zeros(20), spread=2**0.5, **how)
    np.testing.assert_allclose(wide, plain / 2**0.5)
    assert (high >= low).all()
    assert high.min() > low.min()


def test_families_of_voxels_are_not_split() -> None:
    """Maps and number of the household: four families give six arrangements."""
    families = np.repeat(np.arange(4), 3)
    x = np.array([1.0, 2.0, 3.0, 4.0])[families]
    values = (x[:, None] + 0.01 * np.random.default_rng(0).standard_normal((12, 5))).astype('f4')
    ones, how = np.ones((12, 1)), {'draws': 199, 'seed': 0}
    assert max_t(values, x, ones, np.zeros(12), **how)[1].max() < 0.02
    assert max_t(values, x, ones, np.zeros(12), families=families, **how)[1].min() > 0.02


def test_maps_that_do_not_differ_are_not_tested(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',))
    for scan in analysis.included:
        cohorts.save(scan.maps['inject100'], cohorts.truth(), cohorts.grid().affine)
    facts, maps, _ = voxelwise_glm(
        analysis, 'inject100', 'age', find_masked_grid(analysis.included)
    )
    assert facts['not_tested'] == NO_DIFFERENCE
    assert maps == {}
    with pytest.raises(UsageError, match='--voxelwise') as caught:
        check_maps_differ(analysis, 'inject100')
    assert '--covariates' in caught.value.advice


def test_maps_that_only_differ_between_folds_are_refused(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',))
    for scan in analysis.included:
        values = cohorts.truth() * (1 + int(scan.block))
        cohorts.save(scan.maps['inject100'], values, cohorts.grid().affine)
    with pytest.raises(UsageError):
        check_maps_differ(analysis, 'inject100')
    rng = np.random.default_rng(0)
    for scan in analysis.included:
        values = cohorts.truth() * (1 + 0.1 * rng.standard_normal())
        cohorts.save(scan.maps['inject100'], values.astype('f4'), cohorts.grid().affine)
    check_maps_differ(analysis, 'inject100')


def test_fine_maps_are_tested_on_a_coarse_grid() -> None:
    grid = cohorts.grid().with_spacing(1.0)
    coarse, step = coarsen(MaskedGrid(grid, np.ones(grid.shape, bool)))
    assert step == 3
    np.testing.assert_allclose(coarse.grid.spacing, 3)
    np.testing.assert_allclose(coarse.grid.affine[:3, 3], grid.affine[:3, 3])
