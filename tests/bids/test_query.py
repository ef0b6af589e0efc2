"""Which images are found, and what is said where none is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bids_interp.bids.read.query import collect, missing_subjects
from bids_interp.errors import InputDatasetError, NothingToDoError, UsageError
from bids_interp.settings import Settings
from helpers import skeletons

NAMES = (
    'sub-01_ses-a_run-01_T1w.nii.gz',
    'sub-01_ses-a_run-02_T1w.nii.gz',
    'sub-01_ses-b_acq-mprage_T1w.nii.gz',
    'sub-02_T1w.nii',
    'sub-02_T2w.nii.gz',
    'sub-10_ce-gad_T1w.nii.gz',
)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = skeletons.make_dataset(tmp_path_factory.mktemp('bids'), *NAMES, empty=True)
    (root / 'sub-03' / 'func').mkdir(parents=True)
    (root / 'sub-03' / 'func' / 'sub-03_task-rest_bold.nii.gz').write_bytes(b'')
    hidden = root / 'derivatives' / 'other' / 'sub-02' / 'anat' / 'sub-02_run-9_T1w.nii.gz'
    hidden.parent.mkdir(parents=True)
    hidden.write_bytes(b'')
    return root


def found(dataset: Path, **changes) -> list[str]:
    return [record.prefix for record in collect(Settings(dataset, '/out', **changes))]


def write_filter(tmp_path: Path, content: object) -> Path:
    path = tmp_path / 'filter.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_image_on_its_own_with_all_its_entities(dataset: Path) -> None:
    records = collect(Settings(dataset, '/out'))
    assert [record.path.name for record in records] == [n for n in NAMES if 'T1w' in n]
    first = records[0]
    assert first.entities == {'sub': '01', 'ses': 'a', 'run': '01'}
    assert (first.subject, first.session) == ('01', 'a')
    assert first.dataset_key == 'Skeleton'
    assert records[3].session is None


def put(root: Path, *paths: str) -> Path:
    """Empty images at places of their own, which need not fit their names."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b'')
    return root


@pytest.mark.parametrize(
    ('paths', 'said'),
    [
        (
            ('sub-10/anat/sub-10_T1w.nii', 'sub-10/anat/sub-10_T1w.nii.gz'),
            r'/sub-10_T1w\.nii .*/sub-10_T1w\.nii\.gz .* sub-10\..*--bids-filter-file',
        ),
        (
            (
                'sub-12/anat/sub-12_desc-defaced_T1w.nii',
                'sub-12/anat/sub-12_T1w.nii',
                'sub-12/anat/sub-12_mod-T1w_T1w.nii',
            ),
            r'/sub-12_T1w\.nii, .* sub-12\..*--bids-filter-file',
        ),
        (
            ('sub-11/ses-1/anat/sub-11_T1w.nii', 'sub-11/ses-2/anat/sub-11_T1w.nii'),
            r' ses-([12]),.* ses-\1\.',
        ),
        (
            ('sub-CTRL-01/anat/sub-CTRL-01_T1w.nii', 'sub-CTRL-02/anat/sub-CTRL-02_T1w.nii'),
            ' CTRL-0[12] ',
        ),
        (
            ('sub-PD_01/anat/sub-PD_01_T1w.nii', 'sub-PD_02/anat/sub-PD_02_T1w.nii'),
            ' PD_0[12] ',
        ),
        (('sub-01.old/anat/sub-01_T1w.nii',), r' 01\.old '),
        (('sub-13/anat/sub-13_acq-my-own_T1w.nii',), ' my-own '),
        (('sub-14/anat/sub-01_T1w.nii',), r' sub-14,.* sub-14\.'),
        (('sub-01/ses-1/anat/sub-01_T1w.nii',), r' ses-1,.* ses-1\.'),
        (('sub-14/anat/T1w.nii',), r' sub-14,.* sub-14\.'),
    ],
)
def test_images_that_names_do_not_tell_apart(
    tmp_path: Path, paths: tuple[str, ...], said: str
) -> None:
    """They come with the reason, and nobody else is taken for one of them."""
    good = ('sub-01_T1w.nii', 'sub-01_ses-1_T1w.nii')
    root = put(skeletons.make_dataset(tmp_path, *good, empty=True), *paths)
    records = {str(r.path.relative_to(root)): r for r in collect(Settings(root, '/out'))}
    assert len(records) == len(good) + len(paths)
    refused = [records.pop(path) for path in paths]
    for record in refused:
        assert re.search(said, record.problem), record.problem
    assert {r.prefix: r.problem for r in records.values()} == {'sub-01': '', 'sub-01_ses-1': ''}
    assert not {r.prefix for r in refused} & {'sub-01', 'sub-01_ses-1'}
    # Tables of the dataset know participants by their folders.
    assert {f'sub-{r.subject}' for r in refused} == {path.split('/')[0] for path in paths}


def test_what_bids_allows_is_not_refused(dataset: Path, tmp_path: Path) -> None:
    names = (
        'sub-01_ses-1_task-rest_acq-a_ce-gad_rec-norm_run-1_echo-1_part-mag_chunk-1_T1w.nii.gz',
        'sub-01_ses-1_task-rest_acq-a_ce-gad_rec-norm_run-01_echo-1_part-mag_chunk-1_T1w.nii.gz',
        'sub-01_ses-1+2_desc-defaced_T1w.nii.gz',
        'sub-02_T1w.nii',
        'sub-02_T2w.nii.gz',
    )
    root = skeletons.make_dataset(tmp_path, *names, empty=True)
    for folder in (dataset, root):
        assert [r.problem for r in collect(Settings(folder, '/out')) if r.problem] == []


@pytest.mark.parametrize(
    ('query', 'other'),
    [
        ({'extension': '.nii'}, 'sub-10_T1w.nii.gz'),
        ({'desc': None}, 'sub-10_desc-defaced_T1w.nii'),
    ],
)
def test_a_filter_chooses_one_of_two_with_the_same_name(
    tmp_path: Path, query: dict, other: str
) -> None:
    root = skeletons.make_dataset(tmp_path, 'sub-10_T1w.nii', other, empty=True)
    path = write_filter(tmp_path, {'t1w': query})
    (record,) = collect(Settings(root, '/out', bids_filter_file=path))
    assert (record.path.name, record.problem) == ('sub-10_T1w.nii', '')


def test_only_requested_subjects_are_indexed(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bids.layout

    layouts = []
    original = bids.layout.BIDSLayout

    def spy(*args, **kwargs):
        layouts.append(original(*args, **kwargs))
        return layouts[-1]

    monkeypatch.setattr(bids.layout, 'BIDSLayout', spy)
    path = write_filter(tmp_path, {'t1w': {'run': None}})
    chosen = {'bids_filter_file': path, 'participant_label': ('sub-02',)}
    assert found(dataset, **chosen) == ['sub-02']
    assert layouts[0].get_subjects() == ['02']
    # A label that starts like another is another.
    assert found(dataset, participant_label=('1', '10')) == ['sub-10_ce-gad']


def test_sessions(dataset: Path) -> None:
    assert found(dataset, session_label=('ses-b',)) == ['sub-01_ses-b_acq-mprage']
    with pytest.raises(NothingToDoError, match=r'\bc\b.*\ba, b\b'):
        collect(Settings(dataset, '/out', session_label=('c',)))


@pytest.mark.parametrize(
    ('query', 'expected'),
    [
        ({'acquisition': 'mprage'}, ['sub-01_ses-b_acq-mprage']),
        ({'run': 2}, ['sub-01_ses-a_run-02']),
        ({'session': None}, ['sub-02', 'sub-10_ce-gad']),
        ({'ceagent': '*'}, ['sub-10_ce-gad']),
        ({'session': ['a', 'b'], 'run': None}, ['sub-01_ses-b_acq-mprage']),
        ({'subject': 'sub-02'}, ['sub-02']),
    ],
)
def test_filters(dataset: Path, tmp_path: Path, query: dict, expected: list[str]) -> None:
    path = write_filter(tmp_path, {'t1w': query, 'bold': {'task': 'rest'}})
    assert found(dataset, bids_filter_file=path) == expected


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ({'t1w': {'aquisition': 'mprage'}}, 'acquisition'),
        ({'t1': {'run': 1}}, "'t1'"),
        ({'t1w': 'mprage'}, r'filter\.json.*\{"t1w": \{'),
        ([1], r'filter\.json.*\{"t1w": \{'),
        ('{', r'filter\.json.*line 1 column 2'),
    ],
)
def test_wrong_filters(dataset: Path, tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        collect(Settings(dataset, '/out', bids_filter_file=write_filter(tmp_path, content)))


def test_a_filter_that_matches_nothing(dataset: Path, tmp_path: Path) -> None:
    path = write_filter(tmp_path, {'t1w': {'acquisition': 'none'}})
    with pytest.raises(NothingToDoError, match=r'"none".*filter\.json.*\b5\b') as caught:
        collect(Settings(dataset, '/out', bids_filter_file=path))
    assert caught.value.exit_code == 3


def test_unknown_participants_are_named_with_the_known(dataset: Path) -> None:
    with pytest.raises(NothingToDoError, match='98, 99.*01, 02, 03, 10'):
        collect(Settings(dataset, '/out', participant_label=('98', '99')))
    some = Settings(dataset, '/out', participant_label=('02', '99'))
    assert [record.prefix for record in collect(some)] == ['sub-02']
    assert missing_subjects(some) == ['99']
    with pytest.raises(UsageError, match=r'\b99\b'):
        collect(some.replace(fail_on_missing=True))


def test_a_participant_without_t1w(dataset: Path) -> None:
    with pytest.raises(InputDatasetError, match='sub-03'):
        collect(Settings(dataset, '/out', participant_label=('03',)))


def test_not_a_dataset(tmp_path: Path) -> None:
    for make, said in (
        (lambda: tmp_path / 'nowhere', 'nowhere'),
        (lambda: tmp_path, r'dataset_description\.json'),
    ):
        with pytest.raises(InputDatasetError, match=said) as caught:
            collect(Settings(make(), '/out'))
        assert caught.value.exit_code == 4
    root = skeletons.make_dataset(tmp_path / 'bids')
    with pytest.raises(InputDatasetError, match=re.escape(str(root))) as caught:
        collect(Settings(root, '/out'))
    assert 'sub-<label>' in caught.value.message
    for text, said in (('{', 'line 1 column 2'), ('[]', 'JSON'), ('{"BIDSVersion": "1"}', 'Name')):
        (root / 'dataset_description.json').write_text(text)
        with pytest.raises(InputDatasetError, match=said):
            collect(Settings(root, '/out'))


def test_the_doi_is_the_key(tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path, 'sub-01_T1w.nii.gz', empty=True)
    description = {'Name': 'x', 'BIDSVersion': '1.10.0', 'DatasetDOI': 'doi:10.1/y'}
    (root / 'dataset_description.json').write_text(json.dumps(description))
    assert collect(Settings(root, '/out'))[0].dataset_key == 'doi:10.1/y'


def test_a_kept_index_notices_changes(tmp_path: Path) -> None:
    root = skeletons.make_dataset(tmp_path / 'bids', 'sub-01_T1w.nii.gz', empty=True)
    other = skeletons.make_dataset(tmp_path / 'other', 'sub-07_T1w.nii.gz', empty=True)
    database = tmp_path / 'index'
    assert found(root, bids_database_dir=database) == ['sub-01']
    assert any(database.iterdir())
    skeletons.make_dataset(root, 'sub-02_T1w.nii.gz', empty=True)
    assert found(root, bids_database_dir=database, participant_label=('02',)) == ['sub-02']
    assert found(root, bids_database_dir=database) == ['sub-01', 'sub-02']
    assert found(other, bids_database_dir=database) == ['sub-07']


def test_a_kept_index_without_desc_is_made_anew(tmp_path: Path) -> None:
    from bids.layout import BIDSLayout

    names = ('sub-01_T1w.nii', 'sub-01_desc-defaced_T1w.nii')
    root = skeletons.make_dataset(tmp_path / 'bids', *names, empty=True)
    BIDSLayout(root, validate=False, database_path=tmp_path / 'index')
    path = write_filter(tmp_path, {'t1w': {'desc': 'defaced'}})
    settings = Settings(root, '/out', bids_database_dir=tmp_path / 'index', bids_filter_file=path)
    assert [record.path.name for record in collect(settings)] == [names[1]]


def prepared(folder: Path, *names: str) -> Path:
    for name in names:
        parts = name.split('_')
        anat = folder / parts[0] / (parts[1] if parts[1].startswith('ses-') else '') / 'anat'
        anat.mkdir(parents=True, exist_ok=True)
        (anat / name).write_bytes(b'')
    return folder


def test_precomputed_images_belong_to_one_image_only(dataset: Path, tmp_path: Path) -> None:
    folder = prepared(
        tmp_path / 'prep',
        'sub-02_desc-preproc_T1w.nii.gz',
        'sub-02_desc-brain_mask.nii.gz',
        'sub-02_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz',
        'sub-01_ses-a_run-01_desc-brain_mask.nii.gz',
        'sub-01_ses-b_desc-preproc_T1w.nii.gz',  # drops acq-, but there is only one image
        'sub-01_ses-a_desc-preproc_T1w.nii.gz',  # an average of two runs
        'sub-01_desc-brain_mask.nii.gz',  # an average of three images
    )
    by_name = {
        record.prefix: record
        for record in collect(Settings(dataset, '/out', derivatives=(('prep', folder),)))
    }
    second = by_name['sub-02']
    assert second.derivative_t1w == folder / 'sub-02/anat/sub-02_desc-preproc_T1w.nii.gz'
    assert second.derivative_mask == folder / 'sub-02/anat/sub-02_desc-brain_mask.nii.gz'
    run_1, run_2 = by_name['sub-01_ses-a_run-01'], by_name['sub-01_ses-a_run-02']
    assert run_1.derivative_t1w is None
    assert run_1.derivative_mask.name == 'sub-01_ses-a_run-01_desc-brain_mask.nii.gz'
    assert (run_2.derivative_t1w, run_2.derivative_mask) == (None, None)
    assert by_name['sub-01_ses-b_acq-mprage'].derivative_t1w is not None
    assert by_name['sub-10_ce-gad'].derivative_mask is None


def test_the_first_folder_with_files_wins(dataset: Path, tmp_path: Path) -> None:
    first = prepared(tmp_path / 'first', 'sub-02_desc-brain_mask.nii.gz')
    second = prepared(
        tmp_path / 'second', 'sub-02_desc-brain_mask.nii.gz', 'sub-10_ce-gad_desc-brain_mask.nii'
    )
    records = collect(
        Settings(dataset, '/out', derivatives=(('a', first), ('b', second)),
                 participant_label=('02', '10'))
    )  # fmt: skip
    assert [record.derivative_mask.parents[2].name for record in records] == ['first', 'second']


def test_a_missing_derivatives_folder(dataset: Path) -> None:
    with pytest.raises(UsageError, match='prep=/nowhere'):
        collect(Settings(dataset, '/out', derivatives=(('prep', '/nowhere'),)))


def test_other_images_are_no_rivals_if_a_filter_names_the_suffix(tmp_path: Path) -> None:
    names = ['sub-01_T1w.nii', 'sub-01_T2w.nii', 'sub-01_FLAIR.nii']
    bids = skeletons.make_dataset(tmp_path / 'bids', *names)
    tool = tmp_path / 'tool'
    anat = tool / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    (tool / 'dataset_description.json').write_text('{"Name": "t", "BIDSVersion": "1.9.0"}')
    for name in ('sub-01_desc-preproc_T1w.nii', 'sub-01_desc-brain_mask.nii'):
        (anat / name).write_bytes(b'')
    query = tmp_path / 'filter.json'
    query.write_text('{"t1w": {"datatype": "anat", "suffix": "T1w"}}')
    plain = Settings(bids, tmp_path / 'out', derivatives=(('tool', tool),))
    for settings in (plain, plain.replace(bids_filter_file=query)):
        (record,) = collect(settings)
        assert record.derivative_t1w == anat / 'sub-01_desc-preproc_T1w.nii'
