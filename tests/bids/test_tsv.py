"""Tables and descriptions as people really have them: one reader for all commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_interp.bids.prediction import ExplainedTarget
from bids_interp.bids.read.description import read_description
from bids_interp.bids.read.participants import look_alike, read_participants
from bids_interp.bids.read.query import T1wRecord, collect
from bids_interp.bids.read.scan_files import read_table
from bids_interp.bids.read.tsv import read_cells, read_rows, read_text
from bids_interp.bids.write.dataset_description import prepare_output
from bids_interp.bids.write.injected import read_participant_table
from bids_interp.errors import InputDatasetError
from bids_interp.group.covariates import GroupVariables, read_group_variables
from bids_interp.group.scans import GroupScan
from bids_interp.levels.labels import read_labels
from bids_interp.settings import Settings
from helpers import skeletons

HEAD = 'participant_id\tgroup\tage\tnote\n'
PEOPLE = {'01': 'CN', '02': 'AD', '03': 'CN', '04': 'AD'}


def table(**notes: str) -> str:
    """A table of four people; notes by label with a leading n."""
    rows = [f'sub-{s}\t{g}\t4{s}\t{notes.get(f"n{s}", "")}' for s, g in PEOPLE.items()]
    return HEAD + '\n'.join(rows) + '\n'


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / 'participants.tsv'
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def group_variables(folder: Path) -> GroupVariables:
    settings = Settings(folder, folder / 'out', 'group', group_by='group')
    scans = [GroupScan(f'sub-{s}', s, '', folder) for s in PEOPLE]
    return read_group_variables(settings, scans, ExplainedTarget(label='group'))


def groups_of_all_commands(folder: Path) -> list[dict[str, str]]:
    """Groups as ``train``, ``group`` and ``inject`` read them."""
    records = [T1wRecord(Path('x'), s, None, {'sub': s}) for s in PEOPLE]
    settings = Settings(folder, folder / 'out', 'train', label='group', positive='AD')
    trained = read_labels(settings, records)
    names = {1.0: 'AD', 0.0: 'CN'}
    grouped = group_variables(folder)
    planted = read_participant_table(folder)
    return [
        {image.record.subject: names[image.label] for image in trained.images},
        {s: grouped.values['group'][f'sub-{s}'] for s in PEOPLE},
        {label: row['group'] for label, row in planted.rows.items()},
    ]


@pytest.mark.parametrize(
    'text',
    [
        table(n02='"moved a lot'),
        table(n02='"moved a lot', n04='asleep"'),
        table(n02='5\' 11" tall', n03='Zoë 脑'),
        '\ufeff' + table(),
        table().replace('\n', '\r\n'),
        table().replace('\n', '\r'),
        table(n02='a\x0bb\u2028c\x00d'),
        table().replace('\n', '\n\n'),
        table().replace('\t', ' \t '),
        table().replace('\n', '\t\n'),
    ],
)
def test_all_commands_read_all_rows(tmp_path: Path, text: str) -> None:
    put(tmp_path, text)
    assert groups_of_all_commands(tmp_path) == [PEOPLE] * 3


def test_quotation_marks_stay_as_they_are(tmp_path: Path) -> None:
    path = put(tmp_path, 'a\tb\n"x"\t"\n')
    assert read_rows(path) == read_table(path) == [{'a': '"x"', 'b': '"'}]
    assert read_cells(path)[0] == ['a', 'b']


@pytest.mark.parametrize(
    ('content', 'named'),
    [
        (table(n03='caf\xe9').encode('latin-1'), r'Latin-1 \(line 4 has the byte 0xe9'),
        (table().encode('utf-16'), 'UTF-16'),
    ],
)
def test_other_encodings_are_named_with_the_file(
    tmp_path: Path, content: bytes, named: str
) -> None:
    path = put(tmp_path, content)
    for read in (read_text, read_participants, lambda p: read_participant_table(p.parent)):
        with pytest.raises(InputDatasetError, match=rf'participants\.tsv.*{named}') as caught:
            read(path)
        assert 'iconv' in caught.value.advice


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('participant_id\ta\ta\nsub-01\t1\t2\n', r'participants\.tsv.* a\b'),
        ('participant_id\ta\nsub-01\t1\nsub-02\t1\t2\n', r'Row 2 of .*participants\.tsv.* 3 .* 2 '),
        (HEAD, r'participants\.tsv'),
        (table().replace('\t', ','), r'participants\.tsv.*participant_id,group'),
    ],
)
def test_ambiguous_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputDatasetError, match=said):
        read_participants(put(tmp_path, text))


@pytest.mark.parametrize('spelling', ['1', '1.0', '"sub-01"', 'SUB-01', 'sub-1'])
def test_another_spelling_of_a_participant_is_recognised(tmp_path: Path, spelling: str) -> None:
    assert f'{spelling!r} looks like sub-01' in look_alike([spelling, '02'], ['02', '01'])
    assert look_alike([spelling, '01'], ['01', '11']) == ''
    put(tmp_path, table().replace('sub-01', spelling))
    with pytest.raises(InputDatasetError, match='looks like sub-01'):
        groups_of_all_commands(tmp_path)


def test_the_group_level_has_the_hint_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, table().replace('sub-0', ''))
    with pytest.raises(InputDatasetError, match='looks like sub-01'):
        group_variables(tmp_path)
    put(tmp_path, table().replace('sub-01', '1'))
    with caplog.at_level('WARNING'):
        group_variables(tmp_path)
    assert 'looks like sub-01' in caplog.text


def test_a_byte_order_mark_keeps_name_and_doi(tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii', empty=True)
    content = {'Name': 'study', 'BIDSVersion': '1.8.0', 'DatasetDOI': 'doi:10.1/x'}
    path = root / 'dataset_description.json'
    path.write_bytes(b'\xef\xbb\xbf' + json.dumps(content).encode())
    assert read_description(root) == content
    made = json.loads(prepare_output(tmp_path / 'out', {'raw': root}).read_text())
    assert made['SourceDatasets'][0]['DOI'] == 'doi:10.1/x'
    assert made['Name'].endswith('study')
    path.write_bytes(json.dumps({'Name': 'Ren\xe9'}, ensure_ascii=False).encode('latin-1'))
    with pytest.raises(InputDatasetError, match=r'dataset_description\.json.*Latin-1'):
        read_description(root)


def test_a_missing_version_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = skeletons.make_dataset(tmp_path, 'sub-01_T1w.nii', empty=True)
    (root / 'dataset_description.json').write_text('{"Name": "x"}')
    with caplog.at_level('WARNING'):
        assert len(collect(Settings(root, '/out'))) == 1
    assert 'BIDSVersion' in caplog.text
