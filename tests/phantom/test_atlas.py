from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import UsageError
from bids_interp.phantom.regions.atlas import (
    Atlas,
    atlas_masks,
    check_atlas_space,
    check_names,
    find_flow_atlas,
    open_atlas,
    read_label_names,
)
from bids_interp.phantom.regions.coarse import CEREBRUM, region_mask
from bids_interp.spatial import Grid

GRID = Grid(
    (62, 74, 60),
    np.array([[3.0, 0, 0, -91], [0, 3, 0, -127], [0, 0, 3, -72], [0, 0, 0, 1]]),
    'MNI152NLin2009aSym',
)
NAMES = {'Thalamus_L': 1, 'Thalamus_R': 2, 'Cortex': 3}


@pytest.fixture(scope='module')
def brain():
    return (CEREBRUM.distance(GRID.world_coordinates()) < 0).astype(np.float32)


@pytest.fixture(scope='module')
def labels(brain):
    labels = 3 * brain.astype(np.int16)
    labels[region_mask('thalamus_left', GRID) > 0] = 1
    labels[region_mask('thalamus_right', GRID) > 0] = 2
    return labels


@pytest.fixture
def files(tmp_path, labels):
    image = tmp_path / 'atlas-x_dseg.nii.gz'
    nib.save(nib.Nifti1Image(labels, GRID.affine), image)
    rows = ''.join(f'{number}\t{name}\n' for name, number in NAMES.items())
    (tmp_path / 'atlas-x_dseg.tsv').write_text('index\tname\n' + rows)
    return image


def test_regions_are_found_by_name_and_drawn_where_they_are(files):
    atlas = open_atlas(files)
    assert atlas.index == NAMES
    fine = GRID.with_spacing(2.0)
    mask = atlas_masks(atlas, ['Thalamus_L'], fine)['Thalamus_L']
    drawn = region_mask('thalamus_left', fine) > 0
    assert 2 * ((mask > 0.5) & drawn).sum() / ((mask > 0.5).sum() + drawn.sum()) > 0.85
    assert atlas.digest == open_atlas(files, files.with_name('atlas-x_dseg.tsv')).digest


def test_missing_region_is_refused_with_file_and_similar_names(files):
    atlas = open_atlas(files)
    with pytest.raises(UsageError, match=r'atlas-x_dseg.nii.gz.*thalamus_l.*Thalamus_L'):
        check_names(atlas, ['thalamus_l'])
    with pytest.raises(UsageError, match=r"atlas-x_dseg\.nii\.gz.*'qqq'.*Thalamus_L"):
        check_names(atlas, ['qqq'])
    empty = Atlas(atlas.path, atlas.labels, atlas.grid, {'Putamen': 9})
    with pytest.raises(UsageError, match=r'Putamen .*\b9\b.*atlas-x_dseg\.nii\.gz'):
        check_names(empty, ['Putamen'])
    dot = np.zeros(GRID.shape, np.int32)
    dot[30, 30, 30] = 1
    with pytest.raises(UsageError, match=r'^dot .*\b9 mm'):
        atlas_masks(Atlas(atlas.path, dot, GRID, {'dot': 1}), ['dot'], GRID.with_spacing(9.0))


@pytest.mark.parametrize(
    ('change', 'word'),
    [
        (
            np.diag([1.0, 1, 1, 1]) + np.outer([0, 0, 25, 0], [0, 0, 0, 1]),
            r'\d+%',
        ),
        (np.diag([0.8, 0.8, 0.8, 1.0]), r' \d+ mm '),
    ],
)
def test_atlas_of_another_space_is_refused(files, brain, change, word):
    atlas = open_atlas(files)
    check_atlas_space(atlas, brain, GRID)
    elsewhere = Grid(atlas.grid.shape, change @ atlas.grid.affine)
    with pytest.raises(UsageError, match=word):
        check_atlas_space(Atlas(atlas.path, atlas.labels, elsewhere, NAMES), brain, GRID)


def test_wrong_files_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match=r'none\.nii\.gz'):
        open_atlas(tmp_path / 'none.nii.gz')
    with pytest.raises(UsageError, match=r'none\.tsv'):
        open_atlas(files, tmp_path / 'none.tsv')
    (tmp_path / 'wrong.tsv').write_text('number\tlabel\n1\tx\n')
    with pytest.raises(UsageError, match=r'wrong\.tsv'):
        open_atlas(files, tmp_path / 'wrong.tsv')
    soft = tmp_path / 'probseg.nii.gz'
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)), soft)
    with pytest.raises(UsageError, match=r'probseg\.nii\.gz'):
        open_atlas(soft, files.with_name('atlas-x_dseg.tsv'))


def test_atlases_of_templateflow_are_found_by_name(tmp_path):
    folder = tmp_path / 'tpl-T'
    folder.mkdir()
    for name in (
        'tpl-T_res-01_atlas-A_desc-th25_dseg.nii.gz',
        'tpl-T_res-02_atlas-A_desc-th25_dseg.nii.gz',
        'tpl-T_res-01_atlas-A_desc-th50_dseg.nii.gz',
        'tpl-T_atlas-A_dseg.tsv',
        'tpl-T_res-01_seg-B_dseg.nii.gz',
    ):
        (folder / name).write_text('x')
    (folder / 'tpl-T_res-01_atlas-C_dseg.nii.gz').touch()
    image, table = find_flow_atlas(tmp_path, 'T:A:th50')
    assert (image.name, table.name) == (
        'tpl-T_res-01_atlas-A_desc-th50_dseg.nii.gz',
        'tpl-T_atlas-A_dseg.tsv',
    )
    assert 'res-01' in find_flow_atlas(tmp_path, 'T:A:th25')[0].name
    with pytest.raises(UsageError, match=r'\b2\b.*T:A:th25, T:A:th50'):
        find_flow_atlas(tmp_path, 'T:A')
    with pytest.raises(UsageError, match='tpl-T_res-01_seg-B_dseg.*--atlas-labels'):
        find_flow_atlas(tmp_path, 'T:B')
    with pytest.raises(UsageError, match=r'T:C .*\b0\b'):
        find_flow_atlas(tmp_path, 'T:C')


def test_synonyms_of_the_columns_and_rows_without_a_name(tmp_path: Path) -> None:
    table = tmp_path / 'labels.tsv'
    table.write_text('Label\tValue\n left \t1.0\n\t2\nright\t3\n')
    assert read_label_names(table) == {1: 'left', 3: 'right'}
    table.write_text('label\tvalue\nleft\tone\n')
    with pytest.raises(UsageError, match=r'labels\.tsv'):
        read_label_names(table)
