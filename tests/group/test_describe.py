"""Descriptive maps: right numbers, memory that does not grow, damaged maps named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bids_interp.bids.prediction import RemeasuredFacts
from bids_interp.errors import ImageError, TemplateError, UsageError
from bids_interp.evaluation.scores import ncc
from bids_interp.evaluation.stability import reliable_voxels, sign_agreement
from bids_interp.group.analysis import file_label
from bids_interp.group.maps.descriptive import summarise_maps
from bids_interp.group.maps.map_reader import MaskedGrid, find_masked_grid, map_names, read_map
from bids_interp.group.maps.named_regions import (
    NamedRegions,
    embedded_regions,
    find_regions,
    load_grid_regions,
    save_grid_regions,
)
from bids_interp.group.maps.region_tables import (
    _deviation,
    _interval,
    group_rows,
    wide_columns,
    wide_rows,
)
from bids_interp.group.maps.stream import RunningStatistics, merge_statistics
from helpers import cohorts

#: Quantities of the tables of regions.
KINDS = ('logj', 'pct', 'mm3')


def test_welford_is_mean_and_sd() -> None:
    values = np.random.default_rng(0).normal(1000, 1, (50, 20))
    running = RunningStatistics(20)
    for row in values:
        running.add(row)
    np.testing.assert_allclose(running.mean, values.mean(0))
    np.testing.assert_allclose(running.sd, values.std(0, ddof=1))
    np.testing.assert_allclose(running.same_sign, 1)


def test_parts_put_together_are_the_whole() -> None:
    values = np.random.default_rng(1).standard_normal((31, 8))
    whole, parts = RunningStatistics(8), [RunningStatistics(8) for _ in range(4)]
    for index, row in enumerate(values):
        whole.add(row)
        parts[index % 3].add(row)
    total = merge_statistics(parts)
    assert total.n == 31
    np.testing.assert_allclose(total.sd, whole.sd)
    np.testing.assert_allclose(total.mean, whole.mean)
    np.testing.assert_array_equal(total.same_sign, whole.same_sign)


def test_one_subject_has_no_spread() -> None:
    running = RunningStatistics(3)
    running.add(np.ones(3))
    assert np.isnan(running.sd).all()


def test_reliable_needs_size_subjects_and_folds() -> None:
    running = RunningStatistics(4)
    for values in ([0.1, 0.01, 0.3, 0.1], [0.1, 0.01, -0.1, 0.1]):
        running.add(np.array(values))
    found = reliable_voxels(running.mean, running.same_sign, None)
    np.testing.assert_array_equal(found, [True, False, False, True])
    agreement = np.array([1.0, 1, 1, 0.5])
    found = reliable_voxels(running.mean, running.same_sign, agreement)
    np.testing.assert_array_equal(found, [True, False, False, False])


def test_noise_is_not_reliable() -> None:
    rng = np.random.default_rng(0)
    running, folds = RunningStatistics(20_000), []
    for _ in range(3):
        part = [rng.normal(0, 0.1, 20_000) for _ in range(8)]
        folds.append(np.mean(part, axis=0))
        for values in part:
            running.add(values)
    agreement = sign_agreement(np.array(folds))
    assert reliable_voxels(running.mean, running.same_sign, agreement).mean() < 0.01


@pytest.fixture
def cohort(make_cohort):
    return make_cohort(folds=[(0,), (1,), (2,)] * 2, in_training=True)


def test_the_mean_map_shows_the_truth(cohort, chosen) -> None:
    scans = chosen(cohort.out)
    masked = find_masked_grid(scans)
    regions = embedded_regions(masked)
    groups = {scan.prefix: cohort.labels[i] for i, scan in enumerate(scans)}
    summary = summarise_maps(scans, 'inject100', masked, regions, groups)
    truth = cohorts.truth()
    single = ncc(masked.filled(read_map(scans[0], 'inject100', masked)), truth, masked.inside)
    mean = masked.filled(summary.groups[''].mean)
    assert ncc(mean, truth, masked.inside) > single > 0.8
    assert list(summary.groups) == ['', 'control', 'patient']
    assert [running.n for running in summary.groups.values()] == [6, 3, 3]
    assert summary.agreement is not None
    hippocampus = regions.names.index(('hippocampus', 'left'))
    assert summary.means[:, hippocampus].mean() < -0.1
    everybody = summary.groups['']
    assert reliable_voxels(everybody.mean, everybody.same_sign, summary.agreement).any()


def test_the_masks_of_the_scans_decide(make_cohort, chosen) -> None:
    """A voxel counts if it lies in at least half of the masks, whatever its brightness."""
    scans = chosen(make_cohort(('a', 'b') * 2).out)
    _, inside = cohorts.brain()
    column = np.zeros_like(inside)
    column[:, 3] = True
    for index, scan in enumerate(scans):
        mask = inside & ~column if index < 2 else inside & column
        path = next(scan.folder.glob('*_res-1_desc-brain_mask.nii.gz'))
        cohorts.save(path, (mask if index else inside).astype('u1'), cohorts.grid().affine)
    np.testing.assert_array_equal(find_masked_grid(scans).inside, inside)
    for scan in scans[1:]:
        path = next(scan.folder.glob('*_res-1_desc-brain_mask.nii.gz'))
        cohorts.save(path, (inside & column).astype('u1'), cohorts.grid().affine)
    np.testing.assert_array_equal(find_masked_grid(scans).inside, inside & column)


def test_traces_of_interpolation_are_not_brain(make_cohort, chosen) -> None:
    """Derivatives of version 0.1.0 have no mask in template space."""
    scans = chosen(make_cohort(('a', 'b')).out)
    mean, inside = cohorts.brain()
    for scan in scans:
        path = next(scan.folder.glob('*_res-1_desc-brain_T1w.nii.gz'))
        shown = np.where(inside, 500 + 50 * mean, 0.01)
        cohorts.save(path, shown.astype('f4'), cohorts.grid().affine)
        next(scan.folder.glob('*_res-1_desc-brain_mask.nii.gz')).unlink()
    np.testing.assert_array_equal(find_masked_grid(scans).inside, inside)


def test_new_subjects_do_not_tell_folds_apart(make_cohort, chosen) -> None:
    scans = chosen(make_cohort().out)
    masked = find_masked_grid(scans)
    assert (
        summarise_maps(scans, 'inject100', masked, embedded_regions(masked), {}).agreement is None
    )


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_named_and_left_out(cohort, chosen, value) -> None:
    scans = chosen(cohort.out)
    masked = find_masked_grid(scans)
    path = scans[2].maps['inject100']
    data = np.full(cohorts.truth().shape, 0.1, 'f4')
    data[tuple(np.argwhere(masked.inside)[5])] = value
    cohorts.save(path, data, cohorts.grid().affine)
    summary = summarise_maps(scans, 'inject100', masked, embedded_regions(masked), {})
    assert list(summary.failed) == ['sub-03']
    assert path.name in summary.failed['sub-03']
    assert summary.groups[''].n == 5
    assert np.isfinite(summary.groups[''].mean).all()


def test_a_map_that_was_cut_off(cohort, chosen) -> None:
    scans = chosen(cohort.out)
    masked = find_masked_grid(scans)
    for scan in scans:
        path = scan.maps['remove100']
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r'\bremove100\b.*_desc-remove100_logjacobian\.nii\.gz'):
        summarise_maps(scans, 'remove100', masked, embedded_regions(masked), {})


def test_velocities_stand_in_for_maps_that_were_not_written(make_cohort, chosen) -> None:
    scans = chosen(make_cohort(('a', 'b'), names=()).out)
    assert map_names(scans) == ['inject100']
    masked = find_masked_grid(scans)
    values = read_map(scans[0], 'inject100', masked)
    assert values.shape == (int(masked.inside.sum()),)
    assert 0.01 < np.abs(values).mean() < 1


def test_the_largest_dose_comes_first(make_cohort, chosen) -> None:
    names = ('inject050', 'inject100', 'remove025')
    scans = chosen(make_cohort(('a', 'b'), names=names).out)
    assert map_names(scans) == ['inject100', 'inject050', 'remove025']


def cube() -> tuple[MaskedGrid, np.ndarray]:
    grid = cohorts.grid()
    inside = np.zeros(grid.shape, bool)
    inside[4:16, 4:18, 4:16] = True
    labels = np.zeros(grid.shape, np.int16)
    labels[4:8, 5:8, 5:8], labels[12:16, 5:8, 5:8], labels[8:10, 10:12, 8:10] = 1, 2, 7
    return MaskedGrid(grid, inside), labels


def test_an_atlas_of_a_file(tmp_path) -> None:
    masked, labels = cube()
    cohorts.save(tmp_path / 'atlas.nii.gz', labels, masked.grid.affine)
    table = tmp_path / 'names.tsv'
    table.write_text('index\tname\n1\tLeft-Thalamus\n2\tRight-Thalamus\n7\tstem\n')
    regions = find_regions(masked, str(tmp_path / 'atlas.nii.gz'), table)
    assert regions.names == [('Thalamus', 'left'), ('Thalamus', 'right'), ('stem', 'midline')]
    assert regions.sizes.tolist() == [36, 36, 8]
    values = np.where(labels == 7, np.log(1.5), 0.0)[masked.inside]
    means, changes = regions.measure(values)
    np.testing.assert_allclose(means, [0, 0, np.log(1.5)], atol=1e-6)
    np.testing.assert_allclose(changes, [0, 0, 0.5], atol=1e-6)
    kept = load_grid_regions(save_grid_regions(tmp_path / 'grid_regions.npz', masked, regions))
    assert kept[1].names == regions.names
    np.testing.assert_allclose(kept[1].measure(values)[1], changes)


def test_the_table_beside_an_atlas_is_found(tmp_path) -> None:
    masked, labels = cube()
    cohorts.save(tmp_path / 'atlas.nii.gz', labels, masked.grid.affine)
    (tmp_path / 'atlas.tsv').write_text('id\tlabel\n7\tstem\n')
    regions = find_regions(masked, str(tmp_path / 'atlas.nii.gz'), None)
    assert [name for name, _ in regions.names] == ['region 1', 'region 2', 'stem']


def test_an_atlas_of_templateflow_on_this_machine(tmp_path, monkeypatch) -> None:
    masked, labels = cube()
    folder = tmp_path / f'tpl-{cohorts.SPACE}'
    stem = f'tpl-{cohorts.SPACE}_res-01_atlas-Tiny_desc-all_dseg'
    cohorts.save(folder / f'{stem}.nii.gz', labels, masked.grid.affine)
    table = folder / f'tpl-{cohorts.SPACE}_atlas-Tiny_desc-all_dseg.tsv'
    table.write_text('index\tname\n7\tstem\n')
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(tmp_path))
    assert ('stem', 'midline') in find_regions(masked, 'Tiny', None).names
    with pytest.raises(TemplateError, match='--atlas Other'):
        find_regions(masked, 'Other', None)


@pytest.mark.parametrize(
    ('values', 'is_empty'),
    [(0.5, False), (0, True)],
)
def test_atlases_that_are_none(tmp_path, values, is_empty) -> None:
    masked, _ = cube()
    cohorts.save(tmp_path / 'a.nii', np.full(masked.grid.shape, values, 'f4'), masked.grid.affine)
    with pytest.raises(UsageError, match=r'\batlas .*a\.nii') as caught:
        find_regions(masked, str(tmp_path / 'a.nii'), None)
    assert (cohorts.SPACE in caught.value.advice) is is_empty


def test_tables_of_regions(cohort, chosen) -> None:
    scans = chosen(cohort.out)
    by_prefix = {scan.prefix: scan for scan in scans}
    masked = find_masked_grid(scans)
    regions = embedded_regions(masked)
    groups = {scan.prefix: cohort.labels[i] for i, scan in enumerate(scans)}
    summary = summarise_maps(scans, 'inject100', masked, regions, groups)
    wide = wide_rows([summary], by_prefix, regions, {})
    assert len(wide) == 6
    logj, percent, volume = (
        wide[0][f'inject100_hippocampus_left_{k}'] for k in ('logj', 'pct', 'mm3')
    )
    assert -25 < percent < 0
    assert percent == pytest.approx(100 * np.expm1(logj), abs=1)
    size = regions.sizes[regions.names.index(('hippocampus', 'left'))] * regions.voxel_mm3
    assert volume == pytest.approx(percent / 100 * size / 1.25)
    assert set(wide_columns(wide)) == set(wide[0])
    assert not any('remeasured' in column for column in wide[0])
    facts = RemeasuredFacts(0.7, 0.9, 24)
    again = replace(scans[1].prediction, remeasured={'inject100': facts, 'remove100': facts})
    by_prefix[scans[1].prefix] = replace(scans[1], prediction=again)
    wide = wide_rows([summary], by_prefix, regions, {})
    assert [row['inject100_remeasured_slope'] for row in wide[:2]] == [None, 0.7]
    assert [row['inject100_remeasured_r'] for row in wide[:2]] == [None, 0.9]
    assert 'slope' in wide_columns(wide)['inject100_remeasured_slope']['Description'].lower()
    rows = group_rows(summary, by_prefix, masked, regions, groups, 0)
    first = next(row for row in rows if row['group'] == 'all' and row['rank'] == 1)
    assert (first['region'], first['side']) == ('hippocampus', 'left')
    assert first['laterality'] < -0.9
    assert first['null_percentile'] > 95
    assert first['pct_low'] <= first['pct'] <= first['pct_high'] < 0
    assert first['fold_low'] <= first['logj'] <= first['fold_high']
    assert {row['group'] for row in rows} == {'all', 'control', 'patient'}


def test_intervals_hold_what_they_say_in_small_groups() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5, 12):
        found = [
            _interval(rng.normal(0, 1, (n, 20)), np.zeros(n), np.arange(n), varies=True)
            for _ in range(100)
        ]
        inside = np.mean([(low <= 0) & (high >= 0) for _, low, high in found])
        assert inside == pytest.approx(0.95, abs=0.02)
    _, low, _ = _interval(rng.normal(0, 1, (2, 4)), np.zeros(2), np.arange(2), varies=True)
    assert np.isnan(low).all()


def test_doses_that_some_scans_were_not_asked_for(make_cohort, chosen) -> None:
    """They lower the number of this map and break nothing."""
    cohort = make_cohort()
    cohorts.write_scan(cohort.out, '01', names=('inject100', 'remove100', 'remove050'), seed=1)
    scans = chosen(cohort.out)
    masked = find_masked_grid(scans)
    assert map_names(scans) == ['inject100', 'remove100', 'remove050']
    summary = summarise_maps(scans, 'remove050', masked, embedded_regions(masked), {})
    assert summary.images == ['sub-01']
    assert summary.without == [f'sub-0{n}' for n in range(2, 7)]
    assert summary.failed == {}
    with pytest.raises(ImageError, match=r'sub-02\b.*\bremove050\b'):
        read_map(scans[1], 'remove050', masked)


def test_random_places_of_a_map_without_structure() -> None:
    """Regions of a map of noise do not all stand out of it."""
    masked, _ = cube()
    rng = np.random.default_rng(0)
    from bids_interp.group.maps.region_tables import null_percentiles

    regions = embedded_regions(masked)
    values = rng.standard_normal(int(masked.inside.sum()))
    found = null_percentiles(masked, values, regions, regions.measure(values)[0], rng)
    assert 20 < np.median(found) < 80


def test_no_regions_outside_of_mni_space() -> None:
    masked, _ = cube()
    mouse = MaskedGrid(
        type(masked.grid)(masked.grid.shape, masked.grid.affine, 'Mouse'), masked.inside
    )
    regions = embedded_regions(mouse)
    assert isinstance(regions, NamedRegions)
    assert regions.names == []


def test_names_of_groups_in_files_are_unique() -> None:
    groups = ['mild AD', 'mildAD', '??']
    assert len({file_label(group, groups) for group in groups}) == 3


def test_no_interval_of_what_does_not_vary_between_people(make_cohort, chosen) -> None:
    """Maps of two folds, the same for everybody in a fold: nothing of a person to be seen."""
    cohort = make_cohort(['a', 'b'] * 4, folds=[(0,), (0,), (1,), (1,)] * 2)
    for personal in (0.0, 0.3):
        scans = chosen(cohort.out)
        rng = np.random.default_rng(0)
        for scan in scans:
            scale = 1 + int(scan.block) + personal * rng.standard_normal()
            values = (scale * cohorts.truth()).astype('f4')
            cohorts.save(scan.maps['inject100'], values, cohorts.grid().affine)
        masked = find_masked_grid(scans)
        regions = embedded_regions(masked)
        groups = {scan.prefix: cohort.labels[i] for i, scan in enumerate(scans)}
        summary = summarise_maps(scans, 'inject100', masked, regions, groups)
        by_name = {scan.prefix: scan for scan in scans}
        rows = group_rows(summary, by_name, masked, regions, groups, 0)
        spreads = [
            row[name]
            for row in rows
            for name in ('logj_sd', *(f'{k}_{end}' for k in KINDS for end in ('low', 'high')))
        ]
        assert {row['group'] for row in rows} == {'all', 'a', 'b'}
        assert np.isnan(spreads).all() == (personal == 0)
        assert np.isfinite([row['fold_low'] for row in rows]).all()
        share = next(row['personal_share'] for row in rows if row['group'] == 'all')
        assert share == pytest.approx(np.median(summary.shares))
        assert (share < 1e-6) == (personal == 0)


def test_intervals_do_not_contain_the_differences_between_folds() -> None:
    """Models are fixed: people of two folds with different means have the interval of one fold."""
    rng = np.random.default_rng(0)
    values, blocks = rng.standard_normal((40, 3)), np.arange(40) % 2
    alone = np.arange(40)
    mean, low, _ = _interval(values, blocks, alone, varies=True)
    shifted = values + 5.0 * blocks[:, None]
    moved, lower, _ = _interval(shifted, blocks, alone, varies=True)
    np.testing.assert_allclose(moved - lower, mean - low)
    np.testing.assert_allclose(
        _deviation(shifted, blocks, varies=True), _deviation(values, blocks, varies=True)
    )
    one = _interval(values, np.zeros(40), alone, varies=True)
    half = stats.t.ppf(0.975, 39) * values.std(axis=0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(one[2] - one[0], half)
    # Pairs of twins: half as many independent people.
    twins = np.repeat(values[:20], 2, axis=0)
    pairs = _interval(twins, np.zeros(40), np.repeat(np.arange(20), 2), varies=True)
    halved = _interval(values[:20], np.zeros(20), np.arange(20), varies=True)
    np.testing.assert_allclose(pairs[2] - pairs[0], halved[2] - halved[0])
    constant = np.column_stack([values[:, 0], np.full(40, 3.0)])
    assert np.isnan(_interval(constant, np.zeros(40), alone, varies=True)[1]).tolist() == [
        False,
        True,
    ]
