"""Tables with their data dictionaries, and files that an earlier run has left."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_interp.group.maps.map_files import CLUSTER_COLUMNS, remove_stale, write_table
from bids_interp.interfaces.group import DescribeMaps, GroupReport, TestVoxels, WriteTables


def test_a_table_has_its_columns_and_a_dictionary(tmp_path: Path) -> None:
    row = dict.fromkeys(CLUSTER_COLUMNS, 1.5)
    path = write_table(tmp_path / 'clusters.tsv', [row, row], CLUSTER_COLUMNS, {'Model': 'tiny'})
    header, *lines = path.read_text().splitlines()
    assert header.split('\t') == list(CLUSTER_COLUMNS)
    assert len(lines) == 2
    dictionary = json.loads(path.with_suffix('.json').read_text())
    assert dictionary['Model'] == 'tiny'
    assert dictionary.keys() >= CLUSTER_COLUMNS.keys()


def test_only_files_of_other_options_are_removed(tmp_path: Path) -> None:
    kept = [
        'group-patient_space-M_desc-inject100_stat-mean_logjacobian.nii.gz',
        'space-M_desc-inject100Onage_stat-t_statmap.nii.gz',
        'scores.tsv',
    ]
    stale = [
        'group-old_space-M_desc-inject100_stat-mean_logjacobian.nii.gz',
        'space-M_desc-inject100Onweight_stat-t_statmap.nii.gz',
        'space-M_desc-inject100BeyondChance_stat-z_statmap.nii.gz',
        'change.tsv',
    ]
    for name in kept + stale:
        (tmp_path / name).touch()
    choices = SimpleNamespace(voxelwise=('age',), null_models=())
    groups = {'sub-01': 'patient', 'sub-02': 'control'}
    removed = remove_stale(SimpleNamespace(folder=tmp_path, groups=groups, choices=choices))
    assert sorted(path.name for path in removed) == sorted(stale)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(
    ('interface', 'own'),
    [
        (DescribeMaps, {'map_name'}),
        (WriteTables, {'summaries'}),
        (TestVoxels, {'map_name', 'column'}),
        (GroupReport, {'summaries', 'tables', 'scores'}),
    ],
)
def test_nodes_of_the_group_level_say_what_they_need(interface, own: set[str]) -> None:
    mandatory = set(interface().inputs.traits(mandatory=True))
    assert mandatory == {'analysis', 'grid_regions'} | own
