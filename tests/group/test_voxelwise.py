"""The voxel-wise model finds what is planted, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from bids_interp.group.maps.map_reader import find_masked_grid
from bids_interp.group.statistics.voxelwise import NO_DIFFERENCE, coarsen, max_t, voxelwise_glm
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
    p = np.ones(coarse.grid.shape)
    p[coarse.inside] = maps['p']
    assert p[where].min() < 0.05
    outside = np.ones(p.shape, bool)
    outside[where] = False
    assert (p[outside] < 0.05).mean() < 0.02
    assert set(maps) == {'t', 'p'}


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


def test_maps_that_do_not_differ_are_not_tested(patients, analysis_of) -> None:
    analysis = analysis_of(patients, voxelwise=('age',))
    for scan in analysis.included:
        cohorts.save(scan.maps['inject100'], cohorts.truth(), cohorts.grid().affine)
    facts, maps, _ = voxelwise_glm(
        analysis, 'inject100', 'age', find_masked_grid(analysis.included)
    )
    assert facts['not_tested'] == NO_DIFFERENCE
    assert maps == {}


def test_fine_maps_are_tested_on_a_coarse_grid() -> None:
    from bids_interp.group.maps.map_reader import MaskedGrid

    grid = cohorts.grid().with_spacing(1.0)
    coarse, step = coarsen(MaskedGrid(grid, np.ones(grid.shape, bool)))
    assert step == 3
    np.testing.assert_allclose(coarse.grid.spacing, 3)
    np.testing.assert_allclose(coarse.grid.affine[:3, 3], grid.affine[:3, 3])
