"""The output directory as a dataset: made once, kept, never somebody else's."""

from __future__ import annotations

import json
import multiprocessing
import re
from dataclasses import dataclass

import pytest

from bids_interp import __version__
from bids_interp.bids.write import dataset_description as dataset
from bids_interp.bids.write import provenance
from bids_interp.errors import OutputError


@dataclass(frozen=True)
class Model:
    """A model's identity."""

    name: str = 'toy'
    version_hash: str = 'abc123'
    demonstration: bool = True


@pytest.fixture
def raw(tmp_path):
    """A raw dataset with a DOI."""
    folder = tmp_path / 'study' / 'bids'
    folder.mkdir(parents=True)
    description = {'Name': 'Heads', 'BIDSVersion': '1.8.0', 'DatasetDOI': 'doi:10.1/heads'}
    (folder / 'dataset_description.json').write_text(json.dumps(description))
    return folder


def read(out):
    return json.loads((out / 'dataset_description.json').read_text())


def test_a_new_output_directory_says_what_it_is(tmp_path, raw):
    out = tmp_path / 'study' / 'out'
    dataset.prepare_output(out, {'raw': raw}, Model())
    content = read(out)
    assert 'bids_interp' in content['Name']
    assert 'Heads' in content['Name']
    assert content['DatasetType'] == 'derivative'
    assert content['GeneratedBy'][0] == {'Name': 'bids_interp', 'Version': __version__}
    assert content['GeneratedBy'][1]['Name'] == 'toy'
    assert 'demonstration' in content['GeneratedBy'][1]['Description']
    assert content['DatasetLinks'] == {'raw': '../bids'}
    assert content['SourceDatasets'] == [
        {'DOI': 'doi:10.1/heads', 'URL': 'https://doi.org/10.1/heads'}
    ]
    assert str(tmp_path) not in (out / 'dataset_description.json').read_text()
    assert '*_logjacobian.*' in (out / '.bidsignore').read_text().splitlines()
    assert '100 * (exp(logJ) - 1)' in (out / 'README.md').read_text()


def test_a_second_run_changes_nothing(tmp_path, raw):
    out = tmp_path / 'out'
    dataset.prepare_output(out, {'raw': raw}, Model())
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.iterdir()}
    dataset.prepare_output(out, {'raw': raw}, Model())
    assert {p.name: (p.stat().st_ino, p.read_bytes()) for p in out.iterdir()} == before


def _prepare_often(out, raw):
    for _ in range(20):
        dataset.prepare_output(out, {'raw': raw}, Model())


def test_several_processes_may_prepare_one_directory(tmp_path, raw):
    context = multiprocessing.get_context('fork')
    workers = [
        context.Process(target=_prepare_often, args=(tmp_path / 'out', raw)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == ['.bidsignore', 'README.md', 'dataset_description.json']
    assert len(read(tmp_path / 'out')['GeneratedBy']) == 2


def test_another_model_and_a_users_lines_are_kept_side_by_side(tmp_path, raw):
    out = tmp_path / 'out'
    dataset.prepare_output(out, {'raw': raw}, Model())
    with (out / '.bidsignore').open('a') as stream:
        stream.write('mine.txt\n')
    (out / 'README.md').write_text('mine\n')
    dataset.prepare_output(out, {'raw': raw, 'prep': tmp_path / 'prep'}, Model('other', 'def'))
    names = [(entry['Name'], entry['Version']) for entry in read(out)['GeneratedBy']]
    assert names == [('bids_interp', __version__), ('toy', 'abc123'), ('other', 'def')]
    assert set(read(out)['DatasetLinks']) == {'raw', 'prep'}
    lines = (out / '.bidsignore').read_text().splitlines()
    assert 'mine.txt' in lines
    assert len(lines) == len(set(lines))
    assert (out / 'README.md').read_text() == 'mine\n'


@pytest.mark.parametrize(
    'description',
    [
        {'Name': 'Raw', 'BIDSVersion': '1.8.0'},
        {'Name': 'Raw', 'BIDSVersion': '1.8.0', 'DatasetType': 'raw'},
        {
            'Name': 'fMRIPrep',
            'BIDSVersion': '1.8.0',
            'DatasetType': 'derivative',
            'GeneratedBy': [{'Name': 'fMRIPrep'}],
        },
    ],
)
def test_somebody_elses_dataset_is_left_alone(tmp_path, raw, description):
    path = tmp_path / 'dataset_description.json'
    path.write_text(json.dumps(description))
    with pytest.raises(OutputError, match=r'dataset_description\.json') as caught:
        dataset.prepare_output(tmp_path, {'raw': raw}, Model())
    assert description['Name'] in caught.value.message
    assert json.loads(path.read_text()) == description
    assert not (tmp_path / '.bidsignore').exists()


@pytest.mark.parametrize('text', ['{"Name": ', '[1]'])
def test_a_damaged_description_is_named(tmp_path, text):
    (tmp_path / 'dataset_description.json').write_text(text)
    with pytest.raises(OutputError, match=r'dataset_description\.json'):
        dataset.check_output(tmp_path)


@pytest.mark.parametrize('text', ['', '{', '[]', '{"Name": "x'])
def test_our_own_damaged_description_is_written_again(tmp_path, raw, text):
    out = tmp_path / 'out'
    path = dataset.prepare_output(out, {'raw': raw}, Model())
    whole = path.read_bytes()
    (out / 'sub-01').mkdir()
    path.write_text(text)
    dataset.check_output(out)
    dataset.prepare_output(out, {'raw': raw}, Model())
    assert path.read_bytes() == whole
    path.write_text(text)
    (out / 'README.md').write_text('# Derivatives of another program\n')
    with pytest.raises(OutputError):
        dataset.check_output(out)


def test_an_empty_readme_is_written_again(tmp_path, raw):
    dataset.prepare_output(tmp_path, {'raw': raw})
    (tmp_path / 'README.md').write_text('')
    dataset.prepare_output(tmp_path, {'raw': raw})
    assert (tmp_path / 'README.md').read_text() == dataset.README


def test_subjects_of_unknown_origin_are_left_alone(tmp_path):
    (tmp_path / 'sub-01').mkdir()
    with pytest.raises(OutputError, match=r'dataset_description\.json'):
        dataset.check_output(tmp_path)


def test_subjects_of_a_folder_that_was_moved_get_a_description(tmp_path, raw):
    (tmp_path / 'out' / 'sub-01').mkdir(parents=True)
    dataset.describe_output(tmp_path / 'out', {'raw': raw}, Model())
    dataset.check_output(tmp_path / 'out')


def test_a_file_is_no_output_directory(tmp_path):
    (tmp_path / 'out').write_text('')
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / 'out'))):
        dataset.check_output(tmp_path / 'out')


def test_an_empty_or_missing_directory_is_fine(tmp_path):
    dataset.check_output(tmp_path)
    dataset.check_output(tmp_path / 'missing')


def test_a_dataset_far_away_without_doi_still_has_a_link():
    links = provenance.dataset_links('/a/b/c/out', {'raw': '/x/raw'}, {})
    assert links == {'raw': '../../../../x/raw'}


def test_nested_datasets_have_their_own_uris():
    roots = {'raw': '/d', 'prep': '/d/derivatives/prep'}
    out = '/d/derivatives/interp'
    assert provenance.bids_uri(out + '/sub-1/a.txt', out, roots) == 'bids::sub-1/a.txt'
    uri = provenance.bids_uri('/d/derivatives/prep/sub-1/b.nii', out, roots)
    assert uri == 'bids:prep:sub-1/b.nii'
    assert provenance.bids_uri('/d/sub-1/c.nii', out, roots) == 'bids:raw:sub-1/c.nii'
    with pytest.raises(ValueError, match=r'/e/c\.nii'):
        provenance.bids_uri('/e/c.nii', out, roots)


@pytest.mark.parametrize(
    ('environment', 'expected'),
    [
        ({}, None),
        ({'BIDS_INTERP_CONTAINER_TAG': 'x:1'}, {'Type': 'docker', 'Tag': 'x:1'}),
        (
            {'BIDS_INTERP_CONTAINER_TAG': 'x:1', 'container': 'podman'},
            {'Type': 'podman', 'Tag': 'x:1'},
        ),
        ({'SINGULARITY_NAME': '/images/x.sif'}, {'Type': 'singularity', 'Tag': 'x.sif'}),
    ],
)
def test_the_container_is_known_from_the_environment(environment, expected):
    assert provenance.container(environment) == expected


def test_the_container_is_recorded(tmp_path, raw, monkeypatch):
    monkeypatch.setenv('BIDS_INTERP_CONTAINER_TAG', 'x:1')
    dataset.prepare_output(tmp_path / 'out', {'raw': raw})
    assert read(tmp_path / 'out')['GeneratedBy'][0]['Container']['Tag'] == 'x:1'


def test_only_a_demonstration_says_that_it_is_one():
    note = provenance.model_fields(Model())['DemonstrationNote']
    assert note == provenance.DEMONSTRATION_NOTE
    fields = provenance.model_fields(Model(demonstration=False))
    assert fields == {'ModelName': 'toy', 'ModelHash': 'abc123', 'Demonstration': False}
