from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bids_interp.bids.read.query import T1wRecord
from bids_interp.bids.write.injected import (
    ParticipantTable,
    check_injected_output,
    clear_injected_output,
    inherited_sidecar,
    read_participant_table,
    write_injected_descriptions,
    write_participant_table,
)
from bids_interp.errors import InputDatasetError, OutputError

RECIPE = {
    'Scenario': 'S1',
    'Purpose': 'a test',
    'Changes': {'hippocampus': -0.15},
    'Severity': [0.7, 1.3],
    'Seed': 1,
}
SOURCE = {'Name': 'study', 'DatasetDOI': 'doi:10.1/x', 'License': 'CC0'}
MADE = [
    {'label': '01r1', 'family': '01', 'group': 'patient', 'severity': 1.1, 'replicate': 1},
    {'label': '02r1', 'family': '02', 'group': 'control', 'severity': 0.0, 'replicate': 1},
]


@pytest.fixture
def made(tmp_path) -> Path:
    out = tmp_path / 'out'
    write_injected_descriptions(out, SOURCE, RECIPE, '*_xfm.*\n')
    return out


def test_the_same_recipe_goes_on_and_another_needs_overwrite(made, tmp_path):
    bids = tmp_path / 'in'
    scan = made / 'sub-01r1' / 'anat' / 'sub-01r1_T1w.nii.gz'
    scan.parent.mkdir(parents=True)
    scan.touch()
    assert not check_injected_output(made, bids, RECIPE, overwrite=False)
    assert scan.exists()
    other = {**RECIPE, 'Seed': 2}
    with pytest.raises(OutputError, match='--overwrite'):
        check_injected_output(made, bids, other, overwrite=False)
    assert check_injected_output(made, bids, other, overwrite=True)
    assert scan.exists()
    clear_injected_output(made)
    assert not scan.exists()


def test_folders_of_others_are_left_alone(tmp_path):
    bids, precious = tmp_path / 'in', tmp_path / 'precious'
    precious.mkdir()
    (precious / 'thesis.txt').write_text('years of work')
    with pytest.raises(OutputError, match=re.escape(str(precious))):
        check_injected_output(precious, bids, RECIPE, overwrite=True)
    for inside in (bids, bids / 'out', tmp_path):
        with pytest.raises(OutputError) as caught:
            check_injected_output(inside, bids, RECIPE, overwrite=True)
        assert f' {inside} ' in caught.value.message
        assert f' {bids} ' in caught.value.message
    with pytest.raises(OutputError, match=r'thesis\.txt'):
        check_injected_output(precious / 'thesis.txt', bids, RECIPE, overwrite=True)
    assert (precious / 'thesis.txt').exists()


def test_descriptions_name_the_source_and_the_change(made):
    description = json.loads((made / 'dataset_description.json').read_text())
    assert description['SourceDatasets'] == [{'DOI': 'doi:10.1/x'}]
    assert description['License'] == 'CC0'
    assert 'hippocampus -15.0%' in (made / 'README').read_text()
    truth = made / 'derivatives' / 'truth'
    assert json.loads((truth / 'inject.json').read_text()) == RECIPE
    assert (truth / '.bidsignore').read_text().split() == ['*_xfm.*', 'inject.json']


def test_columns_of_the_input_are_kept_under_names_that_do_not_collide(tmp_path):
    (tmp_path / 'participants.tsv').write_text(
        'participant_id\tage\tgroup\nsub-01\t39\tdepr\nsub-03\t20\tcontrol\n'
    )
    (tmp_path / 'participants.json').write_text('{"group": {"Description": "mood"}}')
    out = tmp_path / 'out'
    write_participant_table(
        out,
        read_participant_table(tmp_path),
        [{**one, 'confound': True} for one in MADE],
        ['confound'],
    )
    lines = (out / 'participants.tsv').read_text().splitlines()
    own = ['participant_id', 'group', 'severity', 'family', 'replicate', 'confound']
    assert [line.split('\t') for line in lines] == [
        [*own, 'age', 'source_group'],
        ['sub-01r1', 'patient', '1.1', '01', '1', '1', '39', 'depr'],
        ['sub-02r1', 'control', '0', '02', '1', '1', 'n/a', 'n/a'],
    ]
    dictionary = json.loads((out / 'participants.json').read_text())
    assert dictionary['source_group'] == {'Description': 'mood'}
    assert set(dictionary['group']['Levels']) == {'control', 'patient'}


def test_a_dataset_needs_no_participants_table_but_a_readable_one(tmp_path):
    assert read_participant_table(tmp_path) == ParticipantTable()
    write_participant_table(tmp_path / 'out', ParticipantTable(), MADE)
    assert (tmp_path / 'out' / 'participants.tsv').read_text().count('\n') == 3
    (tmp_path / 'participants.tsv').write_text('name\tage\nsub-01\t39\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.*participant_id'):
        read_participant_table(tmp_path)
    (tmp_path / 'participants.tsv').write_bytes(b'participant_id\n\xff\xfe\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.*0xff'):
        read_participant_table(tmp_path)


def test_sidecars_are_inherited_from_all_levels(tmp_path):
    anat = tmp_path / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    for path, content in (
        (tmp_path / 'T1w.json', {'a': 1, 'b': 1, 'c': 1}),
        (tmp_path / 'acq-x_T1w.json', {'b': 2}),
        (tmp_path / 'acq-y_T1w.json', {'c': 9}),
        (anat / 'sub-01_acq-x_T1w.json', {'c': 3}),
    ):
        path.write_text(json.dumps(content))
    entities = {'sub': '01', 'acq': 'x'}
    record = T1wRecord(anat / 'sub-01_acq-x_T1w.nii.gz', '01', None, entities)
    assert inherited_sidecar(tmp_path, record) == {'a': 1, 'b': 2, 'c': 3}
