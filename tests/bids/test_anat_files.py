"""Datasets as people really have them: every image is found, or named with the reason."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bids_interp.bids.read.anat_files import (
    Ignored,
    anat_files,
    lesion_masks,
    list_subjects,
    suffix_of,
)
from bids_interp.bids.read.filters import filter_keys, load_filters
from bids_interp.bids.read.index import find, open_index
from bids_interp.bids.read.query import anat_records, collect
from bids_interp.bids.read.sessions import order_sessions
from bids_interp.bids.write.injected import inherited_sidecar
from bids_interp.errors import InputDatasetError, NothingToDoError
from bids_interp.group.scans import find_scans
from bids_interp.levels.preflight import excluded_outcomes, preflight
from bids_interp.models.bundle.choice import choose_bundle
from bids_interp.settings import Settings
from helpers import skeletons
from helpers.cohorts import write_scan

BUNDLE = SimpleNamespace(name='tiny', demonstration=True)


def dataset(root: Path, *names: str, **more: str) -> Path:
    """Empty images by name, and files by path below the root."""
    skeletons.make_dataset(root, *names, empty=True)
    for path, text in more.items():
        put(root / path, text)
    return root


def put(path: Path, text: str = '') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(root: Path, query: dict | None = None, **changes) -> list[str]:
    if query is not None:
        changes['bids_filter_file'] = put(root.with_name('filter.json'), json.dumps({'t1w': query}))
    return [r.path.name for r in collect(Settings(root, '/out', **changes)) if not r.problem]


PARTS = tuple(f'sub-01_part-{part}_T1w.nii' for part in ('imag', 'mag', 'phase', 'real'))


def test_only_magnitude_unless_a_filter_asks(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', *PARTS, 'sub-02_T1w.nii')
    assert names(root) == [PARTS[1], 'sub-02_T1w.nii']
    assert names(root, {'part': 'phase'}) == [PARTS[2]]
    assert names(root, {'part': '*'}) == list(PARTS)
    assert names(root, {'run': None}) == [PARTS[1], 'sub-02_T1w.nii']


def test_a_participant_without_magnitude_has_a_row(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_part-phase_T1w.nii', 'sub-02_T1w.nii')
    settings = Settings(root, '/out', skip_bids_validation=True)
    rows = {row.name: row for row in preflight(collect(settings), settings, BUNDLE)}
    assert set(rows) == {'sub-01', 'sub-02'}
    assert 'sub-01_part-phase_T1w.nii' in rows['sub-01'].problems[0]


UNI = 'sub-01_ses-a_UNIT1.nii.gz'
INVERSIONS = tuple(f'sub-01_ses-a_inv-{i}_MP2RAGE.nii.gz' for i in (1, 2))


def test_unit1_is_taken_where_a_session_has_no_t1w(tmp_path: Path) -> None:
    other = ('sub-01_ses-b_T1w.nii.gz', 'sub-01_ses-b_UNIT1.nii.gz')
    root = dataset(tmp_path / 'bids', UNI, *INVERSIONS, *other)
    assert names(root) == [UNI, other[0]]
    assert names(root, {'suffix': 'UNIT1'}) == [UNI, other[1]]
    assert names(root, {'suffix': 'MP2RAGE', 'inv': 2}) == [INVERSIONS[1]]
    with pytest.raises(NothingToDoError):
        names(root, {'inv': 2})
    (record,) = anat_records(Ignored(root), '01', {'suffix': 'UNIT1'})[:1]
    assert (record.suffix, record.prefix) == ('UNIT1', 'sub-01_ses-a')


@pytest.mark.parametrize('key', ['ses', 'acq', 'ce', 'rec', 'inv', 'mod', 'part', 'label', 'hemi'])
def test_every_entity_is_a_key_also_by_its_short_name(tmp_path: Path, key: str) -> None:
    path = put(tmp_path / 'filter.json', json.dumps({'t1w': {key: 'x'}}))
    assert load_filters(path) == {filter_keys()[key]: 'x'}


@pytest.mark.parametrize('entity', ['inv-1', 'mod-UNI', 'desc-a', 'flip-1', 'dir-AP', 'hemi-L'])
def test_advice_leads_to_a_filter_that_works(tmp_path: Path, entity: str) -> None:
    """Images with one output name are told apart by a filter of the entity that differs."""
    pair = (f'sub-01_{entity}_T1w.nii', 'sub-01_T1w.nii')
    root = dataset(tmp_path / 'bids', *pair)
    assert names(root) == []
    assert names(root, {entity.split('-')[0]: None}) == [pair[1]]
    assert names(root, {entity.split('-')[0]: '*'}) == [pair[0]]


def test_a_filter_of_the_session_may_have_its_prefix(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_ses-a_T1w.nii', 'sub-02_T1w.nii')
    assert names(root, {'ses': 'ses-a'}) == ['sub-01_ses-a_T1w.nii']
    assert names(root, {'ses': None}) == ['sub-02_T1w.nii']
    with pytest.raises(NothingToDoError):
        names(root, {'acq': 'x'})


def test_bidsignore_is_honoured(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / 'bids', 'sub-01_T1w.nii', 'sub-01_acq-motion_T1w.nii', 'sub-02_T1w.nii',
        'sub-03_T1w.nii', 'sub-03_run-1_T1w.nii', 'sub-04_acq-motion_T1w.nii',
    )  # fmt: skip
    put(root / '.bidsignore', '# bad\n*_acq-motion_*\n!sub-04_*\n/sub-02\nsub-03/**/*_run-*\n')
    assert names(root) == ['sub-01_T1w.nii', 'sub-03_T1w.nii', 'sub-04_acq-motion_T1w.nii']
    assert list_subjects(root) == ['01', '03', '04']
    settings = Settings(root, '/out', skip_bids_validation=True)
    assert len(preflight(collect(settings), settings, BUNDLE)) == 3
    with pytest.raises(NothingToDoError):
        collect(settings.replace(participant_label=('02',)))
    assert root / 'sub-02' in Ignored(root)
    (root / '.bidsignore').write_bytes(b'caf\xe9')
    with pytest.raises(InputDatasetError, match=r'\.bidsignore.*Latin-1'):
        collect(settings)


def test_hidden_twins_are_never_seen(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_T1w.nii', 'sub-02_T1w.nii')
    for path in (
        '._sub-01_T1w.nii',
        '.DS_Store',
        '._sub-01_T1w.json',
        '._sub-01_label-lesion_roi.nii',
    ):
        (root / 'sub-01' / 'anat' / path).write_bytes(b'\0\5\26\7Mac OS X\xff')
    for path in ('._sub-01', 'sub-01/._anat', '._participants.tsv', '._dataset_description.json'):
        (root / path).write_bytes(b'\0\5\26\7')
    assert names(root) == ['sub-01_T1w.nii', 'sub-02_T1w.nii']
    settings = Settings(root, '/out', bids_database_dir=tmp_path / 'index')
    assert [collect(settings), collect(settings)] == [collect(Settings(root, '/out'))] * 2
    assert names(root, {'suffix': '*'}) == ['sub-01_T1w.nii', 'sub-02_T1w.nii']
    assert lesion_masks(root / 'sub-01' / 'anat') == []
    (record, _) = collect(settings)
    put(root / 'sub-01' / 'anat' / 'sub-01_T1w.json', '{"a": 1}')
    assert inherited_sidecar(root, record) == {'a': 1}


def test_hidden_twins_of_derivatives_are_never_seen(tmp_path: Path) -> None:
    write_scan(tmp_path, '01')
    (path,) = tmp_path.glob('sub-01/anat/*_prediction.json')
    (path.parent / f'._{path.name}').write_bytes(b'\0\5\26\7')
    assert [scan.prefix for scan in find_scans(tmp_path)] == ['sub-01']
    for folder in ('mine', '.mine.tmp'):
        put(tmp_path / 'models' / folder / 'config.json', '{}')
    chosen = choose_bundle(Settings('/bids', tmp_path), {})
    assert chosen == tmp_path / 'models' / 'mine'


@pytest.mark.parametrize('label', ['', '0.2', '01_old', '0 2'])
def test_labels_that_bids_does_not_allow_have_a_row(tmp_path: Path, label: str) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    put(root / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz')
    for query in (None, {'run': None}):
        changes = (
            {}
            if query is None
            else {'bids_filter_file': put(tmp_path / 'f.json', json.dumps({'t1w': query}))}
        )
        settings = Settings(root, '/out', skip_bids_validation=True, **changes)
        rows = preflight(collect(settings), settings, BUNDLE)
        (row,) = [row for row in rows if row.record and row.record.subject == label]
        assert row.problems[0].startswith(str(root / f'sub-{label}'))
        assert len(excluded_outcomes([row])) == 1
        assert {row.name for row in rows} > {'sub-01'}


def test_a_session_that_bids_does_not_allow_has_a_row(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_ses-1_T1w.nii')
    for label in ('', '1.5'):
        put(root / 'sub-01' / f'ses-{label}' / 'anat' / f'sub-01_ses-{label}_T1w.nii')
    records = collect(Settings(root, '/out'))
    assert {r.session: bool(r.problem) for r in records} == {'': True, '1': False, '1.5': True}


def test_backups_do_not_refuse_the_good_scan(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz')
    anat = root / 'sub-01' / 'anat'
    for path in ('old/sub-01_T1w.nii.gz', 'sub-01_T1w_backup.nii.gz', 'sub-01_T1w (1).nii.gz'):
        put(anat / path)
    put(root / 'sub-01' / 'sourcedata' / 'sub-01_T1w.nii.gz')
    for query in (None, {'run': None}):
        assert names(root, query) == ['sub-01_T1w.nii.gz']
    assert suffix_of(anat / 'sub-01_T1w_backup.nii.gz') == 'backup'


def test_links_that_lead_upwards_are_not_followed(tmp_path: Path) -> None:
    root = dataset(tmp_path / 'bids', 'sub-01_ses-a_T1w.nii', 'sub-02_T1w.nii')
    subject = root / 'sub-01'
    links = {
        subject / 'UP2': '../..', subject / 'ses-a' / 'anat' / 'up': '../../..',
        subject / 'ses-up': '..', subject / 'ses-self': '.', subject / 'ses-a' / 'ses-a': '../..',
    }  # fmt: skip
    for link, target in links.items():
        link.symlink_to(target)
    (root / 'sub-03').symlink_to('../elsewhere/sub-03')
    put(tmp_path / 'elsewhere' / 'sub-03' / 'anat' / 'sub-03_T1w.nii')
    good = ['sub-01_ses-a_T1w.nii', 'sub-02_T1w.nii', 'sub-03_T1w.nii']
    started = time.monotonic()
    for query in (None, {'run': None}):
        assert names(root, query) == good
    assert [r.problem for r in collect(Settings(root, '/out'))] == ['', '', '']
    settings = Settings(root, '/out')
    assert all(len(path.parts) <= 4 for path in find(open_index(settings, []), {}))
    assert time.monotonic() - started < 20
    assert [path.name for path in anat_files(root, '01')] == good[:1]


@pytest.mark.parametrize(
    'mask',
    ['label-lesion_mask.nii.gz', 'label-lesion_roi.nii.gz', 'T1w_label-lesion_roi.nii', 'roi.nii'],
)
def test_lesion_masks_are_said_to_be_ignored(tmp_path: Path, mask: str) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii', 'sub-02_T1w.nii')
    put(root / 'sub-01' / 'anat' / f'sub-01_{mask}')
    put(root / 'sub-02' / 'anat' / 'sub-02_desc-brain_mask.nii')
    given = put(tmp_path / 'prep' / 'sub-02' / 'anat' / f'sub-02_{mask}')
    settings = Settings(root, '/out', skip_bids_validation=True)
    first, second = preflight(collect(settings), settings, BUNDLE)
    assert any(f'sub-01_{mask}' in note for note in first.notes)
    assert second.notes == ()
    settings = settings.replace(derivatives=(('prep', tmp_path / 'prep'),))
    _, second = preflight(collect(settings), settings, BUNDLE)
    assert any(str(given) in note for note in second.notes)


def test_scans_of_unit1_order_the_sessions(tmp_path: Path) -> None:
    for session, when in (('a', '2020-05-01T10:00:00'), ('b', '2019-05-01T10:00:00')):
        table = tmp_path / 'sub-01' / f'ses-{session}' / f'sub-01_ses-{session}_scans.tsv'
        put(table, f'filename\tacq_time\nanat/sub-01_ses-{session}_UNIT1.nii.gz\t{when}\n')
    assert order_sessions(tmp_path, '01', ['a', 'b']) == (['b', 'a'], True)
